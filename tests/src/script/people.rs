//! Rows about people, projects, keys and limits.

use tollbook_projections::limits::RateLimits;
use tollbook_schemas::allowlist;
use tollbook_schemas::command::{Command, ConfigCommand, OrganizationCommand};
use tollbook_schemas::event::Revocation;
use tollbook_schemas::id::{DisplayName, InvitationId, ProjectId};
use tollbook_schemas::policy::{Change, QuantityLimit, QuantityLimits, QuantityOverride, RateOverride};
use tollbook_schemas::role::{OrgRole, ProjectRole, Verification};
use tollbook_schemas::sealed::SecretHash;
use tollbook_schemas::time::Timestamp;

use sha2::{Digest, Sha256};

use super::{Given, Run, Words, key, member, org, project, sealed_under, words};

/// The name in a script of what has an id.
pub(super) fn bare(id: &str) -> &str {
    id.split_once('_').map_or(id, |(_, name)| name)
}

/// As scripts write it.
pub(super) fn org_role_name(role: OrgRole) -> &'static str {
    match role {
        OrgRole::Administrator => "administrator",
        OrgRole::Member => "member",
    }
}

/// As scripts write it.
pub(super) fn project_role_name(role: ProjectRole) -> &'static str {
    match role {
        ProjectRole::Administrator => "administrator",
        ProjectRole::Member => "member",
    }
}

/// As scripts write it.
pub(super) fn revocation_name(why: Revocation) -> &'static str {
    match why {
        Revocation::Requested => "requested",
        Revocation::MemberRemoved => "member_removed",
        Revocation::MemberDemoted => "member_demoted",
        Revocation::ProjectArchived => "project_archived",
    }
}

fn org_role(name: &str) -> OrgRole {
    match name {
        "administrator" => OrgRole::Administrator,
        "member" => OrgRole::Member,
        _ => panic!("no such role: {name}"),
    }
}

fn project_role(name: &str) -> ProjectRole {
    match org_role(name) {
        OrgRole::Administrator => ProjectRole::Administrator,
        OrgRole::Member => ProjectRole::Member,
    }
}

/// The level under a name in a script.
pub fn level(name: &str) -> Verification {
    match name {
        "unverified" => Verification::Unverified,
        "verified" => Verification::Verified,
        "enterprise_verified" => Verification::EnterpriseVerified,
        _ => panic!("no such level: {name}"),
    }
}

fn invitation(name: &str) -> InvitationId {
    InvitationId::parse(&format!("inv_{name}")).unwrap()
}

/// Of the secret token of an invitation that a script names.
pub fn token(invitation: &str) -> SecretHash {
    SecretHash(Sha256::digest(invitation).into())
}

fn list(items: impl IntoIterator<Item = String>) -> Given {
    let items: Vec<String> = items.into_iter().collect();
    words(if items.is_empty() { "none".to_owned() } else { items.join(" ") })
}

fn shown<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

fn change<T: std::str::FromStr<Err: std::fmt::Debug>>(text: Option<&str>) -> Change<T> {
    match text {
        None => Change::Keep,
        Some("none") => Change::Remove,
        Some(value) => Change::Set(value.parse().unwrap()),
    }
}

impl Run {
    /// A row about people, projects, keys or limits; `None` where there is no such row.
    pub(super) fn people(&mut self, verb: &str, mut given: Words<'_>) -> Option<Given> {
        if let Some((places, command)) = organization_command(verb, &mut given) {
            given.done(places);
            return Some(self.decide(&Command::Organization(org(given.word(0)), command)));
        }
        if verb == "quantities" {
            let (before, mut limit) = (self.ledger.state.config().quantity_limits, |name| {
                let (projects, keys) = given.take(name)?.split_once('/').unwrap();
                Some(QuantityLimit { projects: projects.parse().unwrap(), api_keys: keys.parse().unwrap() })
            });
            let limits = QuantityLimits {
                default: limit("default").unwrap_or(before.default),
                enterprise_verified: limit("enterprise").unwrap_or(before.enterprise_verified),
            };
            given.done(0);
            return Some(self.decide(&Command::Config(ConfigCommand::SetQuantityLimits(limits))));
        }
        self.question(verb, &given)
    }

