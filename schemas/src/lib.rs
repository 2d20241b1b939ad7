//! The vocabulary of Tollbook: what stands in the log and what may be asked of it. Pure.
//!
//! In reading order: [`id`], [`position`], [`amount`], [`price`], [`time`].
#![warn(missing_docs)]
#![warn(clippy::arithmetic_side_effects)]

pub mod id;
pub mod position;
