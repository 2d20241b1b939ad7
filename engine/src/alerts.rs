//! Alerts on their way out: from the outbox of the views into a feed that is durable of its own, once each, and from
//! there to whoever listens (R7.3).
//!
//! ```text
//! fold ─> outbox row, in the views' batch ─> publisher ─> feed ─┬─> subscribers, server-sent events
//!                                                               └─> deliveries: e-mail, webhooks
//! ```

pub(crate) mod shape;
