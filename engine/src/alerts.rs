//! Alerts on their way out: from the outbox of the views into a feed that is durable of its own, once each, and from
//! there to whoever listens (R7.3).
//!
//! ```text
//! fold ─> outbox row, in the views' batch ─> publisher ─> feed ─┬─> subscribers, server-sent events
//!                                                               └─> deliveries: e-mail, webhooks
//! ```

pub mod embedded;
pub mod feed;
pub mod jetstream;
pub(crate) mod publisher;
pub(crate) mod shape;
pub(crate) mod subscribers;
