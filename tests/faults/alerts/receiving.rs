//! Mail and webhooks of the organizations, at receivers that take everything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tollbook_tests::eventually;
use tollbook_tests::receivers;
use tollbook_tests::system::SystemBuilder;

use super::deeds::{Patient, Told};

/// Kinds that are for programs, which are not mailed.
const NOT_MAILED: [&str; 1] = ["usage_quarantined"];

/// A delivery that failed after attempts that died with their process comes after the schedule's five minutes.
const LATE: Duration = Duration::from_secs(6 * 60);

/// By alert, whom it reached, and how often.
type Reached = BTreeMap<(String, String), usize>;

/// A mail server and a receiver of webhooks.
pub(super) struct Receivers {
    both: receivers::Receivers,
    directory: TempDir,
}

impl Receivers {
    pub(super) async fn start() -> Self {
        Self { both: receivers::Receivers::start().await, directory: TempDir::new().unwrap() }
    }

    /// Where the webhooks of organizations are, each by a name that follows.
    pub(super) fn hooks(&self) -> String {
        self.both.url("/ok/")
    }

    /// Has a server send there.
    pub(super) fn configure(&self, builder: SystemBuilder) -> SystemBuilder {
        let text = format!(
            "[smtp]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\nfrom = \"Platform <alerts@platform.example>\"\n\
             [webhooks]\nallow_http = true\nallow_private = true\n",
            self.both.smtp,
        );
        let path = self.directory.path().join("tollbook.toml");
        fs::write(&path, text).unwrap();
        builder.arg("--config").arg(path.to_str().unwrap())
    }

    /// Waits until each alert has reached everybody whom it must, and nobody has got anything else. How many e-mails and
    /// calls that took.
    pub(super) async fn have_all(&self, client: &Patient, told: &[Told]) -> (usize, usize) {
        let (mut mailed, mut called) = (BTreeSet::new(), BTreeSet::new());
        for told in told {
            for (id, kind) in client.listed(told).await {
                if !NOT_MAILED.contains(&kind.as_str()) {
                    mailed.insert((id.clone(), format!("{}@example.com", told.name)));
                }
                called.insert((id, format!("/ok/{}", told.name)));
            }
        }
        let what = format!("{} e-mails and {} calls of webhooks", mailed.len(), called.len());
        let missing = Mutex::new(String::new());
        let (mails, calls) = eventually(LATE, &what, || async {
            let log = self.both.log().await;
            let (mails, calls) = (mails(&log), calls(&log));
            let not_mailed = mailed.iter().find(|one| !mails.contains_key(one));
            let not_called = called.iter().find(|one| !calls.contains_key(one));
            let Some((id, to)) = not_mailed.or(not_called) else { return Some((mails, calls)) };
            // Once for each, for whoever looks into a failure.
            if std::mem::replace(&mut *missing.lock().unwrap(), id.clone()) != *id {
                let about = told
                    .iter()
                    .find(|told| to.ends_with(&told.name) || to.starts_with(&format!("{}@", told.name)));
                let state = client.deliveries(&about.unwrap().organization, id).await;
                println!("{to} waits for {id}: {state}");
            }
            None
        })
        .await;
        assert!(mails.keys().eq(&mailed), "nobody was mailed anything else");
        assert!(calls.keys().eq(&called), "nobody was called for anything else");
        (mails.values().sum(), calls.values().sum())
    }

    /// How much arrived.
    pub(super) async fn count(&self) -> (usize, usize) {
        let log = self.both.log().await;
        (log["mails"].as_array().unwrap().len(), log["calls"].as_array().unwrap().len())
    }
}

fn mails(log: &Value) -> Reached {
    let mut reached = Reached::new();
    for mail in log["mails"].as_array().unwrap() {
        let head = mail["data"].as_str().unwrap().lines().take_while(|line| !line.is_empty());
        let headers: BTreeMap<&str, &str> = head.filter_map(|line| line.split_once(": ")).collect();
        let id = headers["X-Tollbook-Alert"];
        assert!(headers["Message-ID"].contains(id), "repetitions can be told: {headers:?}");
        let to = mail["to"].as_array().unwrap();
        assert_eq!(to.len(), 1, "{to:?}");
        *reached.entry((id.to_owned(), to[0].as_str().unwrap().to_owned())).or_default() += 1;
    }
    reached
}

fn calls(log: &Value) -> Reached {
    let (mut reached, mut said) = (Reached::new(), BTreeMap::new());
    for call in log["calls"].as_array().unwrap() {
        let id = call["headers"]["webhook-id"].as_str().unwrap();
        let body: Value = serde_json::from_str(call["body"].as_str().unwrap()).unwrap();
        assert_eq!(body["id"], id);
        assert_eq!(*said.entry(id).or_insert_with(|| body.clone()), body, "a repetition says the same");
        *reached.entry((id.to_owned(), call["path"].as_str().unwrap().to_owned())).or_default() += 1;
    }
    reached
}
