//! The Tollbook server: the event log, the owner of State, and every way in and out.

pub mod import;
pub mod log;
pub mod side;
