//! An independent model of organizations, members, invitations, projects, keys and limits (R1, R2, R3, R9): naive,
//! slow, lists and scans. Knows the vocabulary of `schemas` and nothing of how State is kept or decisions are made.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use tollbook_schemas::command::{Command, ConfigCommand, OrganizationCommand};
use tollbook_schemas::entry::{Actor, Idempotency};
use tollbook_schemas::event::Revocation;
use tollbook_schemas::id::{DisplayName, InvitationId, KeyId, MemberId, OrgId, ProjectId};
use tollbook_schemas::policy::{Change, QuantityLimit, QuantityLimits};
use tollbook_schemas::role::{OrgRole, ProjectRole, Verification};
use tollbook_schemas::sealed::{Sealed, SecretHash};
use tollbook_schemas::time::Timestamp;

/// What a command should lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// One entry.
    Entry,
    /// Nothing, for this entry did it before.
    Before(u64),
    /// Nothing, for all is as wanted.
    AsItIs,
    /// An entry that says nothing, so that a request which changed nothing is known if it comes again.
    Noted,
    /// A refusal with this code.
    Refused(&'static str),
}

/// The model.
#[derive(Clone, Debug)]
pub struct People {
    /// Organizations in order of registration.
    pub organizations: Vec<Group>,
    /// Projects and keys: default, then enterprise verified.
    pub limits: [(u32, u32); 2],
    /// The latest recorded time.
    pub recorded_at: Timestamp,
    remembered: Vec<(Idempotency, u64)>,
}

/// One organization.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its id.
    pub id: OrgId,
    /// What people call it.
    pub name: DisplayName,
    /// Registered e-mail address.
    pub email: Sealed,
    /// Its creator.
    pub creator: MemberId,
    /// How often its personal data was erased.
    pub erased: u32,
    /// Whether the log holds personal data that was not erased.
    pub readable: bool,
    /// Time zones, each from a month on; the first from the beginning.
    pub zones: Vec<(Date, TimeZone)>,
    /// Its level.
    pub level: Verification,
    /// Overridden numbers of projects and keys.
    pub own_limits: [Option<u32>; 2],
    /// Overridden concurrency, RPM, TPM, TPD.
    pub own_rates: [Option<u64>; 4],
    /// The allowlist, as text.
    pub allowlist: Vec<String>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// Members in order of joining.
    pub members: Vec<Person>,
    /// Invitations that are remembered.
    pub invitations: Vec<Invited>,
    /// Projects.
    pub projects: Vec<Work>,
    /// Keys.
    pub keys: Vec<Issued>,
    remembered: Vec<(Idempotency, u64)>,
}

/// A member.
#[derive(Clone, Debug)]
pub struct Person {
    /// Who.
    pub id: MemberId,
    /// Name.
    pub name: Sealed,
    /// E-mail address.
    pub email: Sealed,
    /// Role in the organization.
    pub role: OrgRole,
    /// Since when.
    pub joined_at: Timestamp,
}

/// An invitation.
#[derive(Clone, Debug)]
pub struct Invited {
    /// Which.
    pub id: InvitationId,
    /// Where it was sent.
    pub email: Option<Sealed>,
    /// The role it gives.
    pub role: OrgRole,
    /// The projects it gives.
    pub projects: Vec<(ProjectId, ProjectRole)>,
    /// Of the token.
    pub token: SecretHash,
    /// When it was made.
    pub created_at: Timestamp,
    /// How it ended: `None` not yet, otherwise by whom it was accepted, if by anybody.
    pub ended: Option<Option<MemberId>>,
}

/// A project.
#[derive(Clone, Debug)]
pub struct Work {
    /// Which.
    pub id: ProjectId,
    /// What people call it.
    pub name: DisplayName,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
    /// Who was brought into it.
    pub team: Vec<(MemberId, ProjectRole)>,
    /// Its own TPM limit.
    pub tpm: Option<u64>,
}

/// A key.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Which.
    pub id: KeyId,
    /// Its project.
    pub project: ProjectId,
    /// Whose it is.
    pub member: MemberId,
    /// What people call it.
    pub name: DisplayName,
    /// Of its secret.
    pub secret: SecretHash,
    /// What shows of the secret.
    pub hint: String,
    /// When it was issued.
    pub created_at: Timestamp,
    /// When and why it ended.
    pub revoked: Option<(Timestamp, Revocation)>,
}

const DAY_NANOS: i64 = 86_400_000_000_000;

