//! Intents: what somebody or the engine itself wants recorded. Ids and secrets' hashes are made by the caller, so that
//! deciding stays pure.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;

use crate::amount::Amount;
use crate::event::{ConfigEvent, Enforcement, Period};
use crate::id::{
    DisplayName, InvitationId, InvoiceId, KeyId, MemberId, ModelName, MovementId, NodeName, OrgId, ProjectId,
    Reason, RechargeId, Reference, TokenId, VoucherId, WebhookId,
};
use crate::policy::{
    Change, Defaults, Factor, LagModel, QuantityLimits, QuantityOverride, RateOverride, Scope, Tier,
    VoucherPolicy,
};
use crate::position::LogPosition;
use crate::price::{ModelPrice, PriceList};
use crate::role::{OrgRole, ProjectRole, Verification};
use crate::sealed::{Sealed, SecretHash};
use crate::time::{Month, Timestamp, Zone};
use crate::topic::Topic;
use crate::usage::{BookedUsage, Usage, UsagePlace};

/// One intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Something about one organization.
    Organization(OrgId, OrganizationCommand),
    /// Something about the whole ledger; decided in partition 0.
    Config(ConfigCommand),
    /// Something the engine wants of a partition because of its owner or the time.
    Partition(PartitionCommand),
}

impl Command {
    /// The series that the decision will stand in.
    pub fn topic(&self) -> Topic {
        match self {
            Self::Organization(organization, _) => Topic::Organization(organization.clone()),
            Self::Config(_) | Self::Partition(_) => Topic::Config,
        }
    }
}

