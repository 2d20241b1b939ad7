//! Alerts: what people and programs are told because of what the log says (R7).

use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::event::{Period, Revocation};
use crate::id::{AlertId, DisplayName, KeyId, LedgerId, OrgId, ProjectId, Reason, VoucherId, WebhookId};
use crate::policy::RateScale;
use crate::position::LogPosition;
use crate::time::{Day, Timestamp};
use crate::usage::{QuarantineReason, UsagePlace};

/// Something that somebody is told, once (R7.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Derived from what caused it, so that it is the same after every replay.
    pub id: AlertId,
    /// Whose; `None`: the platform's own.
    pub organization: Option<OrgId>,
    /// The entry that caused it.
    pub position: LogPosition,
    /// Counts the alerts of the same organization and kind that the entry caused, from 0.
    pub number: u32,
    /// When that entry was recorded.
    pub raised_at: Timestamp,
    /// What it says.
    pub data: AlertData,
}

impl Alert {
    /// The id of the alert that an entry caused: of its ledger, place, organization, kind and number, and of nothing that
    /// a later version could see differently.
    pub fn id_of(
        ledger: &LedgerId,
        position: LogPosition,
        organization: Option<&OrgId>,
        kind: AlertKind,
        number: u32,
    ) -> AlertId {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();
        let texts = [ledger.as_str(), organization.map_or("", OrgId::as_str), kind.code()];
        for text in texts {
            hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(text);
        }
        hash.update(position.partition.0.to_be_bytes());
        hash.update(position.position.0.to_be_bytes());
        hash.update(number.to_be_bytes());
        let bits = hash.finalize().first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes));
        AlertId::from_bits(bits)
    }

    /// What it is about.
    pub const fn kind(&self) -> AlertKind {
        self.data.kind()
    }

    /// Its place among all alerts of its organization and kind: these rise in the order of the log.
    pub const fn place(&self) -> AlertPlace {
        AlertPlace { position: self.position, number: self.number }
    }

    /// The subject it is published on: `tollbook.alerts.<org>.<kind>`. The platform's own alerts say `_operator`, and those
    /// of partitions other than 0 name theirs, because positions of partitions do not compare.
    pub fn subject(&self) -> String {
        let kind = self.kind().code();
        match (&self.organization, self.position.partition.0) {
            (Some(organization), _) => format!("tollbook.alerts.{organization}.{kind}"),
            (None, 0) => format!("tollbook.alerts._operator.{kind}"),
            (None, partition) => format!("tollbook.alerts._operator.{kind}.{partition}"),
        }
    }
}

/// Where an alert stands among those of its organization and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertPlace {
    /// The entry that caused it.
    pub position: LogPosition,
    /// Its number.
    pub number: u32,
}

impl AlertPlace {
    /// Whether it comes after another one of the same partition.
    pub fn is_after(self, other: Self) -> bool {
        (self.position.position, self.number) > (other.position.position, other.number)
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)+) => {
        /// What alerts can be about. Codes are stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum AlertKind {
            $($(#[$doc])* $name,)+
        }

        impl AlertKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its code, as subjects and JSON have it.
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)+
                }
            }

            /// The kind with a code.
            pub fn of_code(code: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.code() == code)
            }
        }
    };
}

kinds! {
    /// The available balance dropped below the organization's threshold (R7.1).
    BalanceLow = "balance_low";
    /// Settled spend reached 80 % of a budget (R7.2).
    BudgetWarning = "budget_warning";
    /// Settled spend reached a budget (R7.2).
    BudgetReached = "budget_reached";
    /// Settled spend reached an amount that the project wants to be told at (R6.4).
    SpendNotification = "spend_notification";
    /// Recharging or paying back changed the tier (R5.1).
    TierChanged = "tier_changed";
    /// A voucher was granted (R4.5).
    VoucherGranted = "voucher_granted";
    /// A voucher with something left expires within days (R4.3).
    VoucherExpiring = "voucher_expiring";
    /// What was left of a voucher was lost (R4.3).
    VoucherExpired = "voucher_expired";
    /// API keys stopped working (R3.4).
    KeyInvalidated = "key_invalidated";
    /// Everybody's rate limits were scaled, or are no longer (R5.5).
    RateLimitsScaled = "rate_limits_scaled";
    /// Usage was quarantined (R8.1): the first for a reason on a day.
    UsageQuarantined = "usage_quarantined";
    /// A webhook was switched off because it said that it is gone, or failed for too long (R7.3).
    WebhookDisabled = "webhook_disabled";
}

