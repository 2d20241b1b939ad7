//! Facts: everything that the log can say, one enum per family. Variants are written by their place in the enum, so
//! new ones go last and none is ever moved or removed.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::id::{
    DisplayName, InvitationId, InvoiceId, KeyId, LedgerId, MemberId, ModelName, MovementId, NodeName, OrgId,
    ProjectId, Reason, RechargeId, Reference, TokenId, VoucherId, WebhookId,
};
use crate::policy::{
    Change, Defaults, LagModel, QuantityLimits, QuantityOverride, RateOverride, RateScale, Scope, TierTable,
    VoucherPolicy,
};
use crate::position::LogPosition;
use crate::price::{ModelPrice, PriceList};
use crate::role::{OrgRole, ProjectRole, Verification};
use crate::sealed::{Sealed, SecretHash};
use crate::time::{Month, Timestamp, Zone};
use crate::usage::{BookedUsage, Usage, UsagePlace};

/// One fact. Every event of an organization stands in an entry about that organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The organization itself (R1, R2).
    Organization(OrganizationEvent),
    /// Its members and invitations (R3).
    Member(MemberEvent),
    /// Its projects (R6).
    Project(ProjectEvent),
    /// Its API keys (R3.4, R3.6).
    Key(KeyEvent),
    /// Its money (R4).
    Money(MoneyEvent),
    /// Its quarantined usage (R8.1).
    Quarantine(QuarantineEvent),
    /// Its webhooks (R7.3).
    Webhook(WebhookEvent),
    /// Configuration of the whole ledger, copied to every partition.
    Config(ConfigEvent),
    /// What happened to a partition because of its owner or the time.
    Partition(PartitionEvent),
}

impl Event {
    /// The term that its owner begins, if it says that somebody took the partition over.
    pub const fn term_taken(&self) -> Option<u64> {
        match self {
            Self::Partition(PartitionEvent::OwnershipTaken { term, .. }) => Some(*term),
            Self::Partition(
                PartitionEvent::BillingCycleClosed { .. } | PartitionEvent::MonthClosed { .. },
            )
            | Self::Organization(_)
            | Self::Member(_)
            | Self::Project(_)
            | Self::Key(_)
            | Self::Money(_)
            | Self::Quarantine(_)
            | Self::Webhook(_)
            | Self::Config(_) => None,
        }
    }
}

/// The organization itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrganizationEvent {
    /// It was registered; its creator is its first administrator (R1.1).
    Registered {
        /// What people call it; not personal data (R9.1).
        name: DisplayName,
        /// Registered e-mail address.
        email: Sealed,
        /// The creator.
        creator: MemberId,
        /// The creator's name.
        creator_name: Sealed,
        /// The creator's e-mail address.
        creator_email: Sealed,
        /// Billing time zone.
        zone: Zone,
    },
    /// Its name changed (R1.4).
    Renamed {
        /// The new name.
        name: DisplayName,
    },
    /// Its registered e-mail address changed (R1.4).
    EmailChanged {
        /// The new address.
        email: Sealed,
    },
    /// Its time zone changes with the next month (R1.4).
    ZoneChanged {
        /// The new zone.
        zone: Zone,
        /// The first month that it holds for.
        from: Month,
    },
    /// The platform verified it, or took that back (R1.1, R1.3).
    VerificationChanged {
        /// The level from now on.
        level: Verification,
    },
    /// The operator overrode quantity limits (R1.2).
    QuantityOverridden(QuantityOverride<Change<u32>>),
    /// The operator overrode rate limits (R5.5).
    RateOverridden(RateOverride<Change<u64>>),
    /// The allowlist was replaced; empty: no restriction (R2.2).
    AllowlistSaved {
        /// Networks, in the order given, without exact duplicates.
        entries: Vec<Ipv4Net>,
    },
    /// The balance alert's threshold was set or removed (R7.1).
    BalanceAlertSet {
        /// `None`: no alert.
        threshold: Option<Amount>,
    },
    /// The operator set or removed a credit limit (R4.1).
    CreditLimitSet {
        /// How far vouchers plus cash may go below zero.
        limit: Option<Amount>,
    },
    /// It got prices of its own (R4.11).
    PricesPublished(PriceList),
    /// Its personal data was made unreadable (R9.2).
    ContactsErased,
    /// It was moved in with its past; grants nothing and raises no alert (R10.1).
    MovedIn {
        /// Opening cash, negative when owed.
        cash: Amount,
        /// Cumulative recharge so far.
        cumulative_recharge: Amount,
        /// Whether the policy's voucher was granted already (R4.5).
        voucher_granted: bool,
        /// Payment references already used (R4.7).
        references: Vec<Reference>,
    },
}

