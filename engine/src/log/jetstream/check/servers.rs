//! Whether every server is new enough, and syncs before it acknowledges.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::{Client, ServerInfo};
use futures_util::StreamExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::connect::{JetStreamOptions, connect_system};
use super::{OpenError, payload};

/// The oldest server whose replicated streams sync at a bearable price; trials are in the decision record.
const VERSION_WANTED: &str = "2.15.1";

/// How long servers may take to answer the system account's question.
const ANSWERS_DEADLINE: Duration = Duration::from_secs(3);

/// Silence after which no further server is expected to answer.
const ANSWERS_PAUSE: Duration = Duration::from_millis(500);

/// How long one monitoring address may take.
const MONITOR_TIMEOUT: Duration = Duration::from_secs(3);

/// What one server says about itself.
struct Server {
    name: String,
    version: String,
    jetstream: Jsz,
}

#[derive(Deserialize)]
struct Jsz {
    server_id: String,
    #[serde(default)]
    disabled: bool,
    #[serde(default)]
    config: JszConfig,
    meta_cluster: Option<MetaCluster>,
}

#[derive(Deserialize, Default)]
struct JszConfig {
    #[serde(default)]
    sync_always: bool,
    #[serde(default)]
    strict: bool,
}

#[derive(Deserialize)]
struct MetaCluster {
    #[serde(default)]
    cluster_size: usize,
}

#[derive(Deserialize)]
struct Varz {
    server_name: String,
    version: String,
}

/// Verifies the servers, and answers with how many there are.
pub(in crate::log::jetstream) async fn servers(
    options: &JetStreamOptions,
    client: &Client,
) -> Result<usize, OpenError> {
    let connected = client.server_info();
    version(&connected.server_name, &connected.version)?;
    payload(client)?;
    let verified = match ask(options).await {
        Ok((asked, servers)) => judge(asked, servers, &connected),
        Err(error) => Err(error),
    };
    match verified {
        Err(OpenError::Unverified { reason }) if options.allow_unverified_durability => {
            tracing::warn!(reason, "starting without knowing that NATS syncs before it acknowledges");
            metrics::gauge!("tollbook_durability_unverified").set(1);
            Ok(guess(&connected))
        }
        verified => verified,
    }
}

/// Without answers, a cluster is taken for one of three: the usual size.
fn guess(connected: &ServerInfo) -> usize {
    if connected.cluster.as_ref().is_some_and(|name| !name.is_empty()) { 3 } else { 1 }
}

/// How many were asked, and what those who answered said.
async fn ask(options: &JetStreamOptions) -> Result<(usize, Vec<Server>), OpenError> {
    if let Some(system) = &options.system {
        return ask_system(options, system).await;
    }
    if !options.monitor_urls.is_empty() {
        return ask_monitors(&options.monitor_urls).await;
    }
    let loopback = |url: &String| ["127.0.0.1", "localhost", "[::1]"].iter().any(|host| url.contains(host));
    if options.urls.iter().all(loopback) {
        return ask_monitors(&["http://127.0.0.1:8222".to_owned()]).await;
    }
    Err(OpenError::Unverified { reason: "no monitoring address is known".to_owned() })
}

async fn ask_monitors(urls: &[String]) -> Result<(usize, Vec<Server>), OpenError> {
    // The client wants a provider even for plain HTTP; an error says that there is one already.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::trace!("TLS is already set up");
    }
    let http = reqwest::Client::builder().timeout(MONITOR_TIMEOUT).build();
    let http = http.map_err(|error| OpenError::Unverified { reason: error.to_string() })?;
    let mut servers = Vec::new();
    let mut silent = Vec::new();
    for url in urls {
        let answer = async {
            let varz: Varz = get(&http, url, "varz").await?;
            let jetstream: Jsz = get(&http, url, "jsz").await?;
            Ok::<_, reqwest::Error>(Server { name: varz.server_name, version: varz.version, jetstream })
        };
        match answer.await {
            Ok(server) => servers.push(server),
            Err(error) => {
                tracing::warn!(url, %error, "a monitoring address does not answer");
                silent.push(url.as_str());
            }
        }
    }
    if servers.is_empty() {
        return Err(OpenError::Unverified { reason: format!("nothing answers at {}", silent.join(", ")) });
    }
    Ok((urls.len(), servers))
}

