//! What the fold owes the world outside of State.

use serde::{Deserialize, Serialize};
use tollbook_schemas::alert::{Alert, AlertData};
use tollbook_schemas::entry::{Actor, Cause, Decision, Idempotency};
use tollbook_schemas::event::Event;
use tollbook_schemas::id::{AlertId, OrgId, ProjectId};
use tollbook_schemas::position::{LogPosition, PartitionId, Position};
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::{QuarantineReason, Unreadable, Usage, UsagePlace};

use crate::books::{EndedMonth, Seal};
use crate::budget::{EndedBreach, Seen};
use crate::movement::Movement;
use crate::organization::At;
use crate::past::Settled;
use crate::purse::Funds;
use crate::spend::OpenCells;

/// What applying a record owes the world outside of State. A value: replays drop it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Usage was not booked (R8.1).
    Quarantined(Box<Quarantined>),
    /// Cells of a day became history of an organization; `position` is the entry that closed the day.
    CellsClosed {
        /// Whose.
        organization: OrgId,
        /// Which.
        cells: OpenCells,
        /// By what.
        position: Position,
    },
    /// A line of an organization's books (R4.10).
    Moved {
        /// Whose.
        organization: OrgId,
        /// What.
        movement: Box<Movement>,
    },
    /// A month with something booked in it ended for an organization (R8.3).
    MonthEnded {
        /// Whose.
        organization: OrgId,
        /// What it came to.
        ended: Box<EndedMonth>,
    },
    /// The statement of a closed month was sealed (R8.3).
    Sealed {
        /// Whose.
        organization: OrgId,
        /// The seal.
        seal: Seal,
    },
    /// A request with an idempotency key was carried out.
    Remembered {
        /// About whom.
        organization: OrgId,
        /// What makes a repetition recognizable.
        idempotency: Idempotency,
        /// The entry.
        position: Position,
    },
    /// Rows of a usage entry that came before, and were not booked again (R8.2).
    Repeated {
        /// The entry.
        position: Position,
        /// Which.
        rows: Vec<u32>,
    },
    /// A quarantined record was released or dismissed (R8.1).
    Settled {
        /// Which.
        place: UsagePlace,
        /// How.
        settled: Box<Settled>,
    },
    /// What an entry's usage took from an organization: only where [`State::report_charges`] asks for it.
    ///
    /// [`State::report_charges`]: super::State::report_charges
    Charged {
        /// From whom.
        organization: OrgId,
        /// The entry.
        position: Position,
        /// What it took.
        took: Funds,
        /// What there was after it.
        after: Funds,
    },
    /// A message is not an entry of this ledger and partition, and was skipped.
    Foreign {
        /// Where.
        position: Position,
        /// Why.
        reason: String,
    },
    /// An entry that was applied before stands here again, and was skipped.
    Copy {
        /// Where.
        position: Position,
    },
    /// A decision of an older term than the owner's, and was skipped.
    Voided {
        /// Where.
        position: Position,
        /// Its term.
        term: u64,
    },
    /// Somebody is to be told of something, once (R7.3).
    Alert(Box<Alert>),
    /// A budget that was reached is so no more: its period ended, or it was changed (R6.2).
    BreachEnded {
        /// Whose.
        organization: OrgId,
        /// Of which project.
        project: ProjectId,
        /// What it came to.
        ended: Box<EndedBreach>,
    },
    /// A decision about an organization, or about the configuration, was applied: what an audit log shows.
    Decided {
        /// Whose; `None`: configuration of the whole ledger.
        organization: Option<OrgId>,
        /// What.
        row: Box<AuditRow>,
    },
}

impl Effect {
    /// The organization whose books it is about, if it is about any.
    pub const fn organization(&self) -> Option<&OrgId> {
        match self {
            Self::CellsClosed { organization, .. }
            | Self::Moved { organization, .. }
            | Self::MonthEnded { organization, .. }
            | Self::Sealed { organization, .. }
            | Self::Remembered { organization, .. }
            | Self::Charged { organization, .. }
            | Self::BreachEnded { organization, .. }
            | Self::Decided { organization: Some(organization), .. } => Some(organization),
            Self::Alert(alert) => alert.organization.as_ref(),
            Self::Decided { organization: None, .. }
            | Self::Quarantined(_)
            | Self::Repeated { .. }
            | Self::Settled { .. }
            | Self::Foreign { .. }
            | Self::Copy { .. }
            | Self::Voided { .. } => None,
        }
    }

    /// An alert; State says which it is when its entry is applied.
    pub(crate) fn alert(organization: Option<&OrgId>, at: At, data: AlertData) -> Self {
        Self::Alert(Box::new(Alert {
            id: AlertId::from_bits(0),
            organization: organization.cloned(),
            position: LogPosition { partition: PartitionId(0), position: at.position },
            number: 0,
            raised_at: at.recorded_at,
            data,
        }))
    }

    /// A decision about an organization, unless it only made a request's repetition recognizable.
    pub(super) fn decided(organization: &OrgId, decision: &Decision, at: At) -> Option<Self> {
        let decided = |row| Self::Decided { organization: Some(organization.clone()), row: Box::new(row) };
        (!decision.events.is_empty()).then(|| decided(AuditRow::of(decision, at)))
    }

    /// A decision on the configuration's topic, if configuration was decided here: copies show where they were made
    /// from, and who owns the partition and which cycles ended is nobody's decision.
    pub(super) fn configured(decision: &Decision, at: At) -> Option<Self> {
        match decision.cause {
            Cause::Copy { .. } => return None,
            Cause::Command { .. } | Cause::Timer | Cause::Takeover => {}
        }
        let configures = decision.events.iter().any(|event| matches!(event, Event::Config(_)));
        configures.then(|| Self::Decided { organization: None, row: Box::new(AuditRow::of(decision, at)) })
    }
}

impl Seen {
    /// Leaves what was seen of a project.
    pub(crate) fn leave(self, organization: &OrgId, project: &ProjectId, at: At, effects: &mut Vec<Effect>) {
        effects.extend(self.ended.into_iter().map(|ended| Effect::BreachEnded {
            organization: organization.clone(),
            project: project.clone(),
            ended: Box::new(ended),
        }));
        effects.extend(self.alerts.into_iter().map(|data| Effect::alert(Some(organization), at, data)));
    }
}

/// One applied decision as an audit log keeps it: without what makes its repetition recognizable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Where it stands.
    pub position: Position,
    /// When it was recorded, as the fold clamps it.
    pub recorded_at: Timestamp,
    /// On whose behalf.
    pub actor: Actor,
    /// What happened, in order.
    pub events: Vec<Event>,
}

impl AuditRow {
    fn of(decision: &Decision, at: At) -> Self {
        Self {
            position: at.position,
            recorded_at: at.recorded_at,
            actor: decision.actor.clone(),
            events: decision.events.clone(),
        }
    }
}

/// One quarantined record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Where it stands.
    pub place: UsagePlace,
    /// Why it was not booked.
    pub reason: QuarantineReason,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// What came.
    pub what: QuarantinedWhat,
}

impl Quarantined {
    /// Whose it is, as far as it says.
    pub const fn organization(&self) -> Option<&OrgId> {
        match &self.what {
            QuarantinedWhat::Usage(usage) => Some(&usage.organization),
            QuarantinedWhat::Bytes(unreadable) => unreadable.organization.as_ref(),
        }
    }
}

/// What came and was not booked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QuarantinedWhat {
    /// A readable record.
    Usage(Usage),
    /// Bytes.
    Bytes(Unreadable),
}