/// Members and invitations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberEvent {
    /// Somebody was invited by a dedicated link (R3.3).
    Invited {
        /// The invitation.
        invitation: InvitationId,
        /// Where it was sent, if anywhere.
        email: Option<Sealed>,
        /// The organization role it gives.
        role: OrgRole,
        /// The projects it gives, with the role in each.
        projects: Vec<(ProjectId, ProjectRole)>,
        /// Of the link's secret token.
        token: SecretHash,
        /// When the link ends.
        expires_at: Timestamp,
    },
    /// An invitation was taken back (R3.3).
    InvitationRevoked {
        /// Which.
        invitation: InvitationId,
    },
    /// Somebody became a member; the invitation is used up (R3.3).
    Joined {
        /// The new member.
        member: MemberId,
        /// What they accepted; `None` when moved in (R10.1).
        invitation: Option<InvitationId>,
        /// Their name.
        name: Sealed,
        /// Their e-mail address.
        email: Sealed,
        /// Their role.
        role: OrgRole,
    },
    /// A member's role in the organization changed (R3.1).
    RoleChanged {
        /// Who.
        member: MemberId,
        /// The role from now on.
        role: OrgRole,
    },
    /// A member left or was removed (R3.4); their keys are revoked by events of their own in the same entry.
    Removed {
        /// Who.
        member: MemberId,
    },
    /// A member was brought into a project, or got another role there (R3.2).
    ProjectRoleSet {
        /// The project.
        project: ProjectId,
        /// Who.
        member: MemberId,
        /// The role from now on.
        role: ProjectRole,
    },
    /// A member was removed from a project (R3.4).
    ProjectLeft {
        /// The project.
        project: ProjectId,
        /// Who.
        member: MemberId,
    },
}

/// Whether a budget may be overshot by what enforcement learns late (R6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enforcement {
    /// Settled consumption is compared.
    #[default]
    Settled,
    /// Settled, pending and held consumption is compared.
    Strict,
}

/// The period of a budget (R6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// A local day.
    Daily,
    /// A local month.
    Monthly,
}

/// Projects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProjectEvent {
    /// It was created.
    Created {
        /// The project.
        project: ProjectId,
        /// What people call it.
        name: DisplayName,
    },
    /// Its name changed.
    Renamed {
        /// The project.
        project: ProjectId,
        /// The new name.
        name: DisplayName,
    },
    /// It was archived; its keys are revoked by events of their own in the same entry.
    Archived {
        /// The project.
        project: ProjectId,
    },
    /// Its own TPM limit was set or removed (R5.4).
    TpmLimitSet {
        /// The project.
        project: ProjectId,
        /// Tokens per minute as asked for; what applies is the lesser of this and the organization's.
        limit: Option<u64>,
    },
    /// Its budgets were set (R6.2, R6.3).
    BudgetsSet {
        /// The project.
        project: ProjectId,
        /// Per local day.
        daily: Option<Amount>,
        /// Per local month.
        monthly: Option<Amount>,
        /// What is compared.
        enforcement: Enforcement,
    },
    /// Its spend notifications were set (R6.4).
    SpendNotificationsSet {
        /// The project.
        project: ProjectId,
        /// Amounts of settled spend in a day.
        daily: Vec<Amount>,
        /// Amounts of settled spend in a month.
        monthly: Vec<Amount>,
    },
    /// The first request was refused because of a breached budget; one per breach (R6.5).
    BudgetRefused {
        /// The project.
        project: ProjectId,
        /// Which budget.
        period: Period,
        /// The close that made the breach visible.
        visible_from: LogPosition,
        /// When the request came.
        refused_at: Timestamp,
    },
}

/// Why a key stopped working (R3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revocation {
    /// Somebody asked for it.
    Requested,
    /// Its creator left the project or the organization.
    MemberRemoved,
    /// Its creator lost the organization role that reached the project.
    MemberDemoted,
    /// Its project was archived.
    ProjectArchived,
}