impl Invited {
    /// When the link ends (R3.3).
    pub fn expires_at(&self) -> Timestamp {
        self.created_at.plus_nanos(7 * DAY_NANOS)
    }

    /// Whether it can be accepted.
    pub fn open(&self, now: Timestamp) -> bool {
        self.ended.is_none() && now < self.expires_at()
    }
}

/// What somebody wants, in the rows of the table of R3.
#[derive(Clone, Copy, PartialEq)]
enum Row<'a> {
    Allowlist,
    Invite,
    Members,
    Projects,
    Project(&'a ProjectId),
    KeysOf(&'a ProjectId),
    Profile,
    Platform,
}

/// What changes nothing is noted where it may come again.
fn noted(answer: Answer, asked: Option<Idempotency>) -> Answer {
    if answer == Answer::AsItIs && asked.is_some() { Answer::Noted } else { answer }
}

impl People {
    /// A ledger that was created just now.
    pub fn new(now: Timestamp) -> Self {
        Self {
            organizations: Vec::new(),
            limits: [(20, 50), (50, 100)],
            recorded_at: now,
            remembered: Vec::new(),
        }
    }

    /// One organization.
    pub fn find(&self, id: &OrgId) -> Option<&Group> {
        self.organizations.iter().find(|known| known.id == *id)
    }

    /// What a command should lead to, whose entry would stand at `position`; it happens, unless it is `void`.
    pub fn command(
        &mut self,
        actor: &Actor,
        command: &Command,
        asked: Option<Idempotency>,
        now: Timestamp,
        position: u64,
        void: bool,
    ) -> Answer {
        // The engine's clock may go back; the log's time does not.
        let now = now.max(self.recorded_at);
        let answer = match self.decided(actor, command, asked, now, position, void) {
            Ok(answer) => answer,
            Err(code) => Answer::Refused(code),
        };
        if matches!(answer, Answer::Entry | Answer::Noted) {
            self.recorded_at = now;
        }
        answer
    }

    fn decided(
        &mut self,
        actor: &Actor,
        command: &Command,
        asked: Option<Idempotency>,
        now: Timestamp,
        position: u64,
        void: bool,
    ) -> Result<Answer, &'static str> {
        let remember = asked.map(|asked| (asked, position));
        match command {
            Command::Organization(id, OrganizationCommand::Register { .. }) if self.find(id).is_none() => {
                if matches!(actor, Actor::Member { .. } | Actor::Invitee { .. }) {
                    return Err("role_missing");
                }
                let mut new = registered(id, command, now);
                new.remembered.extend(remember);
                if !void {
                    self.organizations.push(new);
                }
                Ok(Answer::Entry)
            }
            Command::Organization(id, command) => {
                let limits = self.limits;
                let Some(group) = self.organizations.iter_mut().find(|known| known.id == *id) else {
                    return Err("organization_not_found");
                };
                // What is refused on the way leaves nothing behind.
                let mut after = group.clone();
                let answer = after.decided(actor, command, now, limits);
                // Who may not ask is told that, whatever was asked before.
                if let Err("role_missing" | "not_a_member" | "not_an_invitee") = answer {
                    return answer;
                }
                if let Some(answer) = before(&group.remembered, asked)? {
                    return Ok(answer);
                }
                let answer = noted(answer?, asked);
                if matches!(answer, Answer::Entry | Answer::Noted) && !void {
                    after.remembered.extend(remember);
                    *group = after;
                }
                Ok(answer)
            }
            Command::Config(command) => {
                if matches!(actor, Actor::Member { .. } | Actor::Invitee { .. }) {
                    return Err("role_missing");
                }
                if let Some(answer) = before(&self.remembered, asked)? {
                    return Ok(answer);
                }
                let ConfigCommand::SetQuantityLimits(wanted) = command else {
                    panic!("{command:?} is not about people")
                };
                let changed = *wanted != self.quantity_limits();
                if !void {
                    let pair = |limit: QuantityLimit| (limit.projects, limit.api_keys);
                    self.limits = [pair(wanted.default), pair(wanted.enterprise_verified)];
                    self.remembered.extend(remember);
                }
                Ok(noted(if changed { Answer::Entry } else { Answer::AsItIs }, asked))
            }
            Command::Partition(_) => panic!("{command:?} is not about people"),
        }
    }

    /// Quantity limits in force.
    pub fn quantity_limits(&self) -> QuantityLimits {
        let limit = |(projects, api_keys)| QuantityLimit { projects, api_keys };
        QuantityLimits { default: limit(self.limits[0]), enterprise_verified: limit(self.limits[1]) }
    }
}

