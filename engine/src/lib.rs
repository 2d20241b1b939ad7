//! The Tollbook server: the event log, the owner of State, and every way in and out.
//!
//! In reading order: [`log`] keeps entries and [`side`] what must not stand among them; [`decide`] makes entries of
//! commands, [`ingress`] of usage; [`feed`] brings them back and [`owner`] applies them; [`audit`] shows them; [`node`] puts all of it
//! together, [`trace`] follows one record through it, [`http`] and [`nats`] open it to others, [`server`] runs it. [`import`], [`demo`] and [`mod@bench`] use it.

pub mod clock;
pub(crate) mod fault;
pub mod metrics;
pub mod partition;
pub(crate) mod seldom;

pub mod lease;
pub mod log;
pub mod side;

pub mod audit;
pub mod contacts;
pub mod export;
pub mod ledger;

pub mod admission;
pub mod alerts;
pub(crate) mod closing;
pub mod decide;
pub mod delivery;
pub(crate) mod erasure;
pub mod feed;
pub mod ingress;
pub mod owner;
pub mod permission;
pub(crate) mod rounds;
pub(crate) mod statement;
pub mod writer;

pub mod nats;
pub mod node;
pub mod trace;

pub mod cli;
pub mod config;
pub mod http;
pub mod server;

pub mod bench;
pub mod import;

pub mod demo;
