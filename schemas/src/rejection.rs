//! Refusals: a rule said no. Codes are stable and never reused. Who asks is checked before what it is about, and that
//! before what the rules say of it.

use crate::amount::Amount;
use crate::id::{
    DisplayName, InvitationId, KeyId, MemberId, ModelName, OrgId, ProjectId, RechargeId, Reference, TokenId,
    WebhookId,
};
use crate::position::LogPosition;
use crate::role::Verification;
use crate::time::Timestamp;

/// What kind of refusal it is, which decides the HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectionKind {
    /// The actor may not do this: 403.
    Forbidden,
    /// What it is about does not exist: 404.
    NotFound,
    /// It contradicts something recorded: 409.
    Conflict,
    /// A rule says no: 422.
    Refused,
}

/// Why a command was refused. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The same idempotency key came with another request (INTERFACES, HTTP).
    #[error("this Idempotency-Key was used for another request, recorded at {first}; use a new key")]
    IdempotencyConflict {
        /// What the key was first used for.
        first: LogPosition,
    },
    /// No such organization.
    #[error("there is no organization {0}")]
    OrganizationUnknown(OrgId),
    /// An id is taken.
    #[error("there is an organization {0} already")]
    OrganizationExists(OrgId),
    /// A project's id is taken.
    #[error("there is a project {0} already")]
    ProjectExists(ProjectId),
    /// A key's id is taken.
    #[error("there is an API key {0} already")]
    KeyExists(KeyId),
    /// No such project in the organization.
    #[error("there is no project {0} in this organization")]
    ProjectUnknown(ProjectId),
    /// The project was archived.
    #[error("project {0} is archived")]
    ProjectArchived(ProjectId),
    /// No such member in the organization.
    #[error("there is no member {0} in this organization")]
    MemberUnknown(MemberId),
    /// No such key in the organization.
    #[error("there is no API key {0} in this project")]
    KeyUnknown(KeyId),
    /// No such invitation, or a wrong token.
    #[error("there is no such invitation")]
    InvitationUnknown,
    /// The invitation was used, revoked, or ran out.
    #[error("invitation {invitation} can no longer be used; ask for a new one")]
    InvitationOver {
        /// Which.
        invitation: InvitationId,
    },
    /// No such recharge in the organization.
    #[error("there is no recharge {0} in this organization")]
    RechargeUnknown(RechargeId),
    /// No such service token.
    #[error("there is no token {0}")]
    TokenUnknown(TokenId),
    /// The actor's role does not allow this (R3).
    #[error("this needs {needed}")]
    RoleMissing {
        /// What would be enough, in words.
        needed: &'static str,
    },
    /// The organization's verification level does not allow this (R2.3, R3.3).
    #[error("this needs the organization's {} to be completed", needed.step())]
    VerificationMissing {
        /// The lowest level that is enough.
        needed: Verification,
    },
    /// Whoever a console names is not a member of the organization.
    #[error("{0} is not a member of this organization")]
    ActorUnknown(MemberId),
    /// Everyone makes their own keys (R3.4).
    #[error("everyone makes their own API keys; leave member out")]
    KeyOfAnother,
    /// Not a member of the project (R3.3).
    #[error("{member} is not a member of project {project}; bring them into it first")]
    NotInProject {
        /// Who.
        member: MemberId,
        /// The project.
        project: ProjectId,
    },
    /// Not a member of the project whose membership should change.
    #[error("there is no member {member} in project {project}")]
    ProjectMemberUnknown {
        /// Who.
        member: MemberId,
        /// The project.
        project: ProjectId,
    },
    /// Only one who holds an invitation can accept it.
    #[error("an invitation is accepted by its token, not on behalf of a member")]
    NotAnInvitee,
    /// Personal data was sealed under a key that was erased meanwhile (R9.2).
    #[error("the organization's personal data was erased meanwhile; send the request again")]
    ContactsErased,
    /// The creator cannot be removed or demoted (R3.5).
    #[error("the organization's creator cannot be removed or demoted")]
    CreatorStays,
    /// As many active projects as allowed (R1.2).
    #[error(
        "the organization has {current} of at most {limit} active projects; archive one or contact sales"
    )]
    ProjectLimit {
        /// Active projects now.
        current: u32,
        /// The limit in force.
        limit: u32,
    },
    /// As many active API keys as allowed (R1.2).
    #[error("the organization has {current} of at most {limit} active API keys; revoke one or contact sales")]
    KeyLimit {
        /// Active keys now.
        current: u32,
        /// The limit in force.
        limit: u32,
    },
    /// More pending invitations than allowed.
    #[error("the organization has {current} of at most {limit} open invitations; revoke one")]
    InvitationLimit {
        /// Open now.
        current: u32,
        /// The limit.
        limit: u32,
    },
    /// An invitation's id is taken.
    #[error("there is an invitation {0} already")]
    InvitationExists(InvitationId),
    /// Somebody is a member already.
    #[error("{0} is a member already")]
    MemberExists(MemberId),
    /// A money reference came before with other content (R4.7).
    #[error(
        "reference {reference} was used with other content, recorded at {first}; use the payment's own reference"
    )]
    ReferenceConflict {
        /// The reference.
        reference: Reference,
        /// Where it was first used.
        first: LogPosition,
    },
    /// An amount that must be more than nothing.
    #[error("the amount must be more than 0")]
    AmountNotPositive,
    /// An amount that would leave the range of exact numbers.
    #[error("the amount would take a balance beyond what can be kept exactly")]
    AmountOutOfRange,
    /// An adjustment of nothing.
    #[error("the amount must not be 0")]
    AmountZero,
    /// More than what is left of the recharge that a refund names (R4.8).
    #[error("only {left} of this recharge is left to refund")]
    RefundTooLarge {
        /// What is left.
        left: Amount,
    },
    /// An entry that does not exist cannot be corrected.
    #[error("there is no entry {0} to correct")]
    EntryUnknown(LogPosition),
    /// No unused cash to refund (R4.8).
    #[error("there is no unused cash to refund")]
    NothingToRefund,
    /// More than what is left of the recharge (R4.8).
    #[error("only {left} of this recharge is left to reverse")]
    ReversalTooLarge {
        /// What is left.
        left: Amount,
    },
    /// An expiry that has passed.
    #[error("the expiry must be in the future")]
    ExpiryPassed,
    /// A price change that would begin before it is recorded (R4.11).
    #[error(
        "prices of {model} are in force, so a change may not begin before it is recorded, at {now}; leave effective_from out or in the future"
    )]
    PriceInThePast {
        /// The model.
        model: ModelName,
        /// The earliest begin.
        now: Timestamp,
    },
    /// Prices in another currency than the ledger's (R1.5).
    #[error("the ledger's currency is {0}")]
    CurrencyMismatch(String),
    /// A row of a tier table that does not lie above the one before it, or the first not above nothing (R5.1).
    #[error("{0} must begin at more cumulative recharge than the tier before it, the first at more than 0")]
    TiersUnordered(DisplayName),
    /// A tier table that would begin before it is recorded.
    #[error(
        "tiers may not begin before they are recorded, at {now}; leave effective_from out or in the future"
    )]
    TiersInThePast {
        /// The earliest begin.
        now: Timestamp,
    },
    /// Rate limits scaled down until an instant that has passed (R5.5).
    #[error("until must be after {now}, when the scale would begin")]
    RateScaleOver {
        /// When it is recorded.
        now: Timestamp,
    },
    /// A tier that is not in the table in force.
    #[error("there is no tier {0} in the table in force")]
    TierUnknown(DisplayName),
    /// A month that has not ended.
    #[error("the month is not closed yet")]
    MonthOpen,
    /// A recharge that an invoice covers already (R4.10).
    #[error("every recharge of the month has been invoiced")]
    NothingToInvoice,
    /// A quarantined record that is not there, or was released or dismissed.
    #[error("there is no such record in quarantine")]
    NotInQuarantine,
    /// A quarantined record was released with other content.
    #[error("the record was released with other content, recorded at {0}")]
    ReleasedOtherwise(LogPosition),
    /// A key that is moved in is somebody's already: its requests would be charged to whoever is found first.
    #[error("the secret of API key {0} is in use by another organization or was; nothing is moved in")]
    SecretTaken(DisplayName),
    /// A released record whose cause is not mended.
    #[error("the record still cannot be booked: {0}")]
    StillUnbookable(&'static str),
    /// A name of a subscription or tier that is taken.
    #[error("there is a {0} already")]
    NameTaken(DisplayName),
    /// No such webhook in the organization.
    #[error("there is no webhook {0} in this organization")]
    WebhookUnknown(WebhookId),
    /// As many webhooks as allowed (R7.3).
    #[error("the organization has {limit} webhooks, which is as many as it may have; remove one")]
    WebhookLimit {
        /// The limit.
        limit: usize,
    },
    /// No such subscription to the alert stream.
    #[error("there is no alert subscription {0}")]
    SubscriptionUnknown(DisplayName),
}