/// Something about one organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrganizationCommand {
    /// Register it (R1.1).
    Register {
        /// What people call it.
        name: DisplayName,
        /// Registered e-mail address.
        email: Sealed,
        /// Its creator and first administrator.
        creator: MemberId,
        /// The creator's name.
        creator_name: Sealed,
        /// The creator's e-mail address.
        creator_email: Sealed,
        /// Billing time zone.
        zone: Zone,
    },
    /// Change its name, registered e-mail address or time zone (R1.4); `None` leaves one as it is.
    Change {
        /// What people will call it.
        name: Option<DisplayName>,
        /// Registered e-mail address.
        email: Option<Sealed>,
        /// Billing time zone from the next month on.
        zone: Option<Zone>,
    },
    /// Set how far it is verified (R1.1).
    SetVerification(Verification),
    /// Override its quantity and rate limits (R1.2, R5.5).
    OverrideLimits {
        /// Active projects and API keys.
        quantities: QuantityOverride<Change<u32>>,
        /// Rate limits.
        rates: RateOverride<Change<u64>>,
    },
    /// Replace its IP allowlist (R2.2); empty: no restriction.
    SaveAllowlist(Vec<Ipv4Net>),
    /// Make its personal data unreadable (R9.2).
    EraseContacts,
    /// Invite somebody by a dedicated link (R3.3).
    Invite {
        /// The new invitation.
        invitation: InvitationId,
        /// Where it will be sent, if anywhere.
        email: Option<Sealed>,
        /// The organization role it gives.
        role: OrgRole,
        /// The projects it gives, with the role in each.
        projects: Vec<(ProjectId, ProjectRole)>,
        /// Of the link's secret token.
        token: SecretHash,
    },
    /// Take an invitation back (R3.3).
    RevokeInvitation(InvitationId),
    /// Become a member by an invitation's secret token (R3.3).
    AcceptInvitation {
        /// Of the token.
        token: SecretHash,
        /// The new member.
        member: MemberId,
        /// Their name.
        name: Sealed,
        /// Their e-mail address.
        email: Sealed,
    },
    /// Change a member's role in the organization (R3.1).
    SetRole {
        /// Who.
        member: MemberId,
        /// The role from now on.
        role: OrgRole,
    },
    /// Remove a member, and with them every key they created (R3.4).
    RemoveMember(MemberId),
    /// Create a project (R3.1).
    CreateProject {
        /// The new project.
        project: ProjectId,
        /// What people call it.
        name: DisplayName,
    },
    /// Rename a project.
    RenameProject {
        /// Which.
        project: ProjectId,
        /// What people will call it.
        name: DisplayName,
    },
    /// Archive a project, and with it every key in it.
    ArchiveProject(ProjectId),
    /// Set or remove a project's own TPM limit (R5.4).
    SetTpmLimit {
        /// The project.
        project: ProjectId,
        /// Tokens per minute.
        limit: Option<u64>,
    },
    /// Bring a member into a project (R3.2).
    AddProjectMember {
        /// The project.
        project: ProjectId,
        /// Who.
        member: MemberId,
        /// Their role there.
        role: ProjectRole,
    },
    /// Change a member's role in a project (R3.2).
    SetProjectRole {
        /// The project.
        project: ProjectId,
        /// Who.
        member: MemberId,
        /// Their role there from now on.
        role: ProjectRole,
    },
    /// Remove a member from a project, and with them every key they created in it (R3.4).
    RemoveProjectMember {
        /// The project.
        project: ProjectId,
        /// Who.
        member: MemberId,
    },
    /// Issue an API key (R3.4).
    IssueKey {
        /// The new key.
        key: KeyId,
        /// Its project.
        project: ProjectId,
        /// Whose it is; `None`: the acting member's, or the creator's where the platform acts.
        member: Option<MemberId>,
        /// What people call it.
        name: DisplayName,
        /// Of the secret.
        secret: SecretHash,
        /// What will still show of the secret.
        hint: String,
    },
    /// Revoke an API key (R3.4).
    RevokeKey {
        /// Its project.
        project: ProjectId,
        /// Which.
        key: KeyId,
    },
    /// Book a recharge, and the policy's voucher where it is earned (R4.5, R4.7).
    Recharge {
        /// The new recharge.
        recharge: RechargeId,
        /// How much.
        amount: Amount,
        /// The payment provider's.
        reference: Reference,
        /// The voucher's id, should one be granted.
        voucher: VoucherId,
    },
    /// Return unused cash (R4.8).
    Refund {
        /// The new refund.
        refund: MovementId,
        /// How much at most.
        amount: Amount,
        /// The payment provider's.
        reference: Reference,
        /// The recharge it returns, if told.
        recharge: Option<RechargeId>,
        /// The credit note's id, should one be due.
        note: InvoiceId,
    },
    /// Take a recharge back, whole or in part: a chargeback (R4.8).
    ReverseRecharge {
        /// The new reversal.
        reversal: MovementId,
        /// The recharge.
        recharge: RechargeId,
        /// How much of it; `None`: what is left of it.
        amount: Option<Amount>,
        /// The payment provider's.
        reference: Reference,
        /// Why.
        reason: Reason,
        /// The credit note's id, should one be due.
        note: InvoiceId,
    },
    /// Correct cash (R4.8).
    Adjust {
        /// The new adjustment.
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
    /// Grant a voucher (R4.2).
    GrantVoucher {
        /// The new voucher.
        voucher: VoucherId,
        /// What it is worth.
        amount: Amount,
        /// Makes it idempotent (R4.7).
        reference: Reference,
        /// When what is left of it is lost.
        expires_at: Option<Timestamp>,
        /// Why, if told.
        reason: Option<Reason>,
    },
    /// Write down the vouchers that have expired (R4.3).
    ExpireVouchers,
    /// Set or remove the credit limit (R4.1).
    SetCreditLimit(Option<Amount>),
    /// Publish prices of its own (R4.11).
    PublishPrices {
        /// The currency they are meant in.
        currency: String,
        /// The prices.
        list: NewPrices,
    },
    /// Take a booked usage record back (R4.8).
    ReverseUsage {
        /// The new reversal.
        reversal: MovementId,
        /// The record.
        usage: UsagePlace,
        /// As it was booked, read from the log.
        booked: Box<BookedUsage>,
        /// Why.
        reason: Reason,
    },
    /// Book a quarantined record whose cause is mended (R8.1).
    ReleaseUsage {
        /// Where it was quarantined.
        place: UsagePlace,
        /// The record, as mended; `None`: as it came.
        usage: Option<Box<Usage>>,
    },
    /// Say that a quarantined record will not be booked.
    DismissUsage {
        /// Where it was quarantined.
        place: UsagePlace,
        /// Why.
        reason: Reason,
    },
    /// Seal the statement of a closed month (R8.3).
    SealStatement {
        /// The month.
        month: Month,
        /// SHA-256 of its canonical bytes.
        hash: [u8; 32],
    },
    /// Issue the invoice over a closed month's recharges (R4.10).
    IssueInvoice {
        /// The new invoice.
        invoice: InvoiceId,
        /// The month.
        month: Month,
    },
    /// Register it with its past (R10.1).
    MoveIn(Box<MoveIn>),
    /// Set or remove the balance alert's threshold (R7.1).
    SetBalanceAlert(Option<Amount>),
    /// Set or remove a project's budgets (R6.2, R6.3).
    SetBudgets {
        /// The project.
        project: ProjectId,
        /// Per local day.
        daily: Option<Amount>,
        /// Per local month.
        monthly: Option<Amount>,
        /// What is compared; `None`: as before.
        enforcement: Option<Enforcement>,
    },
    /// Set the amounts of settled spend at which a project is told (R6.4).
    SetSpendNotifications {
        /// The project.
        project: ProjectId,
        /// Of a day, in any order.
        daily: Vec<Amount>,
        /// Of a month, in any order.
        monthly: Vec<Amount>,
    },
    /// Write down the first request that a breached budget refused (R6.5).
    NoteBudgetRefusal {
        /// The project.
        project: ProjectId,
        /// Which budget.
        period: Period,
        /// What made the breach visible.
        visible_from: LogPosition,
        /// When the request came.
        refused_at: Timestamp,
    },
    /// Add a webhook (R7.3).
    CreateWebhook {
        /// The new endpoint.
        webhook: WebhookId,
        /// Where alerts go.
        url: Sealed,
        /// What signs them.
        secret: Sealed,
    },
    /// Replace a webhook's secret.
    RotateWebhookSecret {
        /// The endpoint.
        webhook: WebhookId,
        /// The new secret.
        secret: Sealed,
    },
    /// Switch a webhook off.
    DisableWebhook {
        /// The endpoint.
        webhook: WebhookId,
        /// Why.
        reason: Reason,
    },
    /// Switch a webhook on again.
    EnableWebhook(WebhookId),
    /// Remove a webhook.
    RemoveWebhook(WebhookId),
}