async fn get<T: DeserializeOwned>(
    http: &reqwest::Client,
    url: &str,
    page: &str,
) -> Result<T, reqwest::Error> {
    let url = format!("{}/{page}", url.trim_end_matches('/'));
    http.get(url).send().await?.error_for_status()?.json().await
}

async fn ask_system(
    options: &JetStreamOptions,
    system: &super::super::connect::Credentials,
) -> Result<(usize, Vec<Server>), OpenError> {
    #[derive(Deserialize)]
    struct Answer {
        server: Named,
        data: Jsz,
    }
    #[derive(Deserialize)]
    struct Named {
        name: String,
        ver: String,
    }
    let unverified = |reason: String| OpenError::Unverified { reason };
    let client = connect_system(options, system).await?;
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| unverified(error.to_string()))?;
    let asked = client.publish_with_reply("$SYS.REQ.SERVER.PING.JSZ", inbox, bytes::Bytes::new()).await;
    asked.map_err(|error| unverified(error.to_string()))?;
    let mut servers = Vec::new();
    let collect = async {
        while let Ok(Some(message)) = {
            let patience = if servers.is_empty() { ANSWERS_DEADLINE } else { ANSWERS_PAUSE };
            tokio::time::timeout(patience, answers.next()).await
        } {
            match serde_json::from_slice::<Answer>(&message.payload) {
                Ok(Answer { server, data }) => {
                    servers.push(Server { name: server.name, version: server.ver, jetstream: data });
                }
                Err(error) => tracing::warn!(%error, "an unreadable answer of a NATS server"),
            }
        }
    };
    if tokio::time::timeout(ANSWERS_DEADLINE, collect).await.is_err() {
        tracing::debug!("NATS servers still answer");
    }
    if servers.is_empty() {
        return Err(unverified("no server answers the system account's user".to_owned()));
    }
    Ok((usize::MAX, servers))
}

fn judge(asked: usize, servers: Vec<Server>, connected: &ServerInfo) -> Result<usize, OpenError> {
    let mut seen = BTreeMap::new();
    let mut size = 1;
    for server in servers {
        let Server { name, version: found, jetstream } = server;
        version(&name, &found)?;
        if jetstream.disabled {
            // It stores nothing: clients may connect through it all the same.
            continue;
        }
        if !jetstream.config.sync_always {
            let remedy = "sync_interval: always";
            return Err(OpenError::NotDurable { server: name, setting: "sync_always", remedy });
        }
        if !jetstream.config.strict {
            return Err(OpenError::NotDurable { server: name, setting: "strict", remedy: "strict: true" });
        }
        size = size.max(jetstream.meta_cluster.map_or(1, |meta| meta.cluster_size));
        seen.insert(jetstream.server_id, name);
    }
    let known = seen.contains_key(&connected.server_id);
    let names = seen.into_values().collect::<Vec<_>>();
    size = size.max(names.len());
    // Port 8222 of this machine may be another server's.
    if !known && connected.jetstream {
        let reason =
            format!("{} answered, but the connection is to {}", names.join(", "), connected.server_name);
        return Err(OpenError::Unverified { reason });
    }
    if asked < size {
        let reason = format!("{asked} monitoring addresses are named, and there are {size} servers");
        return Err(OpenError::Unverified { reason });
    }
    // A server that is down must not keep the others from working.
    if names.len().saturating_mul(2) <= size {
        let reason = format!("only {} of {size} servers answered ({})", names.len(), names.join(", "));
        return Err(OpenError::Unverified { reason });
    }
    if names.len() < size {
        tracing::error!(answered = names.join(", "), size, "not every NATS server could be verified");
    }
    Ok(size)
}

fn version(server: &str, found: &str) -> Result<(), OpenError> {
    let parse = |text: &str| -> Vec<u32> {
        text.split(['.', '-', '+']).take(3).map(|part| part.parse().unwrap_or(0)).collect()
    };
    if parse(found) < parse(VERSION_WANTED) {
        let (server, found) = (server.to_owned(), found.to_owned());
        return Err(OpenError::OldServer { server, found, wanted: VERSION_WANTED });
    }
    Ok(())
}
