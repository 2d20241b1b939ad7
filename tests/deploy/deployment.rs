//! The shipped nats-server configuration with keys in place of its placeholders, running, and clients of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, stream};
use async_nats::{Client, ConnectOptions, Event};
use nkeys::KeyPair;
use tempfile::TempDir;
use tokio::sync::{Mutex, mpsc};
use tollbook_tests::eventually;
use tollbook_tests::nats::{NatsServer, free_ports};

/// Far beyond what an answer takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// After which what was not answered is sent again.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(2);

/// Somebody whom the configuration names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Principal {
    placeholder: &'static str,
    inbox: &'static str,
}

pub(crate) const ENGINE: Principal = Principal { placeholder: "REPLACE_ENGINE_NKEY", inbox: "_INBOX" };
pub(crate) const SPOOL: Principal = Principal { placeholder: "REPLACE_ENGINE_SPOOL_NKEY", inbox: "_INBOX" };
pub(crate) const MONITOR: Principal =
    Principal { placeholder: "REPLACE_ENGINE_MONITOR_NKEY", inbox: "_INBOX" };
pub(crate) const PUBLISHER: Principal =
    Principal { placeholder: "REPLACE_PUBLISHER_NKEY", inbox: "_INBOX_publisher" };
pub(crate) const GATEWAY: Principal =
    Principal { placeholder: "REPLACE_GATEWAY_NKEY", inbox: "_INBOX_gateway" };
/// A gateway that may ask for admission and do nothing else.
pub(crate) const ASKER: Principal =
    Principal { placeholder: "REPLACE_ADMISSION_NKEY", inbox: "_INBOX_admission" };
pub(crate) const SUBSCRIBER: Principal =
    Principal { placeholder: "REPLACE_SUBSCRIBER_NKEY", inbox: "_INBOX_mail" };
pub(crate) const AUDITOR: Principal =
    Principal { placeholder: "REPLACE_AUDITOR_NKEY", inbox: "_INBOX_auditor" };
const OPERATOR: Principal = Principal { placeholder: "REPLACE_OPERATOR_NKEY", inbox: "_INBOX" };

/// Not in the shipped files: a services user for whom somebody forgot to write permissions.
pub(crate) const FORGOTTEN: Principal = Principal { placeholder: "REPLACE_FORGOTTEN_NKEY", inbox: "_INBOX" };

const PRINCIPALS: [Principal; 10] =
    [ENGINE, SPOOL, MONITOR, PUBLISHER, GATEWAY, ASKER, SUBSCRIBER, AUDITOR, OPERATOR, FORGOTTEN];

/// Running servers with the shipped configuration. `REPLACE_ORG` is `org_a`.
#[derive(Debug)]
pub(crate) struct Deployment {
    seeds: BTreeMap<&'static str, String>,
    pub(crate) servers: Vec<NatsServer>,
    _files: TempDir,
}

impl Deployment {
    /// `deploy/nats.conf`.
    pub(crate) async fn one_node() -> Self {
        let files = Files::prepare();
        let server = NatsServer::builder().config_file(files.path("nats.conf")).start().await;
        files.running(vec![server])
    }

    /// `deploy/nats-cluster/n1.conf` to `n3.conf`.
    pub(crate) async fn three_nodes() -> Self {
        let files = Files::prepare();
        let node =
            |name: &str| NatsServer::builder().config_file(files.path(&format!("nats-cluster/{name}.conf")));
        // None is healthy before a majority runs.
        let (n1, n2, n3) = tokio::join!(node("n1").start(), node("n2").start(), node("n3").start());
        files.running(vec![n1, n2, n3])
    }

    /// As many copies as the servers can hold.
    pub(crate) fn replicas(&self) -> usize {
        self.servers.len()
    }

    /// The secret half of the principal's key.
    pub(crate) fn seed(&self, principal: Principal) -> String {
        self.seeds[principal.placeholder].clone()
    }

    /// A client with the principal's key; each principal has a server of its own where there are several.
    pub(crate) async fn connect(&self, principal: Principal) -> Caller {
        let turn = PRINCIPALS.iter().position(|other| other.placeholder == principal.placeholder).unwrap();
        let server = &self.servers[turn % self.servers.len()];
        let (send, denials) = mpsc::unbounded_channel();
        let client = ConnectOptions::with_nkey(self.seed(principal))
            .custom_inbox_prefix(principal.inbox)
            .request_timeout(Some(DEADLINE))
            .event_callback(move |event| {
                let send = send.clone();
                async move {
                    if let Event::ServerError(error) = event {
                        // Nobody may be listening for it any more.
                        send.send(error.to_string().to_lowercase()).ok();
                    }
                }
            })
            .connect(server.url())
            .await
            .unwrap();
        Caller { client, denials: Mutex::new(denials) }
    }

    /// The streams an engine makes before anybody else arrives: a log with one entry, alerts, seals.
    pub(crate) async fn with_streams(&self) -> Caller {
        let engine = self.connect(ENGINE).await;
        for (name, subjects) in [
            ("TOLLBOOK_LOG_0_0", "tollbook.log.0.>"),
            ("TOLLBOOK_ALERTS", "tollbook.alerts.>"),
            ("TOLLBOOK_SEALS", "tollbook.seals.>"),
        ] {
            engine.make(durable(name, subjects, self.replicas())).await;
        }
        engine.put("tollbook.log.0.org.org_a", "an entry").await;
        engine
    }
}

