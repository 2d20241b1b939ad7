//! The fold: events into State, and State kept in views. Pure but for [`view`] and [`ids`].
//!
//! In reading order: [`record`] is one message of the log; [`state`] applies it, with [`config`], [`organization`],
//! [`limits`], [`purse`], [`spend`], [`budget`] and [`usage`] for the parts; [`account`], [`movement`], [`books`] and [`statement`]
//! are what finance sees of it, [`past`] what decisions look up; [`writers`], [`sequence`] and [`first`] tell repetitions;
//! [`view`] and [`ids`] keep the results on disk.
#![warn(missing_docs)]
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

pub mod record;

pub mod state;

pub mod config;
pub mod limits;
pub mod organization;

pub mod account;
pub mod books;
pub mod budget;
pub mod movement;
pub mod past;
pub mod purse;
pub mod sorted;
pub mod spend;
pub mod statement;
pub mod usage;

pub mod first;
pub mod sequence;
pub mod trace;
pub mod writers;

pub mod ids;
pub mod view;
