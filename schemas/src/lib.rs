//! The vocabulary of Tollbook: what stands in the log, and what a rule may answer. Pure.
//!
//! In reading order: [`id`] and [`position`] name things, [`amount`], [`price`] and [`time`] measure them, [`role`]
//! and [`policy`] configure them, [`sealed`] hides what is personal; [`usage`] and [`event`] are the facts, [`alert`]
//! is what somebody is told because of them; [`batch`] and [`entry`] are how facts are written together, [`topic`] about
//! what, [`codec`] their bytes; [`command`] is what may be asked for and [`rejection`] what a rule says no with;
//! [`cloudevent`] is how usage looks outside.
#![warn(missing_docs)]
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

pub mod id;

pub mod position;

pub mod amount;
pub mod calendar;
pub mod price;
pub mod time;

pub mod allowlist;
pub mod policy;
pub mod role;
pub mod sealed;

pub mod batch;
pub mod event;
pub mod usage;

pub mod alert;

pub mod codec;
pub mod entry;
pub mod topic;

pub mod command;
pub mod rejection;

pub mod cloudevent;