fn registered(id: &OrgId, command: &Command, now: Timestamp) -> Group {
    let Command::Organization(
        _,
        OrganizationCommand::Register { name, email, creator, creator_name, creator_email, zone },
    ) = command
    else {
        panic!("{command:?} registers nothing")
    };
    Group {
        id: id.clone(),
        name: name.clone(),
        email: email.clone(),
        creator: creator.clone(),
        erased: 0,
        readable: true,
        zones: vec![(Date::MIN, TimeZone::get(zone.name()).unwrap())],
        level: Verification::Unverified,
        own_limits: [None; 2],
        own_rates: [None; 4],
        allowlist: Vec::new(),
        created_at: now,
        members: vec![Person {
            id: creator.clone(),
            name: creator_name.clone(),
            email: creator_email.clone(),
            role: OrgRole::Administrator,
            joined_at: now,
        }],
        invitations: Vec::new(),
        projects: Vec::new(),
        keys: Vec::new(),
        remembered: Vec::new(),
    }
}

fn before(
    remembered: &[(Idempotency, u64)],
    asked: Option<Idempotency>,
) -> Result<Option<Answer>, &'static str> {
    for (known, position) in remembered {
        if let Some(asked) = asked.filter(|asked| asked.key == known.key) {
            let same = asked.content == known.content;
            return if same { Ok(Some(Answer::Before(*position))) } else { Err("idempotency_conflict") };
        }
    }
    Ok(None)
}

impl Group {
    /// The zone in force and the local day of an instant: each zone begins with its month as those before it have it.
    pub fn local(&self, at: Timestamp) -> (&str, Date) {
        let (mut name, mut day) = ("", Date::MIN);
        for (from, zone) in &self.zones {
            if day < *from {
                break;
            }
            name = zone.iana_name().unwrap();
            day = at.to_jiff().to_zoned(zone.clone()).date().max(*from);
        }
        (name, day)
    }

    /// The zone that nobody wants otherwise so far.
    pub fn last_zone(&self) -> &str {
        self.zones.last().unwrap().1.iana_name().unwrap()
    }

    /// A member.
    pub fn person(&self, id: &MemberId) -> Option<&Person> {
        self.members.iter().find(|known| known.id == *id)
    }

    /// Whether somebody administers the organization.
    pub fn administers(&self, id: &MemberId) -> bool {
        self.person(id).is_some_and(|person| person.role == OrgRole::Administrator)
    }

    /// What somebody is in a project, by name or because of the organization.
    pub fn reaches(&self, project: &ProjectId, id: &MemberId) -> Option<ProjectRole> {
        if self.administers(id) {
            return Some(ProjectRole::Administrator);
        }
        let work = self.projects.iter().find(|known| known.id == *project)?;
        work.team.iter().find(|(member, _)| member == id).map(|(_, role)| *role)
    }

    /// Active projects and keys, and how many of them there may be.
    pub fn quantities(&self, limits: [(u32, u32); 2]) -> [(usize, usize); 2] {
        let mut most = limits[usize::from(self.level == Verification::EnterpriseVerified)];
        most.0 = self.own_limits[0].unwrap_or(most.0);
        most.1 = self.own_limits[1].unwrap_or(most.1);
        let projects = self.projects.iter().filter(|known| known.archived_at.is_none()).count();
        let keys = self.keys.iter().filter(|known| known.revoked.is_none()).count();
        [(projects, usize::try_from(most.0).unwrap()), (keys, usize::try_from(most.1).unwrap())]
    }

