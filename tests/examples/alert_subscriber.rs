//! A subscriber to alerts that handles each alert once, whatever happens in between (docs/alerts.md):
//! `cargo run -p tollbook-tests --example alert_subscriber -- nats://127.0.0.1:4222 mail handled.txt [count] [seed file]`
//!
//! The stream delivers every alert at least once. What was handled is noted by the alert's id, durably and before it is
//! acknowledged, so a repetition is recognized. With a seed it connects as one of the deployed services does, from an
//! account of its own. Prints a line of JSON for each delivery, and ends after `count` new alerts; 0: never.
#![expect(clippy::print_stdout, reason = "that is what it is for")]

use std::collections::HashSet;
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use async_nats::ConnectOptions;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::context::ContextBuilder;
use futures_util::StreamExt;
use serde_json::{Value, json};

const STREAM: &str = "TOLLBOOK_ALERTS";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, name, handled, rest @ ..] = arguments.as_slice() else {
        return Err("usage: alert_subscriber URL NAME FILE [COUNT] [SEED FILE]".into());
    };
    let count: usize = rest.first().map_or(Ok(0), |count| count.parse())?;
    let consumer = connect(url, name, rest.get(1)).await?;
    let mut handled = Handled::open(Path::new(handled))?;
    let mut new = 0;
    let mut messages = consumer.messages().await?;
    while let Some(message) = messages.next().await {
        // A server that restarts, or an election: the next message comes when that is over.
        let Ok(message) = message else { continue };
        let alert: Value = serde_json::from_slice(&message.payload)?;
        let id = alert["id"].as_str().ok_or("an alert has an id")?;
        let repeated = handled.contains(id);
        if !repeated {
            // Here you would do what must be done once.
            handled.note(id)?;
            new += 1;
        }
        println!(
            "{}",
            json!({ "id": id, "type": alert["type"], "subject": alert["subject"], "repeated": repeated })
        );
        // The server says that it knows. Without its answer the alert comes again, and is recognized.
        if message.double_ack().await.is_err() {
            continue;
        }
        if count > 0 && new >= count {
            break;
        }
    }
    Ok(())
}

/// The consumer that an engine made for the subscription.
async fn connect(url: &str, name: &str, seed: Option<&String>) -> Result<PullConsumer, Box<dyn Error>> {
    let (options, prefix) = match seed {
        None => (ConnectOptions::new(), "$JS.API"),
        Some(seed) => {
            let seed = std::fs::read_to_string(seed)?;
            let options = ConnectOptions::with_nkey(seed.trim().to_owned());
            // Its permissions allow this inbox alone; and JetStream is the ledger's, under another name.
            (options.custom_inbox_prefix(format!("_INBOX_{name}")), "ledger.api")
        }
    };
    let client = options.connect(url).await?;
    let jetstream = ContextBuilder::new().api_prefix(prefix).build(client);
    Ok(jetstream.get_consumer_from_stream(name, STREAM).await?)
}

/// Ids of handled alerts, one on a line. A database would keep them beside what was done.
struct Handled {
    file: File,
    ids: HashSet<String>,
}

impl Handled {
    fn open(path: &Path) -> Result<Self, Box<dyn Error>> {
        let file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let ids = BufReader::new(&file).lines().collect::<Result<_, _>>()?;
        Ok(Self { file, ids })
    }

    fn contains(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    fn note(&mut self, id: &str) -> Result<(), Box<dyn Error>> {
        writeln!(self.file, "{id}")?;
        self.file.sync_data()?;
        self.ids.insert(id.to_owned());
        Ok(())
    }
}
