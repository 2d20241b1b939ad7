//! The budget lag over real HTTP, second by second on a simulated clock: when a budget was crossed, when enforcement learned
//! of it, when it refused first, and what that cost (R6.3, R6.5, INV-14, INV-15). Beside it a list of all usage and closes.

use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use tollbook_engine::admission::Ask;
use tollbook_schemas::id::ModelName;
use tollbook_schemas::policy::Meters;
use tollbook_schemas::time::Timestamp;
use tollbook_tests::eventually;
use tollbook_tests::system::{Answer, Api, DEADLINE, Key, Timed};

use super::admission::{MODEL, ask, customer, lease, usage};

/// Ten-thousandths of a dollar, which is a hundred tokens.
type Units = u64;

/// What one request of the walk costs: 0.1033.
const COST: Units = 1_033;
/// Reached by the 36th of them, and passed by 0.0188.
const LIMIT: Units = 37_000;
/// A request every so many seconds, from five past ten on.
const EVERY: i64 = 5;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn text(at: Timestamp) -> String {
    at.to_string()
}

fn money(units: Units) -> String {
    let text = format!("{}.{:04}", units / 10_000, units % 10_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn path(key: &Key, rest: &str) -> String {
    format!("/v1/organizations/{}/projects/{}/{rest}", key.organization, key.project)
}

async fn set(api: &Api, key: &Key, budgets: Value) {
    api.put(&path(key, "budgets"), &budgets).await.expect(200);
}

async fn lag(api: &Api, cycle_seconds: u32, delay_seconds: u32) {
    let body = json!({ "cycle_seconds": cycle_seconds, "delay_seconds": delay_seconds });
    api.put("/v1/config/billing-cycle", &body).await.expect(200);
}

/// Limits that nobody reaches.
async fn generous(api: &Api, key: &Key) {
    let body = json!({ "concurrency": 1_000_000, "rpm": 1_000_000, "tpm": 1_000_000_000_000_u64 });
    let path = format!("/v1/organizations/{}/limits/override", key.organization);
    api.post(&path, &body).await.expect(200);
}

async fn daily(api: &Api, key: &Key) -> Value {
    api.get(&path(key, "budgets")).await.expect(200)["daily"].take()
}

/// A list of everything, and what follows from it.
#[derive(Debug, Default)]
struct Naive {
    cycle: i64,
    delay: i64,
    /// What is settled, and what waits.
    settled: Units,
    pending: Units,
    crossed_at: Option<Timestamp>,
    visible_at: Option<Timestamp>,
    spent_when_visible: Units,
    first_refused_at: Option<Timestamp>,
    requests: u32,
}

impl Naive {
    fn spent(&self) -> Units {
        self.settled + self.pending
    }

    fn settle(&mut self, now: Timestamp) {
        self.settled += std::mem::take(&mut self.pending);
        if self.settled >= LIMIT && self.visible_at.is_none() {
            self.visible_at = Some(now.plus_seconds(self.delay));
            self.spent_when_visible = self.settled;
        }
    }

    fn use_some(&mut self, units: Units, now: Timestamp) {
        self.pending += units;
        if self.spent() >= LIMIT {
            self.crossed_at.get_or_insert(now);
        }
        // What comes before it shows was spent by then.
        if self.visible_at.is_some_and(|visible| now < visible) {
            self.spent_when_visible = self.spent();
        }
        if self.cycle == 0 {
            self.settle(now);
        }
    }

    fn refuses(&self, now: Timestamp) -> bool {
        self.visible_at.is_some_and(|visible| visible <= now)
    }

    fn breach(&self) -> Value {
        json!({
            "limit": money(LIMIT),
            "crossed_at": self.crossed_at.map(text),
            "visible_at": self.visible_at.map(text),
            "spent_when_visible": self.visible_at.map(|_| money(self.spent_when_visible)),
            "first_refused_at": self.first_refused_at.map(text),
            "spent": money(self.spent()),
            "overshoot": money(self.spent() - LIMIT),
        })
    }
}

/// A server, a customer with a budget, and the list.
struct Walk {
    timed: Timed,
    key: Key,
    naive: Naive,
}

impl Walk {
    async fn start(cycle: i64, delay: i64) -> Self {
        let timed = Timed::start("2026-11-20T09:59:00Z").await;
        let key = customer(&timed.api, "1000").await;
        generous(&timed.api, &key).await;
        lag(&timed.api, u32::try_from(cycle).unwrap(), u32::try_from(delay).unwrap()).await;
        set(&timed.api, &key, json!({ "daily": money(LIMIT), "monthly": null })).await;
        Self { timed, key, naive: Naive { cycle, delay, ..Naive::default() } }
    }

    fn is_boundary(&self, now: Timestamp) -> bool {
        self.naive.cycle > 0 && now.seconds() % self.naive.cycle == 0
    }

    /// Waits for the close that is due, which is recorded now.
    async fn closed(&mut self) {
        let (api, key, now) = (&self.timed.api, &self.key, self.timed.now());
        eventually(DEADLINE, "the cycle is closed", || async {
            let cycle = &api.get(&path(key, "budgets")).await.expect(200)["cycle"];
            (cycle["last_closed_at"] == now.to_string()).then_some(())
        })
        .await;
        self.naive.settle(now);
    }

    /// Second after second: requests as they come, and after each second everything is compared.
    async fn until(&mut self, end: &str) {
        while self.timed.now() < at(end) {
            let now = self.timed.now().plus_seconds(1);
            self.timed.clock.advance_to(now);
            if self.is_boundary(now) {
                self.closed().await;
            } else if now.seconds() % EVERY == 0 && now >= at("2026-11-20T10:00:05Z") {
                self.request(now).await;
            }
            self.compare().await;
        }
    }

    async fn request(&mut self, now: Timestamp) {
        let answer = ask(&self.timed.api, &self.key, COST * 100).await;
        if self.naive.refuses(now) {
            self.naive.first_refused_at.get_or_insert(now);
            let error = answer.expect(429)["error"].take();
            assert_eq!(error["code"], "project_daily_budget", "{now}");
            let metadata = &error["metadata"];
            assert_eq!(
                [&metadata["limit"], &metadata["current"], &metadata["resets_at"]],
                [&json!(money(LIMIT)), &json!(money(self.naive.settled)), &json!("2026-11-21T00:00:00Z")]
            );
        } else {
            self.use_some(&json!({ "lease": lease(&answer) }), now).await;
        }
    }

    async fn use_some(&mut self, settles: &Value, now: Timestamp) {
        self.naive.requests += 1;
        let id = format!("r{}", self.naive.requests);
        self.timed.api.events(&[usage(&self.key, &id, COST * 100, settles)]).await;
        self.timed.api.folded().await;
        self.naive.use_some(COST, now);
    }

    async fn compare(&self) {
        let (naive, now) = (&self.naive, self.timed.now());
        let found = daily(&self.timed.api, &self.key).await;
        let state = if naive.refuses(now) { "blocked" } else { "open" };
        let expected = json!([money(LIMIT), money(naive.settled), money(naive.pending), state]);
        assert_eq!(
            json!([found["limit"], found["settled"], found["pending"], found["state"]]),
            expected,
            "{now}"
        );
        let breaches = found["breaches"].as_array().unwrap();
        assert_eq!(breaches.len(), usize::from(naive.crossed_at.is_some()), "{now}");
    }

    /// The breach, once its first refusal is written down.
    async fn breach(&self) -> Value {
        let expected = self.naive.breach();
        eventually(DEADLINE, "the breach says when it refused first", || async {
            let mut found = daily(&self.timed.api, &self.key).await["breaches"][0].take();
            let noted = found["first_refused_at"] == expected["first_refused_at"];
            noted.then(|| {
                let fields = expected.as_object().unwrap().keys();
                let shown: serde_json::Map<_, _> =
                    fields.map(|name| (name.clone(), found[name].take())).collect();
                Value::Object(shown)
            })
        })
        .await
    }

    #[track_caller]
    fn is(&self, found: &Value, instants: [&str; 3], figures: [&str; 3]) {
        assert_eq!(found, &self.naive.breach());
        let names = ["crossed_at", "visible_at", "first_refused_at"];
        assert_eq!(names.map(|name| &found[name]), instants);
        assert_eq!(["spent_when_visible", "spent", "overshoot"].map(|name| &found[name]), figures);
    }

    /// The day ends: the breach is over, and its figures stay.
    async fn end(mut self, figures: [&str; 2]) {
        self.timed.until("2026-11-20T23:59:59.999Z");
        let refused = ask(&self.timed.api, &self.key, 1).await.expect(429);
        assert_eq!(refused["error"]["code"], "project_daily_budget");
        self.timed.until("2026-11-21T00:00:00Z");
        let id = lease(&ask(&self.timed.api, &self.key, 1).await);
        // A cycle of its own ends at midnight too; without cycles the next usage ends the day before.
        self.timed.api.events(&[usage(&self.key, "next", 100, &json!({ "lease": id }))]).await;
        let (api, key) = (&self.timed.api, &self.key);
        let ended = || async {
            let list = api.get(&path(key, "breaches")).await.expect(200);
            let breach = list["items"][0].clone();
            (breach["ended"] == "period_over").then_some(breach)
        };
        let breach = eventually(DEADLINE, "the breach is over", ended).await;
        assert_eq!(["spent", "overshoot"].map(|name| &breach[name]), figures);
        assert_eq!(breach["ended_at"], "2026-11-21T00:00:00Z");
        assert_eq!(breach["first_refused_at"], json!(self.naive.first_refused_at.map(text)));
        // The same log says the same.
        self.timed.rebuild_views().await;
        let (api, key) = (&self.timed.api, &self.key);
        assert_eq!(api.get(&path(key, "breaches")).await.expect(200)["items"][0], breach);
    }
}

#[tokio::test]
async fn r6_3_crossed_at_10_03_visible_at_10_10_and_refused_5_seconds_later() {
    let mut walk = Walk::start(600, 0).await;
    walk.until("2026-11-20T10:02:59Z").await;
    assert_eq!(walk.naive.crossed_at, None);
    walk.until("2026-11-20T10:10:20Z").await;
    let breach = walk.breach().await;
    // 119 requests by 10:09:55.
    let instants = ["2026-11-20T10:03:00Z", "2026-11-20T10:10:00Z", "2026-11-20T10:10:05Z"];
    walk.is(&breach, instants, ["12.2927", "12.2927", "8.5927"]);
    walk.end(["12.2927", "8.5927"]).await;
}

#[tokio::test]
async fn r6_3_the_same_with_the_engine_down_from_10_05_to_10_31() {
    let mut walk = Walk::start(600, 0).await;
    walk.until("2026-11-20T10:04:56Z").await;
    // A request of before is over when the engine is down; its usage comes when it is back.
    let open = lease(&ask(&walk.timed.api, &walk.key, COST * 100).await);
    walk.until("2026-11-20T10:05:00Z").await;
    walk.timed.stop().await;
    walk.timed.until("2026-11-20T10:31:00Z");
    walk.timed.go_on().await;
    // Closes that were missed are recorded when the engine is back: one for all of them.
    walk.closed().await;
    walk.compare().await;
    walk.until("2026-11-20T10:31:02Z").await;
    let now = walk.timed.now();
    walk.use_some(&json!({ "lease": open }), now).await;
    walk.until("2026-11-20T10:40:06Z").await;
    let breach = walk.breach().await;
    let instants = ["2026-11-20T10:03:00Z", "2026-11-20T10:31:00Z", "2026-11-20T10:31:05Z"];
    // 60 requests by 10:05:00, and one that came late.
    walk.is(&breach, instants, ["6.198", "6.3013", "2.6013"]);
    walk.end(["6.3013", "2.6013"]).await;
}

#[tokio::test]
async fn r6_3_the_same_without_cycles() {
    let mut walk = Walk::start(0, 0).await;
    walk.until("2026-11-20T10:03:20Z").await;
    let breach = walk.breach().await;
    let instants = ["2026-11-20T10:03:00Z", "2026-11-20T10:03:00Z", "2026-11-20T10:03:05Z"];
    walk.is(&breach, instants, ["3.7188", "3.7188", "0.0188"]);
    walk.end(["3.7188", "0.0188"]).await;
}

#[tokio::test]
async fn r6_3_the_same_with_a_delay_of_90_seconds() {
    let mut walk = Walk::start(600, 90).await;
    walk.until("2026-11-20T10:11:40Z").await;
    let breach = walk.breach().await;
    // It begins to refuse by itself, to the instant.
    let instants = ["2026-11-20T10:03:00Z", "2026-11-20T10:11:30Z", "2026-11-20T10:11:30Z"];
    walk.is(&breach, instants, ["14.0488", "14.0488", "10.3488"]);
    walk.end(["14.0488", "10.3488"]).await;
}

/// Asks for so many requests of a tenth of a dollar at once, over a connection each.
async fn at_once(api: &Api, key: &Key, requests: usize) -> Vec<Answer> {
    let clients: Vec<_> = (0..requests).map(|_| api.reconnected()).collect();
    let asked = clients.iter().map(|client| ask(client, key, 100_000));
    stream::iter(asked).buffer_unordered(requests).collect().await
}

/// The leases of those that passed; all others were refused by the daily budget.
#[track_caller]
fn passed(answers: &[Answer]) -> Vec<String> {
    let (passed, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    for answer in refused {
        assert_eq!(answer.expect(429)["error"]["code"], "project_daily_budget");
    }
    passed.into_iter().map(lease).collect()
}

/// The same in this process, of a thread each.
async fn at_once_here(timed: &Timed, key: &Key, requests: usize) -> Vec<String> {
    let threads: Vec<_> = (0..requests)
        .map(|_| {
            let (node, key) = (timed.node().clone(), key.clone());
            std::thread::spawn(move || {
                let (model, meters) = (ModelName::parse(MODEL).unwrap(), Meters::new());
                let ask = Ask {
                    api_key: &key.secret,
                    ip: None,
                    model: &model,
                    input_tokens: 100_000,
                    max_output_tokens: Some(0),
                    meters: &meters,
                    request_id: None,
                    lease_seconds: None,
                    organizations: None,
                };
                match node.admissions().admit(&ask) {
                    Ok(admitted) => Some(admitted.lease.as_str().to_owned()),
                    Err(refusal) => {
                        assert_eq!(refusal.code.as_str(), "project_daily_budget");
                        None
                    }
                }
            })
        })
        .collect();
    let joined = move || threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect();
    tokio::task::spawn_blocking(joined).await.unwrap()
}

/// Usage of a tenth of a dollar for each of these leases.
async fn settle(api: &Api, key: &Key, leases: &[String]) {
    let events: Vec<_> =
        leases.iter().map(|lease| usage(key, lease, 100_000, &json!({ "lease": lease }))).collect();
    if !events.is_empty() {
        api.events(&events).await;
    }
    api.folded().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r6_3_of_200_requests_at_once_a_strict_budget_for_ten_lets_exactly_ten_pass() {
    let timed = Timed::start("2026-11-20T10:00:00Z").await;
    let api = &timed.api;
    for here in [false, true] {
        let key = customer(api, "1000").await;
        generous(api, &key).await;
        set(api, &key, json!({ "daily": "1", "monthly": null, "enforcement": "strict" })).await;
        let ask_all = || async {
            if here { at_once_here(&timed, &key, 200).await } else { passed(&at_once(api, &key, 200).await) }
        };
        let leases = ask_all().await;
        assert_eq!(leases.len(), 10);
        // Some give everything back, and as many pass again, while usage of others comes in between.
        for lease in &leases[..4] {
            api.write("DELETE", &format!("/v1/admissions/{lease}"), &json!({})).await.expect(200);
        }
        let (more, ()) = tokio::join!(ask_all(), settle(api, &key, &leases[4..]));
        assert_eq!(more.len(), 4);
        settle(api, &key, &more).await;
        assert_eq!(ask_all().await, Vec::<String>::new());
        let found = daily(api, &key).await;
        assert_eq!([&found["settled"], &found["pending"], &found["overshoot"]], ["0", "1", "0"]);
        assert_eq!(found["state"], "blocked");
        let breach = eventually(DEADLINE, "the first refusal is written down", || async {
            let breach = daily(api, &key).await["breaches"][0].take();
            (!breach["first_refused_at"].is_null()).then_some(breach)
        })
        .await;
        assert_eq!([&breach["spent_when_visible"], &breach["overshoot"]], ["1", "0"]);
        assert_eq!(breach["visible_at"], breach["crossed_at"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r6_3_of_200_requests_at_once_the_default_lets_pass_what_the_lag_allows_and_says_so() {
    let timed = Timed::start("2026-11-20T10:00:00Z").await;
    let api = &timed.api;
    let key = customer(api, "1000").await;
    generous(api, &key).await;
    set(api, &key, json!({ "daily": "1", "monthly": null })).await;
    let first = passed(&at_once(api, &key, 200).await);
    assert_eq!(first.len(), 200, "nothing is settled");
    settle(api, &key, &first).await;
    // Twenty times the budget, and the lag lets as many pass again.
    let second = at_once_here(&timed, &key, 200).await;
    assert_eq!(second.len(), 200);
    settle(api, &key, &second[..150]).await;
    timed.until("2026-11-20T10:10:00Z");
    eventually(DEADLINE, "the cycle is closed", || async {
        (daily(api, &key).await["state"] == "blocked").then_some(())
    })
    .await;
    assert_eq!(passed(&at_once(api, &key, 200).await), Vec::<String>::new());
    assert_eq!(at_once_here(&timed, &key, 200).await, Vec::<String>::new());
    // Those in progress when it became visible are paid for all the same.
    settle(api, &key, &second[150..]).await;
    let breach = eventually(DEADLINE, "the first refusal is written down", || async {
        let breach = daily(api, &key).await["breaches"][0].take();
        (!breach["first_refused_at"].is_null()).then_some(breach)
    })
    .await;
    assert_eq!(
        ["limit", "spent_when_visible", "spent", "overshoot"].map(|name| &breach[name]),
        ["1", "35", "40", "39"]
    );
    assert_eq!(
        ["crossed_at", "visible_at", "first_refused_at"].map(|name| &breach[name]),
        ["2026-11-20T10:00:00Z", "2026-11-20T10:10:00Z", "2026-11-20T10:10:00Z"]
    );
    // One refusal was written down, however many there were.
    let audit = api.all(&format!("/v1/organizations/{}/log", key.organization)).await;
    let noted = audit.iter().filter(|row| row.to_string().contains("budget_refused")).count();
    assert_eq!(noted, 1, "{audit:?}");
}