    fn question(&self, verb: &str, given: &Words<'_>) -> Option<Given> {
        let places = if verb == "team" { 2 } else { 1 };
        if !(verb == "in-force" && given.placed.len() == 2) {
            given.done(places);
        }
        let name = given.word(0);
        let known = self.ledger.state.organization(&org(name));
        let known = known.unwrap_or_else(|| panic!("no organization {name}"));
        let now = self.ledger.now;
        let answer = match verb {
            "profile" => Given::Values(vec![
                ("name", known.name.to_string()),
                ("zone", known.calendar.zone_at(now).name().to_owned()),
                ("zone_next", shown(known.calendar.pending(now).map(|(_, zone)| zone.name()))),
                ("zone_last", known.calendar.zone_at(Timestamp::MAX).name().to_owned()),
                ("day", known.calendar.day(now).to_string()),
                ("level", format!("{:?}", known.verification).to_lowercase()),
                ("email", known.email.key.to_string()),
                ("contact_key", known.contact_key.to_string()),
                ("creator", bare(known.creator.as_str()).to_owned()),
            ]),
            "overrides" => Given::Values(vec![
                ("projects", shown(known.quantities.projects)),
                ("keys", shown(known.quantities.api_keys)),
                ("concurrency", shown(known.rates.concurrency)),
                ("rpm", shown(known.rates.rpm)),
                ("tpm", shown(known.rates.tpm)),
                ("tpd", shown(known.rates.tpd)),
            ]),
            "in-force" => {
                let in_force = RateLimits::of(self.ledger.state.config(), known, now);
                let limits = in_force.as_ref().map(|in_force| in_force.limits).unwrap_or_default();
                let mut values = vec![
                    ("concurrency", shown(limits.concurrency)),
                    ("rpm", shown(limits.rpm)),
                    ("tpm", shown(limits.tpm)),
                    ("tpd", shown(limits.tpd)),
                ];
                let scaled = in_force.as_ref().is_some_and(|in_force| in_force.scaled);
                values.push(("scaled", if scaled { "yes" } else { "no" }.to_owned()));
                if let Some(name) = given.placed.get(1) {
                    let limit = known.projects[&project(name)].tpm_limit;
                    let tpm = RateLimits::project_tpm(limit, in_force.as_ref());
                    values.push(("asked", shown(tpm.limit)));
                    values.push(("project", shown(tpm.effective)));
                    values.push(("clamped", if tpm.clamped { "yes" } else { "no" }.to_owned()));
                }
                Given::Values(values)
            }
            "used" => {
                let limit = known.quantity_limit(self.ledger.state.config());
                let active = known.projects.values().filter(|project| project.archived_at.is_none()).count();
                let working = known.keys.values().filter(|key| key.revoked.is_none()).count();
                Given::Values(vec![
                    ("projects", format!("{active}/{}", limit.projects)),
                    ("keys", format!("{working}/{}", limit.api_keys)),
                ])
            }
            "allowlist" => list(known.allowlist.iter().map(allowlist::entry)),
            "members" => list(
                known
                    .members
                    .iter()
                    .map(|(id, known)| format!("{}:{}", bare(id.as_str()), org_role_name(known.role))),
            ),
            "team" => {
                let team = &known.projects[&project(given.word(1))].members;
                list(
                    team.iter()
                        .map(|(id, role)| format!("{}:{}", bare(id.as_str()), project_role_name(*role))),
                )
            }
            "key-states" => list(known.keys.iter().map(|(id, key)| {
                let state = match key.revoked {
                    None => bare(key.member.as_str()),
                    Some((_, why)) => revocation_name(why),
                };
                format!("{}:{state}", bare(id.as_str()))
            })),
            "open-invitations" => {
                let open = known.invitations.iter().filter(|(_, invitation)| invitation.is_open(now));
                list(open.map(|(id, _)| bare(id.as_str()).to_owned()))
            }
            _ => return None,
        };
        Some(answer)
    }
}

