//! What a node needs to start.

use std::path::PathBuf;

use tollbook_schemas::id::NodeName;

use crate::admission::AdmissionSettings;
use crate::delivery::settings::DeliverySettings;
use crate::log::jetstream::JetStreamOptions;

/// Where the log is.
#[derive(Clone, Debug)]
pub enum LogSettings {
    /// In the data directory, without a server.
    Embedded,
    /// On NATS JetStream.
    JetStream(Box<JetStreamOptions>),
}

/// What a node needs to start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The data directory: views, and the embedded log.
    pub data: PathBuf,
    /// Where the log is.
    pub log: LogSettings,
    /// Partitions of a new ledger; an existing one's must be the same. `None`: the existing one's, or 1.
    pub partitions: Option<u16>,
    /// Currency of a new ledger; an existing one's must be the same. `None`: the existing one's, or USD.
    pub currency: Option<String>,
    /// This process, among those of one ledger.
    pub node: NodeName,
    /// Admission.
    pub admission: AdmissionSettings,
    /// E-mail and webhooks; `None`: alerts are left to a node that has it.
    pub delivery: Option<DeliverySettings>,
}
