//! The Tollbook server: the event log, the owner of State, and every way in and out.

pub mod clock;
pub mod metrics;
pub mod partition;

pub mod lease;
pub mod log;
pub mod side;

pub mod decide;
pub mod feed;
pub mod ingress;
pub mod owner;
pub mod writer;
