//! Who somebody is within an organization and a project (R3), and how far an organization is verified (R1.1).

use serde::{Deserialize, Serialize};

/// How far the platform has verified an organization (R1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    /// Not verified.
    #[default]
    Unverified,
    /// Organization verification completed.
    Verified,
    /// Enterprise verification completed.
    EnterpriseVerified,
}

impl Verification {
    /// What must be completed to get here, in words.
    pub const fn step(self) -> &'static str {
        match self {
            Self::Unverified => "registration",
            Self::Verified => "verification",
            Self::EnterpriseVerified => "enterprise verification",
        }
    }
}

/// Role in an organization (R3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrgRole {
    /// Creates projects, invites and manages members, issues invoices.
    Administrator,
    /// Views projects; reaches their resources only once invited to them.
    Member,
}

/// Role in a project (R3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProjectRole {
    /// Manages budgets, rate limits, spend notifications and members, and creates keys.
    Administrator,
    /// Views, and creates keys.
    Member,
}