/// Stream settings as an engine wants them.
pub(crate) fn durable(name: &str, subjects: &str, replicas: usize) -> stream::Config {
    stream::Config {
        name: name.to_owned(),
        subjects: vec![subjects.to_owned()],
        num_replicas: replicas,
        discard: stream::DiscardPolicy::New,
        deny_delete: true,
        deny_purge: true,
        ..Default::default()
    }
}

/// A connected principal and what the server refused it. A denial is an event; the call itself only times out.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) client: Client,
    denials: Mutex<mpsc::UnboundedReceiver<String>>,
}

impl Caller {
    /// Its JetStream, in its own account.
    pub(crate) fn jetstream(&self) -> jetstream::Context {
        jetstream::ContextBuilder::new().timeout(DEADLINE).build(self.client.clone())
    }

    /// The ledger's JetStream, as far as this account imports it.
    pub(crate) fn ledger(&self) -> jetstream::Context {
        jetstream::ContextBuilder::new().timeout(DEADLINE).api_prefix("ledger.api").build(self.client.clone())
    }

    /// Publishes to every subject and expects every one to be refused.
    pub(crate) async fn may_not_publish(&self, subjects: &[&str]) {
        for subject in subjects {
            self.client.publish(subject.to_string(), "{}".into()).await.unwrap();
            self.denied(&format!("publish to \"{subject}\"")).await;
        }
    }

    /// Subscribes to every subject and expects every one to be refused.
    pub(crate) async fn may_not_subscribe(&self, subjects: &[&str]) {
        for subject in subjects {
            let _held = self.client.subscribe(subject.to_string()).await.unwrap();
            self.denied(&format!("subscription to \"{subject}\"")).await;
        }
    }

    /// Waits for the refusal that names this; any other refusal fails.
    pub(crate) async fn denied(&self, what: &str) {
        let mut denials = self.denials.lock().await;
        let denial = tokio::time::timeout(DEADLINE, denials.recv()).await;
        let denial = denial.unwrap_or_else(|_| panic!("was not denied: {what}")).expect("the client runs");
        assert!(denial.contains(&what.to_lowercase()), "expected a denial of {what}, got: {denial}");
    }

    /// Everything sent so far has reached the server, and the server refused none of it.
    pub(crate) async fn nothing_denied(&self) {
        self.client.flush().await.unwrap();
        assert_eq!(self.denials.lock().await.try_recv().ok(), None);
    }

    /// Makes the stream as soon as the servers can place it: healthy nodes may not have heard of each other yet.
    pub(crate) async fn make(&self, config: stream::Config) -> stream::Stream {
        let (context, config) = (&self.jetstream(), &config);
        eventually(DEADLINE, "the stream is made", || async move { context.create_stream(config).await.ok() })
            .await
    }

    /// Publishes until a stream has it, and gives its sequence: a replicated stream that has just been made loses
    /// what comes before its first leader.
    pub(crate) async fn put(&self, subject: &str, payload: &str) -> u64 {
        let context = jetstream::ContextBuilder::new().timeout(ATTEMPT).build(self.client.clone());
        let id = self.client.new_inbox();
        let (context, id) = (&context, &id);
        eventually(DEADLINE, "the stream takes a message", || async move {
            let message = PublishMessage::build().payload(payload.to_owned().into()).message_id(id);
            let ack = context.send_publish(subject.to_owned(), message).await.unwrap();
            ack.await.ok().map(|ack| ack.sequence)
        })
        .await
    }

    /// The position of one more entry, from which follows how many there were.
    pub(crate) async fn append(&self) -> u64 {
        self.put("tollbook.log.0.org.org_a", "one more").await
    }
}

/// The copied and completed files.
struct Files {
    directory: TempDir,
    seeds: BTreeMap<&'static str, String>,
}

impl Files {
    fn prepare() -> Self {
        let directory = TempDir::with_prefix("tollbook-deploy-").unwrap();
        let mut seeds = BTreeMap::new();
        let mut words = vec![
            ("REPLACE_ORG".to_owned(), "org_a".to_owned()),
            ("REPLACE_ROUTE_PASSWORD".to_owned(), "routes".to_owned()),
            ("\"/var/lib/nats".to_owned(), format!("\"{}/store", directory.path().display())),
            (
                "# One organization's publisher.".to_owned(),
                format!("{{ nkey: {} }}\n      #", FORGOTTEN.placeholder),
            ),
        ];
        for (shipped, free) in [6221, 6222, 6223].iter().zip(free_ports(3)) {
            words.push((format!("127.0.0.1:{shipped}\""), format!("127.0.0.1:{free}\"")));
        }
        for principal in PRINCIPALS {
            let pair = KeyPair::new_user();
            words.push((principal.placeholder.to_owned(), pair.public_key()));
            seeds.insert(principal.placeholder, pair.seed().unwrap());
        }
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
        for file in [
            "nats.conf",
            "nats-accounts.conf",
            "nats-cluster/common.conf",
            "nats-cluster/n1.conf",
            "nats-cluster/n2.conf",
            "nats-cluster/n3.conf",
        ] {
            let text = fs::read_to_string(shipped.join(file)).unwrap();
            let text = words.iter().fold(text, |text, (from, to)| text.replace(from, to));
            for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
                assert!(!line.contains("REPLACE"), "{file} has a placeholder that no test knows: {line}");
            }
            let copy = directory.path().join(file);
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::write(copy, text).unwrap();
        }
        Self { directory, seeds }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    fn running(self, servers: Vec<NatsServer>) -> Deployment {
        Deployment { seeds: self.seeds, servers, _files: self.directory }
    }
}