/// What an alert says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AlertData {
    /// The available balance dropped below the threshold.
    BalanceLow {
        /// The threshold.
        threshold: Amount,
        /// What was available then.
        available: Amount,
    },
    /// Settled spend reached 80 % of a budget.
    BudgetWarning(BudgetTold),
    /// Settled spend reached a budget.
    BudgetReached(BudgetTold),
    /// Settled spend reached an amount.
    SpendNotification {
        /// The project.
        project: ProjectId,
        /// What people call it.
        name: DisplayName,
        /// Of a day or a month.
        period: Period,
        /// The first day of that.
        starts: Day,
        /// The amount.
        amount: Amount,
        /// What was settled.
        settled: Amount,
    },
    /// The tier changed.
    TierChanged {
        /// The tier before; `None`: below the first.
        from: Option<DisplayName>,
        /// The tier now.
        to: Option<DisplayName>,
        /// What is recharged, less what was paid back.
        cumulative_recharge: Amount,
    },
    /// A voucher was granted.
    VoucherGranted {
        /// Which.
        voucher: VoucherId,
        /// What it is worth.
        amount: Amount,
        /// When what is left of it is lost.
        expires_at: Option<Timestamp>,
    },
    /// A voucher is about to expire.
    VoucherExpiring {
        /// Which.
        voucher: VoucherId,
        /// What is left of it.
        left: Amount,
        /// When that is lost.
        expires_at: Timestamp,
    },
    /// A voucher expired.
    VoucherExpired {
        /// Which.
        voucher: VoucherId,
        /// What was left of it.
        lost: Amount,
    },
    /// Keys stopped working: those that one entry revoked, together.
    KeyInvalidated {
        /// Each with its project, what people call it, and why.
        keys: Vec<(KeyId, ProjectId, DisplayName, Revocation)>,
    },
    /// Everybody's rate limits were scaled; `None`: that is over before its time.
    RateLimitsScaled(Option<RateScale>),
    /// Usage was quarantined.
    UsageQuarantined {
        /// The first of it.
        place: UsagePlace,
        /// Why it was not booked.
        reason: QuarantineReason,
    },
    /// A webhook was switched off.
    WebhookDisabled {
        /// Which.
        webhook: WebhookId,
        /// Why.
        reason: Reason,
    },
}

impl AlertData {
    /// What it is about.
    pub const fn kind(&self) -> AlertKind {
        match self {
            Self::BalanceLow { .. } => AlertKind::BalanceLow,
            Self::BudgetWarning(_) => AlertKind::BudgetWarning,
            Self::BudgetReached(_) => AlertKind::BudgetReached,
            Self::SpendNotification { .. } => AlertKind::SpendNotification,
            Self::TierChanged { .. } => AlertKind::TierChanged,
            Self::VoucherGranted { .. } => AlertKind::VoucherGranted,
            Self::VoucherExpiring { .. } => AlertKind::VoucherExpiring,
            Self::VoucherExpired { .. } => AlertKind::VoucherExpired,
            Self::KeyInvalidated { .. } => AlertKind::KeyInvalidated,
            Self::RateLimitsScaled(_) => AlertKind::RateLimitsScaled,
            Self::UsageQuarantined { .. } => AlertKind::UsageQuarantined,
            Self::WebhookDisabled { .. } => AlertKind::WebhookDisabled,
        }
    }
}

/// What an alert about a budget says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetTold {
    /// The project.
    pub project: ProjectId,
    /// What people call it.
    pub name: DisplayName,
    /// Of a day or a month.
    pub period: Period,
    /// The first day of that.
    pub starts: Day,
    /// The budget.
    pub limit: Amount,
    /// What was settled.
    pub settled: Amount,
    /// When the period ends.
    pub resets_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::{PartitionId, Position};

    fn at(partition: u16, position: u64) -> LogPosition {
        LogPosition { partition: PartitionId(partition), position: Position(position) }
    }

    /// Golden: an id that changes would be raised again.
    #[test]
    fn r7_3_ids_follow_from_the_cause_for_ever() {
        let (ledger, organization) = (LedgerId::from_bits(1), OrgId::from_bits(2));
        let id = |position, organization, kind, number| {
            Alert::id_of(&ledger, position, organization, kind, number)
        };
        let first = id(at(0, 17), Some(&organization), AlertKind::BalanceLow, 0);
        assert_eq!(first.as_str(), "alert_65dba3ej0gag9t1ef2gs7vkbjs");
        let others = [
            id(at(1, 17), Some(&organization), AlertKind::BalanceLow, 0),
            id(at(0, 18), Some(&organization), AlertKind::BalanceLow, 0),
            id(at(0, 17), None, AlertKind::BalanceLow, 0),
            id(at(0, 17), Some(&organization), AlertKind::BudgetReached, 0),
            id(at(0, 17), Some(&organization), AlertKind::BalanceLow, 1),
        ];
        assert!(others.iter().all(|other| *other != first));
    }

    #[test]
    fn r7_3_kinds_and_their_codes_name_each_other() {
        for kind in AlertKind::ALL {
            assert_eq!(AlertKind::of_code(kind.code()), Some(*kind));
            assert!(kind.code().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
        }
        assert_eq!(AlertKind::of_code("other"), None);
    }
}
