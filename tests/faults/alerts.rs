//! Alerts on their way out, the process dying at every step: in the feed each stands exactly once.

mod deeds;
mod watching;

use std::collections::BTreeMap;
use std::fs;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tollbook_engine::clock::Stopwatch;
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::system::{DEADLINE, System, SystemBuilder};

use self::deeds::{Alerts, Patient, Told, each_once};
use self::watching::{Follower, Subscriber, stream};

/// Deaths of one run; `TOLLBOOK_KILLS` says otherwise.
fn kills() -> usize {
    let said = std::env::var_os("TOLLBOOK_KILLS").and_then(|text| text.to_str()?.parse().ok());
    said.unwrap_or(STEPS.len() + 2)
}

/// Places to die at, and the last time there that may be it: often enough reached in one round.
const STEPS: [(&str, u32); 4] =
    [("applied", 30), ("view_written", 30), ("alert_raised", 6), ("outbox_emptied", 6)];

/// Organizations that things happen to at once.
const AT_ONCE: usize = 3;

/// How the process dies in a round.
#[derive(Clone, Debug)]
enum Death {
    /// At a place.
    At(String),
    /// By SIGKILL, after so many looks at it.
    Killed(u32),
    /// By SIGKILL, and its views are gone.
    WithItsViews(u32),
}

impl Death {
    /// Each way in turn, at a moment that is different each time.
    fn of(round: usize, random: &mut StdRng) -> Self {
        let ways = STEPS.len() + 2;
        match STEPS.get(round % ways) {
            Some((place, most)) => Self::At(format!("{place}:{}", random.random_range(1..=*most))),
            None if round % ways == STEPS.len() => Self::Killed(random.random_range(1..120)),
            None => Self::WithItsViews(random.random_range(1..120)),
        }
    }

    fn place(&self) -> Option<&str> {
        match self {
            Self::At(place) => Some(place),
            Self::Killed(_) | Self::WithItsViews(_) => None,
        }
    }

    const fn looks(&self) -> Option<u32> {
        match self {
            Self::At(_) => None,
            Self::Killed(looks) | Self::WithItsViews(looks) => Some(*looks),
        }
    }

    fn way(&self) -> &str {
        match self {
            Self::At(place) => place.split(':').next().unwrap(),
            Self::Killed(_) => "killed",
            Self::WithItsViews(_) => "killed and views deleted",
        }
    }
}

/// A server that dies, and whoever listens to it meanwhile.
struct Scene {
    system: System,
    client: Patient,
    follower: Follower,
    told: Vec<Told>,
    /// Whether it died in this round.
    died: bool,
    /// How often it died, by way.
    deaths: BTreeMap<String, usize>,
}

impl Scene {
    async fn start(builder: SystemBuilder) -> Self {
        let system = builder.start().await;
        let client = Patient::new([&system.api]);
        let follower = Follower::start(&client);
        client.prepare().await;
        Self { system, client, follower, told: Vec::new(), died: false, deaths: BTreeMap::new() }
    }

    /// Waits until `done`, and starts the server again each time that it has died before.
    async fn until(&mut self, what: &str, mut done: impl FnMut(&mut System) -> bool) {
        loop {
            let system = &mut self.system;
            let died = eventually(DEADLINE, what, || {
                let done = done(system);
                let died = system.has_ended();
                std::future::ready((done || died).then_some(died))
            });
            if !died.await {
                return;
            }
            self.died = true;
            self.system.restart_to_die(None).await;
        }
    }

    /// One life of the server, in which things happen and it dies, and one in which they are finished.
    async fn round(&mut self, number: usize, death: Death) {
        self.died = false;
        self.system.restart_to_die(death.place()).await;
        let doing = (0..AT_ONCE).map(|organization| {
            let (client, name) = (self.client.clone(), format!("org-{number}-{organization}"));
            tokio::spawn(async move { client.do_everything(&name).await })
        });
        let doing: Vec<_> = doing.collect();
        let mut looks = death.looks();
        self.until("a round is over", |system| {
            looks = looks.and_then(|left| left.checked_sub(1));
            if looks == Some(0) {
                system.kill();
                if matches!(death, Death::WithItsViews(_)) {
                    fs::remove_dir_all(system.data().join("views")).unwrap();
                }
            }
            doing.iter().all(tokio::task::JoinHandle::is_finished)
        })
        .await;
        for done in doing {
            self.told.push(done.await.unwrap());
        }
        self.raised().await;
        *self.deaths.entry(death.way().to_owned()).or_default() += usize::from(self.died);
    }