impl Rejection {
    /// A stable code, never reused.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::IdempotencyConflict { .. } => "idempotency_conflict",
            Self::OrganizationUnknown(_) => "organization_not_found",
            Self::OrganizationExists(_) => "organization_exists",
            Self::ProjectExists(_) => "project_exists",
            Self::KeyExists(_) => "api_key_exists",
            Self::ProjectUnknown(_) => "project_not_found",
            Self::ProjectArchived(_) => "project_archived",
            Self::MemberUnknown(_) => "member_not_found",
            Self::KeyUnknown(_) => "api_key_not_found",
            Self::InvitationUnknown => "invitation_not_found",
            Self::InvitationOver { .. } => "invitation_over",
            Self::RechargeUnknown(_) => "recharge_not_found",
            Self::TokenUnknown(_) => "token_not_found",
            Self::RoleMissing { .. } => "role_missing",
            Self::VerificationMissing { .. } => "verification_missing",
            Self::ActorUnknown(_) => "not_a_member",
            Self::KeyOfAnother => "api_key_of_another",
            Self::NotInProject { .. } => "not_in_project",
            Self::ProjectMemberUnknown { .. } => "project_member_not_found",
            Self::NotAnInvitee => "not_an_invitee",
            Self::ContactsErased => "contacts_erased",
            Self::CreatorStays => "creator_stays",
            Self::ProjectLimit { .. } => "project_limit",
            Self::KeyLimit { .. } => "api_key_limit",
            Self::InvitationLimit { .. } => "invitation_limit",
            Self::InvitationExists(_) => "invitation_exists",
            Self::MemberExists(_) => "member_exists",
            Self::ReferenceConflict { .. } => "reference_conflict",
            Self::AmountNotPositive => "amount_not_positive",
            Self::AmountOutOfRange => "amount_out_of_range",
            Self::AmountZero => "amount_zero",
            Self::RefundTooLarge { .. } => "refund_too_large",
            Self::EntryUnknown(_) => "entry_not_found",
            Self::NothingToRefund => "nothing_to_refund",
            Self::ReversalTooLarge { .. } => "reversal_too_large",
            Self::ExpiryPassed => "expiry_passed",
            Self::PriceInThePast { .. } => "price_in_the_past",
            Self::CurrencyMismatch(_) => "currency_mismatch",
            Self::TiersUnordered(_) => "tiers_unordered",
            Self::TiersInThePast { .. } => "tiers_in_the_past",
            Self::RateScaleOver { .. } => "rate_scale_over",
            Self::TierUnknown(_) => "tier_unknown",
            Self::MonthOpen => "month_open",
            Self::NothingToInvoice => "nothing_to_invoice",
            Self::NotInQuarantine => "not_in_quarantine",
            Self::ReleasedOtherwise(_) => "released_otherwise",
            Self::SecretTaken(_) => "api_key_secret_taken",
            Self::StillUnbookable(_) => "still_unbookable",
            Self::NameTaken(_) => "name_taken",
            Self::WebhookUnknown(_) => "webhook_not_found",
            Self::WebhookLimit { .. } => "webhook_limit",
            Self::SubscriptionUnknown(_) => "alert_subscription_not_found",
        }
    }

    /// What kind of refusal it is.
    pub const fn kind(&self) -> RejectionKind {
        match self {
            Self::RoleMissing { .. }
            | Self::VerificationMissing { .. }
            | Self::ActorUnknown(_)
            | Self::KeyOfAnother
            | Self::NotAnInvitee => RejectionKind::Forbidden,
            Self::OrganizationUnknown(_)
            | Self::ProjectUnknown(_)
            | Self::MemberUnknown(_)
            | Self::ProjectMemberUnknown { .. }
            | Self::KeyUnknown(_)
            | Self::InvitationUnknown
            | Self::RechargeUnknown(_)
            | Self::TokenUnknown(_)
            | Self::EntryUnknown(_)
            | Self::WebhookUnknown(_)
            | Self::SubscriptionUnknown(_)
            | Self::NotInQuarantine => RejectionKind::NotFound,
            Self::IdempotencyConflict { .. }
            | Self::OrganizationExists(_)
            | Self::ProjectExists(_)
            | Self::KeyExists(_)
            | Self::ReferenceConflict { .. }
            | Self::InvitationExists(_)
            | Self::MemberExists(_)
            | Self::ContactsErased
            | Self::ReleasedOtherwise(_)
            | Self::SecretTaken(_)
            | Self::NameTaken(_) => RejectionKind::Conflict,
            Self::ProjectArchived(_)
            | Self::InvitationOver { .. }
            | Self::NotInProject { .. }
            | Self::CreatorStays
            | Self::ProjectLimit { .. }
            | Self::KeyLimit { .. }
            | Self::InvitationLimit { .. }
            | Self::AmountNotPositive
            | Self::AmountOutOfRange
            | Self::AmountZero
            | Self::RefundTooLarge { .. }
            | Self::NothingToRefund
            | Self::ReversalTooLarge { .. }
            | Self::ExpiryPassed
            | Self::PriceInThePast { .. }
            | Self::CurrencyMismatch(_)
            | Self::TiersUnordered(_)
            | Self::TiersInThePast { .. }
            | Self::RateScaleOver { .. }
            | Self::TierUnknown(_)
            | Self::MonthOpen
            | Self::NothingToInvoice
            | Self::WebhookLimit { .. }
            | Self::StillUnbookable(_) => RejectionKind::Refused,
        }
    }
}