    fn allowed(&self, actor: &Actor, row: Row<'_>) -> Result<(), &'static str> {
        let role_missing = |allowed: bool| if allowed { Ok(()) } else { Err("role_missing") };
        match actor {
            Actor::Invitee { .. } => return Err("not_an_invitee"),
            Actor::Engine | Actor::Operator { .. } => {}
            Actor::Member { member, .. } => {
                if self.person(member).is_none() {
                    return Err("not_a_member");
                }
                let administrator = self.administers(member);
                role_missing(match row {
                    Row::Allowlist => match self.level {
                        // Nobody may, whatever the role.
                        Verification::Unverified => true,
                        Verification::Verified => *member == self.creator,
                        Verification::EnterpriseVerified => administrator,
                    },
                    Row::Invite | Row::Members | Row::Projects | Row::Profile => administrator,
                    Row::Project(project) => {
                        self.reaches(project, member) == Some(ProjectRole::Administrator)
                    }
                    Row::KeysOf(project) => self.reaches(project, member).is_some(),
                    Row::Platform => false,
                })?;
            }
        }
        match (row, self.level) {
            (Row::Allowlist, Verification::Unverified)
            | (Row::Invite, Verification::Unverified | Verification::Verified) => Err("verification_missing"),
            _ => Ok(()),
        }
    }

    fn active(&mut self, id: &ProjectId) -> Result<&mut Work, &'static str> {
        let work = self.projects.iter_mut().find(|known| known.id == *id).ok_or("project_not_found")?;
        if work.archived_at.is_some() { Err("project_archived") } else { Ok(work) }
    }

