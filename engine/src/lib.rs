//! The Tollbook server: the event log, the owner of State, and every way in and out.

pub mod lease;
pub mod log;
pub mod side;
