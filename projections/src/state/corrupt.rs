//! What must stop everything.

use tollbook_schemas::id::{InvitationId, KeyId, MemberId, OrgId, ProjectId};
use tollbook_schemas::position::Position;

/// An invariant broke: the log holds what this build cannot have written, or cannot read. Nothing may go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// A record is missing or came twice.
    #[error("expected position {expected}, found {found}")]
    Gap {
        /// The next position.
        expected: Position,
        /// The record's.
        found: Position,
    },
    /// An event of a kind that this build does not fold yet.
    #[error("this build cannot fold {0} events of this kind; use a newer one")]
    Unsupported(&'static str),
    /// An event stands under a topic of another family.
    #[error("an event stands under the wrong topic")]
    Misplaced,
    /// An event about an organization that was never registered.
    #[error("organization {0} was never registered")]
    OrganizationUnknown(OrgId),
    /// An organization was registered twice.
    #[error("organization {0} was registered twice")]
    OrganizationExists(OrgId),
    /// An event about a project that was never created.
    #[error("project {0} was never created")]
    ProjectUnknown(ProjectId),
    /// A project was created twice.
    #[error("project {0} was created twice")]
    ProjectExists(ProjectId),
    /// A key was issued twice.
    #[error("API key {0} was issued twice")]
    KeyExists(KeyId),
    /// An event about a key that was never issued.
    #[error("API key {0} was never issued")]
    KeyUnknown(KeyId),
    /// An event about somebody who is not a member.
    #[error("{0} is not a member")]
    MemberUnknown(MemberId),
    /// Somebody became a member twice.
    #[error("{0} is a member already")]
    MemberExists(MemberId),
    /// An event about an invitation that nobody made.
    #[error("invitation {0} was never made")]
    InvitationUnknown(InvitationId),
    /// An invitation was made twice.
    #[error("invitation {0} was made twice")]
    InvitationExists(InvitationId),
    /// The policy's voucher was granted twice (R4.5).
    #[error("the policy's voucher was granted twice to {0}")]
    VoucherTwice(OrgId),
    /// A sum of money that cannot be kept exactly.
    #[error("an amount leaves the range of exact numbers")]
    AmountOutOfRange,
    /// A count beyond 64 bits.
    #[error("a count leaves the range of numbers")]
    CountOutOfRange,
    /// A usage batch whose sightings do not fit its rows.
    #[error("usage was not looked up before it was folded")]
    NotLookedUp,
}
