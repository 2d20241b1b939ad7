//! Projects and their API keys (R3, R6).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tollbook_schemas::event::{KeyEvent, ProjectEvent, Revocation};
use tollbook_schemas::id::{DisplayName, MemberId, ProjectId};
use tollbook_schemas::policy::QuantityLimit;
use tollbook_schemas::role::{ProjectRole, Verification};
use tollbook_schemas::sealed::SecretHash;
use tollbook_schemas::time::Timestamp;

use super::{At, Organization, Writing};
use crate::budget::{Budgets, Look, Notifications, Seen, Watch};
use crate::config::Config;
use crate::spend::ProjectSpend;
use crate::state::Corrupt;

/// A project (R6). It is never forgotten: usage may come for it after it was archived (R8.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// What people call it.
    pub name: DisplayName,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was archived, if it was.
    pub archived_at: Option<Timestamp>,
    /// Its members who are no administrators of the organization, or were brought in by name (R3.2).
    pub members: BTreeMap<MemberId, ProjectRole>,
    /// Its own limit of tokens per minute, as asked for (R5.4).
    pub tpm_limit: Option<u64>,
    /// Its consumption as budgets see it.
    pub spend: ProjectSpend,
    /// Its budgets and notifications, and what came of them (R6.2 to R6.5).
    pub watch: Watch,
}

/// An API key (R3.4, R3.6). It is never forgotten: usage may come for it after it was revoked (R8.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its project.
    pub project: ProjectId,
    /// Who created it.
    pub member: MemberId,
    /// What people call it.
    pub name: DisplayName,
    /// Of its secret.
    pub secret: SecretHash,
    /// The secret's last four characters.
    pub hint: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When and why it stopped working, if it did.
    pub revoked: Option<(Timestamp, Revocation)>,
}

impl Project {
    /// Whether it counts and its keys work.
    pub const fn is_active(&self) -> bool {
        self.archived_at.is_none()
    }
}

impl Key {
    /// Whether it counts and works.
    pub const fn is_active(&self) -> bool {
        self.revoked.is_none()
    }
}

impl Organization {
    /// How many projects and API keys it may have (R1.2).
    pub fn quantity_limit(&self, config: &Config) -> QuantityLimit {
        let limits = config.quantity_limits;
        self.quantities.over(match self.verification {
            Verification::Unverified | Verification::Verified => limits.default,
            Verification::EnterpriseVerified => limits.enterprise_verified,
        })
    }

    /// How many projects and API keys it has that count.
    pub fn quantities_used(&self) -> QuantityLimit {
        let count = |items: usize| u32::try_from(items).unwrap_or(u32::MAX);
        QuantityLimit {
            projects: count(self.projects.values().filter(|project| project.is_active()).count()),
            api_keys: count(self.keys.values().filter(|key| key.is_active()).count()),
        }
    }

    pub(super) fn project_mut(&mut self, project: &ProjectId) -> Result<&mut Project, Corrupt> {
        self.projects.get_mut(project).ok_or_else(|| Corrupt::ProjectUnknown(project.clone()))
    }

    pub(super) fn apply_project(
        &mut self,
        event: &ProjectEvent,
        writing: &mut Writing<'_>,
    ) -> Result<(), Corrupt> {
        let at = writing.at;
        match event {
            ProjectEvent::Created { project, name } => {
                let new = Project {
                    name: name.clone(),
                    created_at: at.recorded_at,
                    archived_at: None,
                    members: BTreeMap::new(),
                    tpm_limit: None,
                    spend: ProjectSpend::default(),
                    watch: Watch::default(),
                };
                match self.projects.insert(project.clone(), new) {
                    None => Ok(()),
                    Some(_) => Err(Corrupt::ProjectExists(project.clone())),
                }
            }
            ProjectEvent::Renamed { project, name } => {
                self.project_mut(project)?.name = name.clone();
                Ok(())
            }
            ProjectEvent::Archived { project } => {
                self.project_mut(project)?.archived_at = Some(at.recorded_at);
                Ok(())
            }
            ProjectEvent::TpmLimitSet { project, limit } => {
                self.project_mut(project)?.tpm_limit = *limit;
                Ok(())
            }
            ProjectEvent::BudgetsSet { project, daily, monthly, enforcement } => {
                let budgets = Budgets { daily: *daily, monthly: *monthly, enforcement: *enforcement };
                self.watch_project(project, writing, |watch, spend, look, seen| {
                    watch.set_budgets(budgets, spend, look, seen)
                })
            }
            ProjectEvent::SpendNotificationsSet { project, daily, monthly } => {
                let notifications = Notifications { daily: daily.clone(), monthly: monthly.clone() };
                self.watch_project(project, writing, |watch, spend, look, seen| {
                    watch.set_notifications(notifications, spend, look, seen);
                    Ok(())
                })
            }
            ProjectEvent::BudgetRefused { project, period, visible_from, refused_at } => {
                self.project_mut(project)?.watch.refused(*period, visible_from.position, *refused_at);
                Ok(())
            }
        }
    }

    /// Has a project's budgets looked at on the day that is open.
    fn watch_project(
        &mut self,
        project: &ProjectId,
        writing: &mut Writing<'_>,
        act: impl FnOnce(&mut Watch, &ProjectSpend, Look<'_>, &mut Seen) -> Result<(), Corrupt>,
    ) -> Result<(), Corrupt> {
        let today = self.calendar.day(writing.at.recorded_at);
        let mut seen = Seen::default();
        let found = self.projects.get_mut(project).ok_or_else(|| Corrupt::ProjectUnknown(project.clone()))?;
        // What is set is compared with what is settled: nothing waits for the delay.
        let (at, calendar, name) = (writing.at, &self.calendar, &found.name);
        let look = Look { at, today, calendar, delay_seconds: 0, project, name };
        act(&mut found.watch, &found.spend, look, &mut seen)?;
        seen.leave(&self.id, project, at, writing.effects);
        Ok(())
    }

    pub(super) fn apply_key(&mut self, event: &KeyEvent, at: At) -> Result<(), Corrupt> {
        match event {
            KeyEvent::Issued { key, project, member, name, secret, hint } => {
                if !self.projects.contains_key(project) {
                    return Err(Corrupt::ProjectUnknown(project.clone()));
                }
                let new = Key {
                    project: project.clone(),
                    member: member.clone(),
                    name: name.clone(),
                    secret: *secret,
                    hint: hint.clone(),
                    created_at: at.recorded_at,
                    revoked: None,
                };
                match self.keys.insert(key.clone(), new) {
                    None => Ok(()),
                    Some(_) => Err(Corrupt::KeyExists(key.clone())),
                }
            }
            KeyEvent::Revoked { key, why } => {
                let known = self.keys.get_mut(key).ok_or_else(|| Corrupt::KeyUnknown(key.clone()))?;
                known.revoked.get_or_insert((at.recorded_at, *why));
                Ok(())
            }
        }
    }
}
