//! Alerts delivered to people and programs, at least once each, always with the alert's id (R7.3).

pub(crate) mod message;
pub(crate) mod schedule;
pub(crate) mod sign;
pub(crate) mod told;
