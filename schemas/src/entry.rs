//! Entries: the unit of the log. One is atomic, ordered and immutable.

use serde::{Deserialize, Serialize};

use crate::batch::UsageBatch;
use crate::event::Event;
use crate::id::{MemberId, TokenId};
use crate::position::{EntryId, LogPosition};
use crate::time::Timestamp;
use crate::usage::Unreadable;

/// What is written: who wrote it, when, and what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Ledger, partition, writer and the writer's count.
    pub id: EntryId,
    /// When the engine wrote it, by the engine's clock. The fold clamps it to be non-decreasing.
    pub recorded_at: Timestamp,
    /// What it says.
    pub body: Body,
}

/// What an entry says. Variants are written by their place: new ones go last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// An observation: usage that happened (R8.1). Any engine writes these.
    Usage(UsageBatch),
    /// What was decided. Only the partition's owner writes these.
    Decision(Decision),
    /// An observation: bytes that could not be read where nobody waited for an answer (R8.1).
    Unreadable(Vec<Unreadable>),
}

/// Events that were decided together, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The owner's term; void where a higher one stands before it.
    pub term: u64,
    /// On whose behalf.
    pub actor: Actor,
    /// What led to it.
    pub cause: Cause,
    /// What happened, in order.
    pub events: Vec<Event>,
}

impl Decision {
    /// The term that it begins, if it takes the partition over.
    pub fn term_taken(&self) -> Option<u64> {
        self.events.iter().find_map(Event::term_taken)
    }

    /// Whether somebody else took the partition over before it got its place: `term` is the owner's there.
    pub fn is_void(&self, term: u64) -> bool {
        match self.term_taken() {
            Some(taken) => taken <= term,
            None => self.term != term,
        }
    }
}

/// On whose behalf something was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Actor {
    /// The engine itself: time passed, or ownership changed.
    Engine,
    /// The platform's operator, by a service token; `None` is the admin token of the data directory.
    Operator {
        /// The token.
        token: Option<TokenId>,
    },
    /// A member, named by a console that a token vouches for.
    Member {
        /// The console's token.
        token: Option<TokenId>,
        /// The member.
        member: MemberId,
    },
    /// Somebody who holds an invitation's secret.
    Invitee {
        /// The console's token.
        token: Option<TokenId>,
    },
}

/// What led to a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// A command.
    Command {
        /// What makes its repetition recognizable, if the caller gave a key.
        idempotency: Option<Idempotency>,
    },
    /// Time passed.
    Timer,
    /// A node took the partition over.
    Takeover,
    /// Configuration was copied from partition 0.
    Copy {
        /// The entry there.
        of: LogPosition,
    },
}

/// A caller's `Idempotency-Key` and what it came with, both as HMAC-SHA-256 under a secret of the ledger, cut to 128
/// bits: the log must not let anybody guess personal data from them (R9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Idempotency {
    /// Of the key, within its caller's scope.
    pub key: [u8; 16],
    /// Of the request.
    pub content: [u8; 16],
}