    fn sealed_now<'a>(&self, fields: impl IntoIterator<Item = &'a Sealed>) -> Result<(), &'static str> {
        for field in fields {
            if field.key != self.erased {
                return Err("contacts_erased");
            }
        }
        Ok(())
    }

    fn revoke(&mut self, now: Timestamp, why: Revocation, which: impl Fn(&Self, &Issued) -> bool) {
        for place in 0..self.keys.len() {
            if self.keys[place].revoked.is_none() && which(self, &self.keys[place]) {
                self.keys[place].revoked = Some((now, why));
            }
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each command")]
    fn decided(
        &mut self,
        actor: &Actor,
        command: &OrganizationCommand,
        now: Timestamp,
        limits: [(u32, u32); 2],
    ) -> Result<Answer, &'static str> {
        use OrganizationCommand as C;
        let entry_if = |changed: bool| Ok(if changed { Answer::Entry } else { Answer::AsItIs });
        match command {
            C::Register { .. } if matches!(actor, Actor::Member { .. } | Actor::Invitee { .. }) => {
                Err("role_missing")
            }
            C::Register { .. } => Err("organization_exists"),
            C::Change { name, email, zone } => {
                self.allowed(actor, Row::Profile)?;
                self.sealed_now(email)?;
                let mut changed = false;
                if let Some(name) = name.as_ref().filter(|name| **name != self.name) {
                    (self.name, changed) = (name.clone(), true);
                }
                if let Some(email) = email {
                    (self.email, changed) = (email.clone(), true);
                    self.readable = true;
                }
                if let Some(zone) = zone.as_ref().filter(|zone| zone.name() != self.last_zone()) {
                    let (_, today) = self.local(now);
                    let next = today.last_of_month().tomorrow().unwrap();
                    // What was to come next month comes no more.
                    self.zones.retain(|(from, _)| *from < next);
                    if self.last_zone() != zone.name() {
                        self.zones.push((next, TimeZone::get(zone.name()).unwrap()));
                    }
                    changed = true;
                }
                entry_if(changed)
            }
            C::SetVerification(level) => {
                self.allowed(actor, Row::Platform)?;
                let before = std::mem::replace(&mut self.level, *level);
                entry_if(before != *level)
            }
            C::OverrideLimits { quantities, rates } => {
                self.allowed(actor, Row::Platform)?;
                let before = (self.own_limits, self.own_rates);
                change(&mut self.own_limits[0], quantities.projects);
                change(&mut self.own_limits[1], quantities.api_keys);
                change(&mut self.own_rates[0], rates.concurrency);
                change(&mut self.own_rates[1], rates.rpm);
                change(&mut self.own_rates[2], rates.tpm);
                change(&mut self.own_rates[3], rates.tpd);
                entry_if(before != (self.own_limits, self.own_rates))
            }
            C::SaveAllowlist(entries) => {
                self.allowed(actor, Row::Allowlist)?;
                let wanted: Vec<String> = entries.iter().map(ToString::to_string).collect();
                let before = std::mem::replace(&mut self.allowlist, wanted);
                entry_if(before != self.allowlist)
            }
            C::EraseContacts => {
                self.allowed(actor, Row::Platform)?;
                // Also of those who are gone: the log keeps what it says of them.
                let readable = std::mem::replace(&mut self.readable, false);
                self.erased += u32::from(readable);
                entry_if(readable)
            }
            C::Invite { invitation, email, role, projects, token } => {
                self.allowed(actor, Row::Invite)?;
                self.sealed_now(email)?;
                if self.invitations.iter().any(|known| known.id == *invitation) {
                    return Err("invitation_exists");
                }
                for (project, _) in projects {
                    self.active(project)?;
                }
                if self.invitations.iter().filter(|known| known.open(now)).count() >= 1_000 {
                    return Err("invitation_limit");
                }
                // Whoever tries one that is over learns so for thirty days more.
                self.invitations.retain(|known| known.created_at.plus_nanos(37 * DAY_NANOS) > now);
                self.invitations.push(Invited {
                    id: invitation.clone(),
                    email: email.clone(),
                    role: *role,
                    projects: projects.clone(),
                    token: *token,
                    created_at: now,
                    ended: None,
                });
                self.readable |= email.is_some();
                Ok(Answer::Entry)
            }
            C::RevokeInvitation(id) => {
                self.allowed(actor, Row::Members)?;
                let known = self.invitations.iter_mut().find(|known| known.id == *id);
                let known = known.ok_or("invitation_not_found")?;
                if known.ended == Some(None) {
                    return Ok(Answer::AsItIs);
                }
                if !known.open(now) {
                    return Err("invitation_over");
                }
                known.ended = Some(None);
                Ok(Answer::Entry)
            }
            C::AcceptInvitation { token, member, name, email } => {
                if !matches!(actor, Actor::Invitee { .. }) {
                    return Err("not_an_invitee");
                }
                self.sealed_now([name, email])?;
                let known_already = self.person(member).is_some();
                let known = self.invitations.iter_mut().find(|known| known.token == *token);
                let known = known.ok_or("invitation_not_found")?;
                if !known.open(now) {
                    return Err("invitation_over");
                }
                if known_already {
                    return Err("member_exists");
                }
                known.ended = Some(Some(member.clone()));
                self.readable = true;
                let (role, projects) = (known.role, known.projects.clone());
                self.members.push(Person {
                    id: member.clone(),
                    name: name.clone(),
                    email: email.clone(),
                    role,
                    joined_at: now,
                });
                for (project, role) in projects {
                    if let Ok(work) = self.active(&project) {
                        work.team.retain(|(other, _)| other != member);
                        work.team.push((member.clone(), role));
                    }
                }
                Ok(Answer::Entry)
            }
            C::SetRole { member, role } => {
                self.allowed(actor, Row::Members)?;
                let creator = *member == self.creator;
                let known = self.members.iter_mut().find(|known| known.id == *member);
                let known = known.ok_or("member_not_found")?;
                if known.role == *role {
                    return Ok(Answer::AsItIs);
                }
                if creator {
                    return Err("creator_stays");
                }
                known.role = *role;
                // Whoever no longer reaches a project has no key in it.
                self.revoke(now, Revocation::MemberDemoted, |group, key| {
                    key.member == *member && group.reaches(&key.project, member).is_none()
                });
                Ok(Answer::Entry)
            }
            C::RemoveMember(member) => {
                self.allowed(actor, Row::Members)?;
                self.person(member).ok_or("member_not_found")?;
                if *member == self.creator {
                    return Err("creator_stays");
                }
                self.members.retain(|known| known.id != *member);
                for work in &mut self.projects {
                    work.team.retain(|(other, _)| other != member);
                }
                self.revoke(now, Revocation::MemberRemoved, |_, key| key.member == *member);
                Ok(Answer::Entry)
            }
            C::CreateProject { project, name } => {
                self.allowed(actor, Row::Projects)?;
                if self.projects.iter().any(|known| known.id == *project) {
                    return Err("project_exists");
                }
                let [(have, most), _] = self.quantities(limits);
                if have >= most {
                    return Err("project_limit");
                }
                self.projects.push(Work {
                    id: project.clone(),
                    name: name.clone(),
                    created_at: now,
                    archived_at: None,
                    team: Vec::new(),
                    tpm: None,
                });
                Ok(Answer::Entry)
            }
            C::RenameProject { project, name } => {
                self.allowed(actor, Row::Project(project))?;
                let before = std::mem::replace(&mut self.active(project)?.name, name.clone());
                entry_if(before != *name)
            }
            C::ArchiveProject(project) => {
                self.allowed(actor, Row::Projects)?;
                let known = self.projects.iter_mut().find(|known| known.id == *project);
                let known = known.ok_or("project_not_found")?;
                if known.archived_at.is_some() {
                    return Ok(Answer::AsItIs);
                }
                known.archived_at = Some(now);
                self.revoke(now, Revocation::ProjectArchived, |_, key| key.project == *project);
                Ok(Answer::Entry)
            }
            C::SetTpmLimit { project, limit } => {
                self.allowed(actor, Row::Project(project))?;
                let before = std::mem::replace(&mut self.active(project)?.tpm, *limit);
                entry_if(before != *limit)
            }
            C::AddProjectMember { project, member, role } => {
                self.allowed(actor, Row::Project(project))?;
                let known = self.person(member).is_some();
                let work = self.active(project)?;
                if !known {
                    return Err("member_not_found");
                }
                if work.team.iter().any(|(other, _)| other == member) {
                    return Err("member_exists");
                }
                work.team.push((member.clone(), *role));
                Ok(Answer::Entry)
            }
            C::SetProjectRole { project, member, role } => {
                self.allowed(actor, Row::Project(project))?;
                let team = &mut self.active(project)?.team;
                let known = team.iter_mut().find(|(other, _)| other == member);
                let known = known.ok_or("project_member_not_found")?;
                let before = std::mem::replace(&mut known.1, *role);
                entry_if(before != *role)
            }
            C::RemoveProjectMember { project, member } => {
                self.allowed(actor, Row::Project(project))?;
                let team = &mut self.active(project)?.team;
                let before = team.len();
                team.retain(|(other, _)| other != member);
                if team.len() == before {
                    return Err("project_member_not_found");
                }
                self.revoke(now, Revocation::MemberRemoved, |_, key| {
                    key.member == *member && key.project == *project
                });
                Ok(Answer::Entry)
            }
            C::IssueKey { key, project, member, name, secret, hint } => {
                self.allowed(actor, Row::KeysOf(project))?;
                self.active(project)?;
                let owner = match (actor, member) {
                    (Actor::Member { member: acting, .. }, Some(member)) if member != acting => {
                        return Err("api_key_of_another");
                    }
                    (Actor::Member { member: acting, .. }, _) => acting,
                    (_, Some(member)) => member,
                    (_, None) => &self.creator,
                };
                if self.keys.iter().any(|known| known.id == *key) {
                    return Err("api_key_exists");
                }
                if self.person(owner).is_none() {
                    return Err("member_not_found");
                }
                if self.reaches(project, owner).is_none() {
                    return Err("not_in_project");
                }
                let [_, (have, most)] = self.quantities(limits);
                if have >= most {
                    return Err("api_key_limit");
                }
                self.keys.push(Issued {
                    id: key.clone(),
                    project: project.clone(),
                    member: owner.clone(),
                    name: name.clone(),
                    secret: *secret,
                    hint: hint.clone(),
                    created_at: now,
                    revoked: None,
                });
                Ok(Answer::Entry)
            }
            C::RevokeKey { project, key } => {
                self.allowed(actor, Row::KeysOf(project))?;
                let found = self.keys.iter().find(|known| known.id == *key && known.project == *project);
                let owner = found.ok_or("api_key_not_found")?.member.clone();
                let own = matches!(actor, Actor::Member { member, .. } if *member == owner);
                if !own {
                    self.allowed(actor, Row::Project(project))?;
                }
                let works = found.is_some_and(|known| known.revoked.is_none());
                self.revoke(now, Revocation::Requested, |_, known| known.id == *key);
                entry_if(works)
            }
            C::Recharge { .. }
            | C::Refund { .. }
            | C::ReverseRecharge { .. }
            | C::Adjust { .. }
            | C::GrantVoucher { .. }
            | C::ExpireVouchers
            | C::SetCreditLimit(_)
            | C::PublishPrices { .. }
            | C::ReverseUsage { .. }
            | C::ReleaseUsage { .. }
            | C::DismissUsage { .. }
            | C::SealStatement { .. }
            | C::IssueInvoice { .. }
            | C::SetBalanceAlert(_)
            | C::SetBudgets { .. }
            | C::SetSpendNotifications { .. }
            | C::NoteBudgetRefusal { .. }
            | C::CreateWebhook { .. }
            | C::RotateWebhookSecret { .. }
            | C::DisableWebhook { .. }
            | C::EnableWebhook(_)
            | C::RemoveWebhook(_)
            | C::MoveIn(_) => panic!("{command:?} is not about people"),
        }
    }
}

fn change<T: Copy>(value: &mut Option<T>, change: Change<T>) {
    match change {
        Change::Keep => {}
        Change::Set(new) => *value = Some(new),
        Change::Remove => *value = None,
    }
}
