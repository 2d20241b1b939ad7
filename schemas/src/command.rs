//! Intents: what somebody or the engine itself wants recorded. Ids and secrets' hashes are made by the caller, so that
//! deciding stays pure.

use crate::amount::Amount;
use crate::event::ConfigEvent;
use crate::id::{
    DisplayName, KeyId, MemberId, NodeName, OrgId, ProjectId, RechargeId, Reference, TokenId, VoucherId,
};
use crate::policy::{LagModel, Scope};
use crate::position::LogPosition;
use crate::price::PriceList;
use crate::sealed::{Sealed, SecretHash};
use crate::time::Zone;
use crate::topic::Topic;

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
    /// Create a project (R3.1).
    CreateProject {
        /// The new project.
        project: ProjectId,
        /// What people call it.
        name: DisplayName,
    },
    /// Issue an API key (R3.4).
    IssueKey {
        /// The new key.
        key: KeyId,
        /// Its project.
        project: ProjectId,
        /// Whose it is; `None`: the creator's.
        member: Option<MemberId>,
        /// What people call it.
        name: DisplayName,
        /// Of the secret.
        secret: SecretHash,
        /// What will still show of the secret.
        hint: String,
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
}

/// Something about the whole ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigCommand {
    /// Publish prices (R4.11).
    PublishPrices {
        /// The currency they are meant in.
        currency: String,
        /// The prices.
        list: PriceList,
    },
    /// Set the billing cycle (R6.3).
    SetLagModel(LagModel),
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
}

/// Something the engine wants of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionCommand {
    /// Take it over.
    TakeOwnership(NodeName),
    /// Close the billing cycles that have ended.
    CloseCycles,
    /// Copy configuration from partition 0.
    CopyConfig {
        /// The entry there.
        of: LogPosition,
        /// What it says.
        events: Vec<ConfigEvent>,
    },
}
