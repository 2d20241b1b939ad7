//! Mail and webhooks of the organizations, at receivers that take everything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use tempfile::TempDir;
use tollbook_tests::eventually;
use tollbook_tests::receivers::{HookServer, MailServer};
use tollbook_tests::system::{DEADLINE, SystemBuilder};

use super::deeds::{Patient, Told};

/// Kinds that are for programs, which are not mailed.
const NOT_MAILED: [&str; 1] = ["usage_quarantined"];

/// By alert, whom it reached, and how often.
type Reached = BTreeMap<(String, String), usize>;

/// An SMTP server and an HTTP endpoint.
pub(super) struct Receivers {
    pub(super) hooks: HookServer,
    mail: MailServer,
    directory: TempDir,
}

impl Receivers {
    pub(super) async fn start() -> Self {
        let mail = MailServer::start().await;
        Self { hooks: HookServer::start().await, mail, directory: TempDir::new().unwrap() }
    }

    /// Has a server send there.
    pub(super) fn configure(&self, builder: SystemBuilder) -> SystemBuilder {
        let text = format!(
            "[smtp]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\nfrom = \"Platform <alerts@platform.example>\"\n\
             [webhooks]\nallow_http = true\nallow_private = true\n",
            self.mail.port,
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
                called.insert((id, told.name.clone()));
            }
        }
        let what = format!("{} e-mails and {} calls of webhooks", mailed.len(), called.len());
        let (mails, calls) = eventually(DEADLINE, &what, || {
            let (mails, calls) = (self.mails(), self.calls());
            let all = mailed.iter().all(|one| mails.contains_key(one))
                && called.iter().all(|one| calls.contains_key(one));
            std::future::ready(all.then_some((mails, calls)))
        })
        .await;
        assert!(mails.keys().eq(&mailed), "nobody was mailed anything else");
        assert!(calls.keys().eq(&called), "nobody was called for anything else");
        (mails.values().sum(), calls.values().sum())
    }

    /// How much arrived.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.mail.messages().len(), self.hooks.calls().len())
    }

    fn mails(&self) -> Reached {
        let mut reached = Reached::new();
        for mail in self.mail.messages() {
            let id = &mail.headers["x-tollbook-alert"];
            assert!(mail.headers["message-id"].contains(id.as_str()), "repetitions can be told: {mail:?}");
            assert_eq!(mail.to.len(), 1, "{mail:?}");
            *reached.entry((id.clone(), mail.to[0].clone())).or_default() += 1;
        }
        reached
    }

    fn calls(&self) -> Reached {
        let (mut reached, mut said) = (Reached::new(), BTreeMap::new());
        for call in self.hooks.calls() {
            assert_eq!(call.body["id"], call.id.as_str());
            assert_eq!(*said.entry(call.id.clone()).or_insert_with(|| call.body.clone()), call.body);
            *reached.entry((call.id, call.name)).or_default() += 1;
        }
        reached
    }
}