/// An organization with a past (R10.1): nothing of it is granted again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveIn {
    /// What people call it.
    pub name: DisplayName,
    /// Registered e-mail address.
    pub email: Sealed,
    /// Its creator and first administrator.
    pub creator: MemberId,
    /// The creator's name.
    pub creator_name: Sealed,
    /// The creator's e-mail address.
    pub creator_email: Sealed,
    /// Billing time zone.
    pub zone: Zone,
    /// How far it is verified.
    pub verification: Verification,
    /// Opening cash, negative when owed.
    pub cash: Amount,
    /// Cumulative recharge so far.
    pub cumulative_recharge: Amount,
    /// Whether the policy's voucher was granted already (R4.5).
    pub voucher_granted: bool,
    /// Payment references already used (R4.7).
    pub references: Vec<Reference>,
    /// Vouchers with what is left of each and when that is lost.
    pub vouchers: Vec<(VoucherId, Amount, Option<Timestamp>)>,
    /// Members besides the creator.
    pub members: Vec<MovedInMember>,
    /// Projects with what people call them.
    pub projects: Vec<(ProjectId, DisplayName)>,
    /// Roles in projects.
    pub project_roles: Vec<(ProjectId, MemberId, ProjectRole)>,
    /// Keys that work already.
    pub keys: Vec<MovedInKey>,
}

/// A member of an organization that is moved in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedInMember {
    /// The member.
    pub member: MemberId,
    /// Their name.
    pub name: Sealed,
    /// Their e-mail address.
    pub email: Sealed,
    /// Their role.
    pub role: OrgRole,
}

/// A key of an organization that is moved in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedInKey {
    /// The key.
    pub key: KeyId,
    /// Its project.
    pub project: ProjectId,
    /// Who created it.
    pub member: MemberId,
    /// What people call it.
    pub name: DisplayName,
    /// Of the secret that customers have.
    pub secret: SecretHash,
    /// What still shows of the secret.
    pub hint: String,
}

/// Prices to publish; a list with its begin is one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPrices {
    /// When they begin; `None`: when they are recorded, which only the decision knows.
    pub effective_from: Option<Timestamp>,
    /// By model.
    pub models: BTreeMap<ModelName, ModelPrice>,
}

impl From<PriceList> for NewPrices {
    fn from(list: PriceList) -> Self {
        Self { effective_from: Some(list.effective_from), models: list.models }
    }
}

/// Everybody's rate limits to scale down for a time (R5.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRateScale {
    /// What limits are multiplied by.
    pub factor: Factor,
    /// When it ends by itself.
    pub until: Timestamp,
    /// What customers are told.
    pub reason: Reason,
    /// Only these tiers, in any order; empty: all.
    pub tiers: Vec<DisplayName>,
}

/// Something about the whole ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigCommand {
    /// Publish prices (R4.11).
    PublishPrices {
        /// The currency they are meant in.
        currency: String,
        /// The prices.
        list: NewPrices,
    },
    /// Set the billing cycle (R6.3).
    SetLagModel(LagModel),
    /// Set how many projects and API keys organizations may have (R1.2).
    SetQuantityLimits(QuantityLimits),
    /// Publish a tier table (R5).
    PublishTiers {
        /// When it begins to hold; `None`: when it is recorded.
        effective_from: Option<Timestamp>,
        /// Its rows.
        tiers: Vec<Tier>,
    },
    /// Set when a voucher is granted for recharging (R4.5).
    SetVoucherPolicy(VoucherPolicy),
    /// Set what holds where an organization or model says nothing else.
    SetDefaults(Defaults),
    /// Scale everybody's rate limits down for a time; `None` ends it (R5.5).
    SetRateScale(Option<NewRateScale>),
    /// Issue a service token.
    IssueToken {
        /// The new token.
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
    /// Revoke a service token.
    RevokeToken(TokenId),
    /// Make a durable consumer on the alert stream (R7.3).
    CreateSubscription {
        /// Its name: letters, digits, `_` and `-`.
        name: DisplayName,
        /// The organizations it is limited to; `None`: all.
        organizations: Option<Vec<OrgId>>,
    },
    /// Remove it.
    RemoveSubscription(DisplayName),
}

/// Something the engine wants of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionCommand {
    /// Take it over.
    TakeOwnership(NodeName),
    /// Close the billing cycles that have ended.
    CloseCycles,
    /// Close the months that have ended in zones that organizations use (R8.3).
    CloseMonths,
    /// Copy configuration from partition 0.
    CopyConfig {
        /// The entry there.
        of: LogPosition,
        /// What it says.
        events: Vec<ConfigEvent>,
    },
}