/// The command of a row and how many words stand by place.
fn organization_command(verb: &str, given: &mut Words<'_>) -> Option<(usize, OrganizationCommand)> {
    let display = |name: &str| DisplayName::parse(name).unwrap();
    let id_of_project = |given: &Words<'_>| -> ProjectId { project(given.word(1)) };
    let sealed_of =
        |given: &mut Words<'_>| sealed_under(given.take("sealed").unwrap_or("0").parse().unwrap());
    let command = match verb {
        "level" => (2, OrganizationCommand::SetVerification(level(given.word(1)))),
        "change" => {
            let name = given.take("name").map(display);
            let email = given.take("email").map(|key| sealed_under(key.parse().unwrap()));
            let zone = given.take("zone").map(|zone| zone.parse().unwrap());
            (1, OrganizationCommand::Change { name, email, zone })
        }
        "limits" => {
            let quantities = QuantityOverride {
                projects: change(given.take("projects")),
                api_keys: change(given.take("keys")),
            };
            let rates = RateOverride {
                concurrency: change(given.take("concurrency")),
                rpm: change(given.take("rpm")),
                tpm: change(given.take("tpm")),
                tpd: change(given.take("tpd")),
            };
            (1, OrganizationCommand::OverrideLimits { quantities, rates })
        }
        "allow" => {
            let entries = allowlist::parse(&given.placed[1..].join(" ")).unwrap();
            (given.placed.len(), OrganizationCommand::SaveAllowlist(entries))
        }
        "erase" => (1, OrganizationCommand::EraseContacts),
        "invite" => {
            let email = match given.take("sealed") {
                Some("none") => None,
                key => Some(sealed_under(key.unwrap_or("0").parse().unwrap())),
            };
            let projects = given.take("projects").map_or_else(Vec::new, |projects| {
                let item = |item: &str| {
                    let (name, role) = item.split_once(':').unwrap();
                    (project(name), project_role(role))
                };
                projects.split(',').map(item).collect()
            });
            let name = given.word(1);
            let command = OrganizationCommand::Invite {
                invitation: invitation(name),
                email,
                role: org_role(given.take("role").unwrap_or("member")),
                projects,
                token: token(name),
            };
            (2, command)
        }
        "revoke-invitation" => (2, OrganizationCommand::RevokeInvitation(invitation(given.word(1)))),
        "accept" => {
            let sealed = sealed_of(given);
            let command = OrganizationCommand::AcceptInvitation {
                token: token(given.word(1)),
                member: member(given.word(2)),
                name: sealed.clone(),
                email: sealed,
            };
            (3, command)
        }
        "role" => {
            let role = org_role(given.word(2));
            (3, OrganizationCommand::SetRole { member: member(given.word(1)), role })
        }
        "remove" => (2, OrganizationCommand::RemoveMember(member(given.word(1)))),
        "rename" => {
            let name = display(given.word(2));
            (3, OrganizationCommand::RenameProject { project: id_of_project(given), name })
        }
        "archive" => (2, OrganizationCommand::ArchiveProject(id_of_project(given))),
        "tpm" => {
            let limit = Some(given.word(2)).filter(|limit| *limit != "none");
            let limit = limit.map(|limit| limit.parse().unwrap());
            (3, OrganizationCommand::SetTpmLimit { project: id_of_project(given), limit })
        }
        "bring" => {
            let role = project_role(given.take("role").unwrap_or("member"));
            let (project, member) = (id_of_project(given), member(given.word(2)));
            (3, OrganizationCommand::AddProjectMember { project, member, role })
        }
        "team-role" => {
            let (project, member) = (id_of_project(given), member(given.word(2)));
            (4, OrganizationCommand::SetProjectRole { project, member, role: project_role(given.word(3)) })
        }
        "leave" => {
            let (project, member) = (id_of_project(given), member(given.word(2)));
            (3, OrganizationCommand::RemoveProjectMember { project, member })
        }
        "revoke" => {
            let (project, key) = (id_of_project(given), key(given.word(2)));
            (3, OrganizationCommand::RevokeKey { project, key })
        }
        _ => return None,
    };
    Some(command)
}