/// API keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyEvent {
    /// It was created; the secret was shown once and is kept only as a hash (R3.6).
    Issued {
        /// The key.
        key: KeyId,
        /// The project it belongs to.
        project: ProjectId,
        /// The member who created it (R3.4).
        member: MemberId,
        /// What people call it.
        name: DisplayName,
        /// Of the secret.
        secret: SecretHash,
        /// What still shows of the secret: its last four characters.
        hint: String,
    },
    /// It stopped working.
    Revoked {
        /// The key.
        key: KeyId,
        /// Why.
        why: Revocation,
    },
}

/// Where a voucher came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VoucherOrigin {
    /// The voucher policy, once per organization (R4.5).
    Policy,
    /// The operator.
    Operator {
        /// Makes the grant idempotent (R4.7).
        reference: Reference,
        /// Why, if told.
        reason: Option<Reason>,
    },
    /// The system that the organization was moved in from (R10.1).
    MovedIn,
}

/// Money. Events carry intentions where usage may be booked between deciding and appending; the fold computes the
/// amount at its position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MoneyEvent {
    /// Cash came in (R4.7).
    Recharged {
        /// The recharge.
        recharge: RechargeId,
        /// How much.
        amount: Amount,
        /// The payment provider's.
        reference: Reference,
    },
    /// A recharge was taken back whole or in part (R4.8).
    RechargeReversed {
        /// This reversal.
        reversal: MovementId,
        /// The recharge.
        recharge: RechargeId,
        /// How much of it.
        amount: Amount,
        /// The payment provider's.
        reference: Reference,
        /// Why.
        reason: Reason,
    },
    /// Unused cash was returned: the lesser of this and the cash there is here (R4.8).
    Refunded {
        /// This refund.
        refund: MovementId,
        /// What was asked for.
        requested: Amount,
        /// The payment provider's.
        reference: Reference,
        /// The recharge it returns, if told.
        recharge: Option<RechargeId>,
    },
    /// Cash was corrected, up or down (R4.8).
    Adjusted {
        /// This adjustment.
        adjustment: MovementId,
        /// How much, negative to take away.
        amount: Amount,
        /// Makes it idempotent (R4.7).
        reference: Reference,
        /// Why.
        reason: Reason,
        /// The entry it corrects.
        corrects: Option<LogPosition>,
    },
    /// A voucher was granted (R4.2).
    VoucherGranted {
        /// The voucher.
        voucher: VoucherId,
        /// What it is worth.
        amount: Amount,
        /// When what is left of it is lost.
        expires_at: Option<Timestamp>,
        /// Where it came from.
        origin: VoucherOrigin,
    },
    /// What is left of a voucher here was lost (R4.3).
    VoucherExpired {
        /// The voucher.
        voucher: VoucherId,
    },
    /// What is left of the policy's voucher here was withdrawn (R4.8).
    VoucherWithdrawn {
        /// The voucher.
        voucher: VoucherId,
        /// Unless cumulative recharge is at least this here.
        below: Amount,
    },
    /// A booked usage record was taken back (R4.8).
    UsageReversed {
        /// This reversal.
        reversal: MovementId,
        /// The record it corrects.
        usage: UsagePlace,
        /// As it was booked.
        booked: Box<BookedUsage>,
        /// Why.
        reason: Reason,
    },
    /// The statement of a closed month was sealed; it never changes (R8.3).
    StatementSealed {
        /// The month.
        month: Month,
        /// SHA-256 of its canonical bytes.
        hash: [u8; 32],
    },
    /// An invoice was issued over recharges, each recharge once (R4.10).
    InvoiceIssued {
        /// The invoice.
        invoice: InvoiceId,
        /// Counted without gaps.
        number: u64,
        /// The closed month.
        month: Month,
        /// What was paid, less what was taken back before this invoice.
        recharges: Vec<(RechargeId, Amount)>,
    },
    /// A refund or reversal of an invoiced recharge was credited (R4.10).
    CreditNoteIssued {
        /// The credit note.
        note: InvoiceId,
        /// Counted without gaps, in one series with invoices.
        number: u64,
        /// The invoice it belongs to.
        invoice: InvoiceId,
        /// The refund or reversal.
        movement: MovementId,
    },
    /// A voucher will expire within days, and somebody is told (R7.2).
    VoucherExpiring {
        /// The voucher.
        voucher: VoucherId,
    },
}