    /// Waits until the feed has as much as it must.
    async fn raised(&mut self) -> Vec<Value> {
        // What the platform was told of, which belongs to nobody, and what the organizations were.
        let count = 1 + self.told.iter().flat_map(|told| told.expected.values()).sum::<usize>();
        let read = self.follower.counter();
        self.until(&format!("{count} alerts are raised"), |_| read() >= count).await;
        let read = self.follower.read();
        assert_eq!(read.len(), count, "no more than must be");
        read
    }

    /// Every organization's alerts, as its view has them; as many as must be.
    async fn expected(&self) -> Alerts {
        let mut all = Alerts::new();
        for told in &self.told {
            let alerts = self.client.alerts(&told.organization).await;
            assert_eq!(deeds::counted(&alerts), told.expected, "{}", told.organization);
            all.extend(alerts);
        }
        all
    }

    /// The feed has every alert that must be, and once. How many those are.
    async fn check(&mut self) -> usize {
        let read = self.raised().await;
        let expected = self.expected().await;
        let ids: Vec<String> = read.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
        let mut ids = each_once(&ids);
        let strays = read.iter().filter(|event| event["subject"] == "_operator");
        let strays: Vec<&str> = strays.map(|event| event["id"].as_str().unwrap()).collect();
        assert_eq!(strays.len(), 1, "{strays:?}");
        ids.remove(strays[0]);
        assert!(ids.iter().eq(expected.keys()), "the feed has what the lists have");
        // From its beginning it says what it said when it was new.
        let mut again = Vec::new();
        loop {
            let page = self.client.feed(u64::try_from(again.len()).unwrap()).await;
            if page.is_empty() {
                break;
            }
            again.extend(page.into_iter().map(|mut item| item["event"].take()));
        }
        assert_eq!(again, read, "the feed is what it was");
        read.len()
    }

    /// Stops, takes other views, and starts again: nothing is raised twice.
    async fn start_again_with(&mut self, views: impl AsyncFnOnce(&System)) {
        let before = self.follower.count();
        self.system.terminate().await;
        views(&self.system).await;
        self.system.restart_to_die(None).await;
        self.system.ready().await;
        let api = self.system.api.clone();
        eventually(DEADLINE, "the outbox is empty", || async {
            let rows = api.metric("tollbook_alert_outbox_rows{partition=\"0\"}").await;
            (rows == Some(0)).then_some(())
        })
        .await;
        self.check().await;
        assert_eq!(self.follower.count(), before);
    }
}

async fn every_alert_is_raised_once(builder: SystemBuilder, nats: Option<&NatsServer>) {
    let seed: u64 = rand::rng().random();
    println!("seed={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut scene = Scene::start(builder).await;
    let mut subscriber = match nats {
        Some(nats) => Some(Subscriber::start(&scene.client, nats).await),
        None => None,
    };
    let watch = Stopwatch::start();
    for round in 0..kills() {
        let death = Death::of(round, &mut random);
        scene.round(round, death).await;
    }
    let alerts = scene.check().await;
    println!("{alerts} alerts through {} rounds in {:?}; died: {:?}", kills(), watch.elapsed(), scene.deaths);
    scene
        .start_again_with(async |system: &System| {
            fs::remove_dir_all(system.data().join("views")).unwrap();
        })
        .await;
    if let (Some(subscriber), Some(nats)) = (&mut subscriber, nats) {
        let read = scene.follower.read();
        assert_eq!(stream(nats).await, read, "the stream is what the feed is");
        subscriber.has_each_once(&read).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r7_3_alerts_are_raised_once_wherever_the_server_dies() {
    every_alert_is_raised_once(System::builder(), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r7_3_alerts_are_raised_once_wherever_the_server_dies_on_jetstream() {
    let nats = NatsServer::start().await;
    every_alert_is_raised_once(System::builder().nats(&nats), Some(&nats)).await;
}
