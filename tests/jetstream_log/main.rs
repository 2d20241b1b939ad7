//! The log on a real JetStream server.

mod harness;
