//! Two servers of one ledger: the owner dies between raising and what follows, the other one goes on.

use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::system::{DEADLINE, System};

use super::deeds::{Patient, Told, each_once};
use super::doings;
use super::receiving::Receivers;
use super::watching::{Follower, Subscriber, stream};

/// Where owners die, one after the other.
const PLACES: [&str; 6] = [
    "alert_raised:2",
    "outbox_emptied:1",
    "alert_raised:1",
    "delivery_attempted:3",
    "outbox_emptied:3",
    "delivery_settled:2",
];

const FAULT: &str = "TOLLBOOK_FAULT";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r7_3_what_a_dead_owner_left_is_raised_once_by_the_next() {
    let nats = NatsServer::start().await;
    let receivers = Receivers::start().await;
    let builder = receivers.configure(System::builder().nats(&nats));
    let mut places = PLACES.into_iter();
    let mut start = || builder.clone().env(FAULT, places.next().unwrap());
    let mut systems = [start().start().await, start().start_standby().await];
    let client = Patient::new(systems.iter().map(|system| &system.api), receivers.hooks());
    let follower = Follower::start(&client);
    client.prepare().await;
    let mut subscriber = Subscriber::start(&client, &nats).await;
    let (mut told, mut deaths) = (Vec::<Told>::new(), 0);
    for round in 0..3 {
        let doing = doings(&client, round);
        loop {
            let died = eventually(DEADLINE, "everything is done", || {
                let died = systems.iter_mut().position(System::has_ended);
                let done = doing.iter().all(tokio::task::JoinHandle::is_finished);
                std::future::ready((done || died.is_some()).then_some(died))
            });
            let Some(died) = died.await else { break };
            deaths += 1;
            systems[died].restart_to_die(places.next()).await;
        }
        for done in doing {
            told.push(done.await.unwrap());
        }
    }
    let expected = 1 + told.iter().flat_map(|told| told.expected.values()).sum::<usize>();
    let read = follower.counter();
    loop {
        let died = eventually(DEADLINE, "everything is raised", || {
            let died = systems.iter_mut().position(System::has_ended);
            std::future::ready((read() >= expected || died.is_some()).then_some(died))
        });
        let Some(died) = died.await else { break };
        deaths += 1;
        systems[died].restart_to_die(None).await;
    }
    println!("{deaths} owners died, {expected} alerts");
    assert!(deaths > 1, "owners died");
    let raised = stream(&nats).await;
    each_once(raised.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>().iter());
    assert_eq!((raised.len(), &raised), (expected, &follower.read()));
    subscriber.has_each_once(&raised).await;
    receivers.have_all(&client, &told).await;
}