/// What became of quarantined usage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QuarantineEvent {
    /// It was released once its cause was mended, and is booked here as if it came now (R8.1).
    Released {
        /// Where it was quarantined.
        place: UsagePlace,
        /// The record, as mended.
        usage: Box<Usage>,
        /// Whether its `producerseq` was not counted when it came: one that was counted since is not booked again.
        uncounted: bool,
    },
    /// It was looked at and will not be booked.
    Dismissed {
        /// Where it was quarantined.
        place: UsagePlace,
        /// Why.
        reason: Reason,
    },
}

/// Webhooks (R7.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WebhookEvent {
    /// An endpoint was added.
    Created {
        /// The endpoint.
        webhook: WebhookId,
        /// Where alerts go; encrypted, because a URL may carry credentials.
        url: Sealed,
        /// What signs them.
        secret: Sealed,
    },
    /// Its secret was replaced; the old one signs beside it until then.
    SecretRotated {
        /// The endpoint.
        webhook: WebhookId,
        /// The new secret.
        secret: Sealed,
        /// When the old secret ends.
        old_until: Timestamp,
    },
    /// It was switched off because it said that it is gone, or failed for too long.
    Disabled {
        /// The endpoint.
        webhook: WebhookId,
        /// What happened.
        reason: Reason,
    },
    /// It was removed.
    Removed {
        /// The endpoint.
        webhook: WebhookId,
    },
    /// It was switched on again.
    Enabled {
        /// The endpoint.
        webhook: WebhookId,
    },
}

/// Configuration of the whole ledger. Decided in partition 0 and copied to the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigEvent {
    /// The ledger began; the first event of every partition.
    LedgerCreated {
        /// Its id.
        ledger: LedgerId,
        /// Its one currency, ISO 4217 (R1.5).
        currency: String,
        /// How many partitions it has, for ever.
        partitions: u16,
    },
    /// Prices were published; they merge by model and instant (R4.11).
    PricesPublished(PriceList),
    /// A tier table was published (R5).
    TiersPublished(TierTable),
    /// Billing cycles changed; a new cycle starts here (R6.3).
    LagModelSet(LagModel),
    /// The voucher policy changed; grants nothing backwards (R4.5).
    VoucherPolicySet(VoucherPolicy),
    /// Quantity limits changed (R1.2).
    QuantityLimitsSet(QuantityLimits),
    /// Defaults changed.
    DefaultsSet(Defaults),
    /// Everybody's rate limits were scaled, or are no longer (R5.5).
    RateScaleSet(Option<RateScale>),
    /// A service token was issued; the secret was shown once.
    TokenIssued {
        /// The token.
        token: TokenId,
        /// What people call it.
        name: DisplayName,
        /// What it may be used for.
        scopes: Vec<Scope>,
        /// The organizations it is limited to; `None`: all.
        organizations: Option<Vec<OrgId>>,
        /// Of its secret.
        secret: SecretHash,
    },
    /// A service token stopped working.
    TokenRevoked {
        /// The token.
        token: TokenId,
    },
    /// Somebody subscribed to the alert stream by a durable consumer (R7.3).
    SubscriptionCreated {
        /// The consumer's name.
        name: DisplayName,
        /// The organizations it is limited to; `None`: all.
        organizations: Option<Vec<OrgId>>,
    },
    /// A subscription ended.
    SubscriptionRemoved {
        /// The consumer's name.
        name: DisplayName,
    },
}

/// What happened to a partition because of its owner or because time passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartitionEvent {
    /// A node took over; decisions of older terms that stand after this are void.
    OwnershipTaken {
        /// Higher than every term before.
        term: u64,
        /// The node.
        node: NodeName,
        /// Version of the time-zone database it decides with.
        zone_database: String,
    },
    /// Billing cycles ended: what was pending is settled from here on (R6.3).
    BillingCycleClosed {
        /// The last boundary that passed.
        through: Timestamp,
        /// How many cycles it covers, more than one after downtime.
        cycles: u32,
    },
    /// A month ended in a time zone: usage booked from here on belongs to the next one (R8.3).
    MonthClosed {
        /// The zone.
        zone: Zone,
        /// The month.
        month: Month,
        /// The first instant after it, whatever another version of the time zone database would say.
        until: Timestamp,
    },
}

/// Prices of one list by model, for those who merge lists.
pub type ModelPrices = BTreeMap<ModelName, ModelPrice>;
