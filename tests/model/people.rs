//! Random walks of people: members of every role and nobody's, the platform and invitees manage organizations, valid
//! and invalid; the engine beside [`People`], compared after every step.
//!
//! `TOLLBOOK_SEEDS=500 cargo test -p tollbook-tests --test model people` runs that many seeds, `TOLLBOOK_SEEDS=17..18`
//! one.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tollbook_projections::organization::{InvitationEnd, Organization};
use tollbook_projections::state::Effect;
use tollbook_schemas::command::{Command, ConfigCommand, OrganizationCommand as C, PartitionCommand};
use tollbook_schemas::entry::{Actor, Idempotency};
use tollbook_schemas::id::{DisplayName, InvitationId, KeyId, MemberId, NodeName, OrgId, ProjectId};
use tollbook_schemas::policy::{Change, QuantityLimit, QuantityLimits, QuantityOverride, RateOverride};
use tollbook_schemas::role::{OrgRole, ProjectRole, Verification};
use tollbook_schemas::sealed::{Sealed, SecretHash};
use tollbook_schemas::time::{Day, Timestamp};
use tollbook_tests::memory::{MemoryLedger, Outcome, assert_audited, assert_same};
use tollbook_tests::people::{Answer, Group, People};
use tollbook_tests::script::{actor, idempotency, issue_key, register_by};

use crate::walk::told_seeds;

/// Seeds of a run that names none.
const SEEDS: std::ops::Range<u64> = 1..4;
/// Commands of one walk.
const STEPS: u32 = 10_000;
/// Organizations that there may be; one more is asked for in vain.
const ORGANIZATIONS: u128 = 8;
/// Persons who may be members of any of them.
const PERSONS: usize = 9;

const ZONES: [&str; 5] = ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kolkata", "Pacific/Kiritimati"];
const ROLES: [OrgRole; 2] = [OrgRole::Administrator, OrgRole::Member];
const TEAM_ROLES: [ProjectRole; 2] = [ProjectRole::Administrator, ProjectRole::Member];
const LEVELS: [Verification; 3] =
    [Verification::Unverified, Verification::Verified, Verification::EnterpriseVerified];

/// Everything that a run must have reached, or its walks ask too little.
const REACHED: &[&str] = &[
    "before",
    "void",
    "restart",
    "takeover",
    "refold",
    "accept: projects were archived",
    "accept: the level was lowered",
    "demoted: keys lost",
    "demoted: keys kept",
    "removed: keys lost",
    "left: keys lost",
    "archived: keys lost",
    "more than the limit",
    "zone: in force",
    "entry: accept",
    "entry: add to project",
    "entry: allowlist",
    "entry: archive",
    "entry: change",
    "entry: create project",
    "entry: erase",
    "entry: invite",
    "entry: issue key",
    "entry: level",
    "entry: override",
    "entry: quantity limits",
    "entry: register",
    "entry: remove",
    "entry: remove from project",
    "entry: rename",
    "entry: revoke invitation",
    "entry: revoke key",
    "entry: set project role",
    "entry: set role",
    "entry: tpm limit",
    "as it is: allowlist",
    "as it is: archive",
    "as it is: change",
    "as it is: erase",
    "as it is: level",
    "as it is: override",
    "as it is: quantity limits",
    "as it is: rename",
    "as it is: revoke key",
    "as it is: set project role",
    "as it is: set role",
    "as it is: tpm limit",
    "refused: api_key_exists",
    "refused: api_key_limit",
    "refused: api_key_not_found",
    "refused: api_key_of_another",
    "refused: contacts_erased",
    "refused: creator_stays",
    "refused: idempotency_conflict",
    "refused: invitation_exists",
    "refused: invitation_not_found",
    "refused: invitation_over",
    "refused: member_exists",
    "refused: member_not_found",
    "refused: not_a_member",
    "refused: not_an_invitee",
    "refused: not_in_project",
    "refused: organization_exists",
    "refused: organization_not_found",
    "refused: project_archived",
    "refused: project_exists",
    "refused: project_limit",
    "refused: project_member_not_found",
    "refused: project_not_found",
    "refused: role_missing",
    "refused: verification_missing",
];

#[test]
fn r1_r2_r3_r9_the_engine_and_the_model_of_people_agree_over_random_walks() {
    let mut reached = BTreeMap::new();
    let seeds = told_seeds().unwrap_or(SEEDS);
    for seed in seeds.clone() {
        let mut walk = Walk::new(seed);
        for step in 0..STEPS {
            walk.step = step;
            walk.step();
        }
        walk.end();
        for (what, times) in walk.reached {
            *reached.entry(what).or_insert(0) += times;
        }
    }
    for (what, times) in &reached {
        println!("{times:>9} {what}");
    }
    if seeds.count() < SEEDS.count() {
        // Whoever looks at one walk does not ask what all of them reach.
        return;
    }
    let missed: Vec<_> = REACHED.iter().filter(|what| !reached.contains_key(**what)).collect();
    assert!(missed.is_empty(), "the walks never reached {missed:?}");
}

struct Walk {
    seed: u64,
    step: u32,
    rng: StdRng,
    ledger: MemoryLedger,
    model: People,
    reached: BTreeMap<String, u64>,
    /// Makes ids.
    ids: u128,
    writers: u64,
    requests: Vec<(Actor, Command, Idempotency)>,
    /// An invitation that expires now, or just did, or is about to.
    due: Option<(OrgId, SecretHash)>,
}

fn person(number: usize) -> MemberId {
    MemberId::from_bits(u128::try_from(number).unwrap())
}

impl Walk {
    fn new(seed: u64) -> Self {
        let now: Timestamp = "2026-02-20T21:30:00Z".parse().unwrap();
        Self {
            seed,
            step: 0,
            rng: StdRng::seed_from_u64(seed),
            ledger: MemoryLedger::new(now),
            model: People::new(now),
            reached: BTreeMap::new(),
            ids: 0,
            writers: 1,
            requests: Vec::new(),
            due: None,
        }
    }

    fn place(&self) -> String {
        format!("seed={} step={}", self.seed, self.step)
    }

    fn reach(&mut self, what: impl Into<String>) {
        *self.reached.entry(what.into()).or_insert(0) += 1;
    }

    fn chance(&mut self, of_thousand: u32) -> bool {
        self.rng.random_range(0..1_000) < of_thousand
    }

    fn below(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end)
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn id(&mut self) -> u128 {
        self.ids += 1;
        self.ids
    }

    fn step(&mut self) {
        self.pass_time();
        if let Some((organization, token)) = self.due.take() {
            let group = self.model.find(&organization).cloned();
            let (name, email) = (self.sealed(group.as_ref()), self.sealed(group.as_ref()));
            let member = self.any_person(group.as_ref(), 100);
            let accept = C::AcceptInvitation { token, member, name, email };
            self.command(&actor("invitee"), &Command::Organization(organization, accept));
        } else if !self.requests.is_empty() && self.chance(25) {
            let place = self.below(self.requests.len());
            let (actor, command, mut asked) = self.requests[place].clone();
            if self.chance(300) {
                asked.content[0] ^= 1;
            }
            self.command_with(&actor, &command, Some(asked));
        } else {
            let organization = self.rng.random_range(1..=ORGANIZATIONS * 25 + 1).div_ceil(25);
            let organization = OrgId::from_bits(organization);
            let command = self.any_command(&organization);
            let actor = self.any_actor(&organization, &command);
            self.command(&actor, &command);
        }
        match self.below(1_000) {
            0..15 => self.restart(),
            15..20 => self.take_over(),
            20 if self.step.is_multiple_of(7) => self.refold(),
            _ => {}
        }
    }

    fn end(&mut self) {
        for group in &self.model.organizations.clone() {
            self.compare(&group.id);
        }
        self.refold();
        self.ledger.restart();
        for one_of in [20, 2_000, u32::MAX] {
            // Rows are taken after any entries.
            let refolded = self.ledger.refold(|_| self.rng.random_range(0..one_of) == 0);
            assert_same(&refolded, &self.ledger.state);
        }
    }

    fn pass_time(&mut self) {
        // Most orders of things happen within one invitation's week; some wait until it is just over or not quite.
        let seconds = match self.below(1_000) {
            0..850 => self.rng.random_range(0..120),
            850..930 => self.rng.random_range(600..7_200),
            930..950 => self.rng.random_range(20_000..200_000),
            950..980 => -self.rng.random_range(0..60),
            980..998 => return self.wait_for_an_expiry(),
            _ => 86_400 * self.rng.random_range(8..45),
        };
        self.ledger.now = self.ledger.now.plus_seconds(seconds).plus_nanos(self.rng.random_range(0..1_000));
    }

    fn wait_for_an_expiry(&mut self) {
        let now = self.ledger.now;
        let mut next: Option<(Timestamp, OrgId, SecretHash)> = None;
        for group in &self.model.organizations {
            for invited in group.invitations.iter().filter(|invited| invited.open(now)) {
                if next.as_ref().is_none_or(|(at, _, _)| invited.expires_at() < *at) {
                    next = Some((invited.expires_at(), group.id.clone(), invited.token));
                }
            }
        }
        if let Some((at, organization, token)) = next {
            self.ledger.now = at.plus_nanos(self.rng.random_range(-1..2));
            self.due = Some((organization, token));
        }
    }

    fn restart(&mut self) {
        self.ledger.restart();
        if self.chance(500) {
            self.writers += 1;
            self.ledger.change_writer(self.writers);
        }
        self.reach("restart");
    }

    fn take_over(&mut self) {
        let node = NodeName::parse(&format!("node{}", self.below(3))).unwrap();
        let command = Command::Partition(PartitionCommand::TakeOwnership(node));
        self.ledger.command(&command, None).unwrap();
        self.model.recorded_at = self.model.recorded_at.max(self.ledger.now);
        self.reach("takeover");
    }

    fn refold(&mut self) {
        let every = [11, 100, u64::MAX][self.below(3)];
        let refolded = self.ledger.refold(|position| position % every == 0);
        assert_same(&refolded, &self.ledger.state);
        self.reach("refold");
    }

    // Who.

    fn any_actor(&mut self, organization: &OrgId, command: &Command) -> Actor {
        let accepts = matches!(command, Command::Organization(_, C::AcceptInvitation { .. }));
        if accepts != self.chance(20) {
            return actor("invitee");
        }
        if matches!(command, Command::Organization(_, C::Register { .. })) {
            return actor("operator");
        }
        let platform = matches!(
            command,
            Command::Config(_)
                | Command::Organization(
                    _,
                    C::SetVerification(_) | C::OverrideLimits { .. } | C::EraseContacts
                )
        );
        let members: Vec<MemberId> = self
            .model
            .find(organization)
            .map(|group| group.members.iter().map(|known| known.id.clone()).collect())
            .unwrap_or_default();
        let member = match self.below(1_000) {
            0..250 => return actor("operator"),
            _ if platform && self.chance(800) => return actor("operator"),
            250..350 => person(self.below(PERSONS)),
            // Creators and the first who joined do most.
            350..600 if !members.is_empty() => members[0].clone(),
            _ if !members.is_empty() => self.one(&members),
            _ => person(0),
        };
        Actor::Member { token: None, member }
    }

    // What.

    fn any_command(&mut self, organization: &OrgId) -> Command {
        let group = self.model.find(organization).cloned();
        let command = match (&group, self.below(1_000)) {
            (None, 0..600) | (Some(_), 0..5) => {
                let zone = self.one(&ZONES).parse().unwrap();
                return register_by(organization.clone(), zone, person(self.below(PERSONS)));
            }
            (_, 5..40) => self.change(group.as_ref()),
            (_, 40..90) => {
                // Enterprise verification opens most.
                let level = if self.chance(600) { LEVELS[2] } else { self.one(&LEVELS) };
                C::SetVerification(level)
            }
            (_, 90..120) => self.override_limits(),
            (_, 120..150) => self.save_allowlist(),
            (_, 150..160) => C::EraseContacts,
            (_, 160..260) => self.invite(group.as_ref()),
            (_, 260..280) => C::RevokeInvitation(self.any_invitation(group.as_ref()).0),
            (_, 280..400) => {
                let member = self.any_person(group.as_ref(), 150);
                let token = self.any_invitation(group.as_ref()).1;
                let (name, email) = (self.sealed(group.as_ref()), self.sealed(group.as_ref()));
                C::AcceptInvitation { token, member, name, email }
            }
            (_, 400..440) => {
                C::SetRole { member: self.any_person(group.as_ref(), 850), role: self.one(&ROLES) }
            }
            (_, 440..470) => C::RemoveMember(self.any_person(group.as_ref(), 850)),
            (_, 470..540) => {
                C::CreateProject { project: self.new_project(group.as_ref()), name: self.name() }
            }
            (_, 540..560) => {
                C::RenameProject { project: self.any_project(group.as_ref()), name: self.name() }
            }
            (_, 560..580) => C::ArchiveProject(self.given_project(group.as_ref())),
            (_, 580..600) => {
                let limit = self.one(&[None, Some(0), Some(1_000), Some(u64::MAX)]);
                C::SetTpmLimit { project: self.any_project(group.as_ref()), limit }
            }
            (_, 600..680) => {
                let (project, member) =
                    (self.any_project(group.as_ref()), self.any_person(group.as_ref(), 900));
                C::AddProjectMember { project, member, role: self.one(&TEAM_ROLES) }
            }
            (_, 680..720) => {
                let (project, member) =
                    (self.any_project(group.as_ref()), self.any_person(group.as_ref(), 900));
                C::SetProjectRole { project, member, role: self.one(&TEAM_ROLES) }
            }
            (_, 720..750) => {
                let (project, member) =
                    (self.any_project(group.as_ref()), self.any_person(group.as_ref(), 900));
                C::RemoveProjectMember { project, member }
            }
            (_, 750..900) => return self.issue_key(organization, group.as_ref()),
            (_, 900..985) => self.revoke_key(group.as_ref()),
            (_, _) => return Command::Config(self.quantity_limits()),
        };
        Command::Organization(organization.clone(), command)
    }

    fn name(&mut self) -> DisplayName {
        DisplayName::parse(self.one(&["one", "two", "three"])).unwrap()
    }

    /// Mostly under the present key.
    fn sealed(&mut self, group: Option<&Group>) -> Sealed {
        let present = group.map_or(0, |group| group.erased);
        let key = if self.chance(30) { self.rng.random_range(0..present + 2) } else { present };
        Sealed { key, ciphertext: self.rng.random::<[u8; 4]>().to_vec().into() }
    }

    /// A member in so many of a thousand cases, otherwise anybody.
    fn any_person(&mut self, group: Option<&Group>, member: u32) -> MemberId {
        match group {
            Some(group) if self.chance(member) => self.one(&group.members).id,
            _ => person(self.below(PERSONS)),
        }
    }

    fn any_project(&mut self, group: Option<&Group>) -> ProjectId {
        let known = group.map(|group| group.projects.as_slice()).unwrap_or_default();
        let active: Vec<_> = known.iter().filter(|work| work.archived_at.is_none()).collect();
        match self.below(100) {
            0..3 => ProjectId::from_bits(0),
            3..10 if !known.is_empty() => self.one(known).id,
            // The first has a team.
            10..40 if !active.is_empty() => active[0].id.clone(),
            _ if !active.is_empty() => self.one(&active).id.clone(),
            _ => ProjectId::from_bits(0),
        }
    }

    /// Often one that an open invitation gives.
    fn given_project(&mut self, group: Option<&Group>) -> ProjectId {
        let now = self.ledger.now;
        let invitations = group.iter().flat_map(|group| &group.invitations);
        let open = invitations.filter(|invited| invited.open(now));
        let given: Vec<_> = open.flat_map(|invited| &invited.projects).collect();
        match given.is_empty() || self.chance(600) {
            true => self.any_project(group),
            false => self.one(&given).0.clone(),
        }
    }

    fn new_project(&mut self, group: Option<&Group>) -> ProjectId {
        if self.chance(50) { self.any_project(group) } else { ProjectId::from_bits(self.id()) }
    }

    fn any_invitation(&mut self, group: Option<&Group>) -> (InvitationId, SecretHash) {
        let known = group.map(|group| group.invitations.as_slice()).unwrap_or_default();
        let now = self.ledger.now;
        let open: Vec<_> = known.iter().filter(|invited| invited.open(now)).collect();
        match self.below(100) {
            0..15 if !known.is_empty() => {
                let invited = self.one(known);
                (invited.id, invited.token)
            }
            15..97 if !open.is_empty() => {
                let invited = self.one(&open);
                (invited.id.clone(), invited.token)
            }
            _ => (InvitationId::from_bits(0), SecretHash([0; 32])),
        }
    }

    fn change(&mut self, group: Option<&Group>) -> C {
        let name = self.chance(300).then(|| self.name());
        let email = self.chance(200).then(|| self.sealed(group));
        let zone = self.chance(600).then(|| self.one(&ZONES).parse().unwrap());
        C::Change { name, email, zone }
    }

    fn limit_change<T>(&mut self, values: &[T]) -> Change<T>
    where
        T: Copy,
    {
        match self.below(10) {
            0..5 => Change::Keep,
            5..8 => Change::Set(self.one(values)),
            _ => Change::Remove,
        }
    }

    fn override_limits(&mut self) -> C {
        let (few, many) = ([0, 1, 3, 10, u32::MAX], [0, 1, u64::MAX]);
        C::OverrideLimits {
            quantities: QuantityOverride {
                projects: self.limit_change(&few),
                api_keys: self.limit_change(&few),
            },
            rates: RateOverride {
                concurrency: self.limit_change(&many),
                rpm: self.limit_change(&many),
                tpm: self.limit_change(&many),
                tpd: self.limit_change(&many),
            },
        }
    }

    fn quantity_limits(&mut self) -> ConfigCommand {
        let mut limit = || {
            let [projects, api_keys] = [(); 2].map(|()| [2, 5, 20, 50][self.rng.random_range(0..4)]);
            QuantityLimit { projects, api_keys }
        };
        ConfigCommand::SetQuantityLimits(match limit() {
            QuantityLimit { projects: 2 | 5, .. } => QuantityLimits::default(),
            default => QuantityLimits { default, enterprise_verified: limit() },
        })
    }

    fn save_allowlist(&mut self) -> C {
        let networks = ["8.8.8.8/32", "198.51.100.0/24", "203.0.113.4/32"].map(|text| text.parse().unwrap());
        let first = self.below(3);
        let end = self.rng.random_range(first..=3);
        let mut entries = networks[first..end].to_vec();
        if self.chance(300) {
            entries.reverse();
        }
        C::SaveAllowlist(entries)
    }

    fn invite(&mut self, group: Option<&Group>) -> C {
        let email = self.chance(800).then(|| self.sealed(group));
        let many = self.below(3);
        let projects = (0..many).map(|_| (self.any_project(group), self.one(&TEAM_ROLES))).collect();
        let id = self.id();
        let invitation =
            if self.chance(50) { self.any_invitation(group).0 } else { InvitationId::from_bits(id) };
        let mut token = [1; 32];
        token[..16].copy_from_slice(&id.to_be_bytes());
        C::Invite { invitation, email, role: self.one(&ROLES), projects, token: SecretHash(token) }
    }

    fn issue_key(&mut self, organization: &OrgId, group: Option<&Group>) -> Command {
        let known = group.map(|group| group.keys.as_slice()).unwrap_or_default();
        let key = match self.below(100) {
            0..3 if !known.is_empty() => self.one(known).id,
            _ => KeyId::from_bits(self.id()),
        };
        let member = self.chance(200).then(|| self.any_person(group, 900));
        issue_key(organization.clone(), self.any_project(group), key, member)
    }

    fn revoke_key(&mut self, group: Option<&Group>) -> C {
        let known = group.map(|group| group.keys.as_slice()).unwrap_or_default();
        let working: Vec<_> = known.iter().filter(|key| key.revoked.is_none()).collect();
        let (key, project) = match self.below(100) {
            0..15 if !known.is_empty() => {
                let key = self.one(known);
                (key.id, key.project)
            }
            15..95 if !working.is_empty() => {
                let key = self.one(&working);
                (key.id.clone(), key.project.clone())
            }
            _ => (KeyId::from_bits(0), self.any_project(group)),
        };
        let project = if self.chance(50) { self.any_project(group) } else { project };
        C::RevokeKey { project, key }
    }

    // Deciding and comparing.

    fn command(&mut self, actor: &Actor, command: &Command) {
        let asked = self.chance(200).then(|| {
            let id = self.id();
            idempotency(&format!("key {id}"), &format!("{actor:?} {command:?}"))
        });
        if let Some(asked) = asked {
            self.requests.push((actor.clone(), command.clone(), asked));
        }
        self.command_with(actor, command, asked);
    }

    fn command_with(&mut self, actor: &Actor, command: &Command, asked: Option<Idempotency>) {
        let head = self.ledger.state.head();
        // An owner that does not know yet that it lost the partition.
        let (term, position) = (head.term, head.position.next().0);
        let stale = self.chance(15);
        let now = self.ledger.now;
        let group = match command {
            Command::Organization(id, _) => self.model.find(id).cloned(),
            Command::Config(_) | Command::Partition(_) => None,
        };
        let expected = self.model.command(actor, command, asked, now, position, stale);
        if self.chance(900) {
            // Digests then need to look only at what changed since.
            self.ledger.keep();
        }
        let before = (!matches!(expected, Answer::Entry | Answer::Noted)).then(|| self.ledger.digest());
        let outcome = self.ledger.command_in_term(actor, command, asked, term - u64::from(stale));
        let place = format!("{}: {actor:?}: {command:?}", self.place());
        match (outcome, &expected) {
            (Ok(Outcome::Entry { position: at, effects, events }), Answer::Noted) => {
                assert_eq!((at.0, events.len()), (position, 0), "{place}");
                match (stale, effects.as_slice()) {
                    (true, [Effect::Voided { .. }]) => self.reach("void"),
                    (false, [] | [Effect::Remembered { .. }]) => self.reach("noted"),
                    other => panic!("{place}: {other:?}"),
                }
            }
            (Ok(Outcome::Entry { position: at, effects, events }), Answer::Entry) => {
                assert_eq!(at.0, position, "{place}");
                assert!(!events.is_empty(), "{place}");
                match (stale, effects.as_slice()) {
                    (true, [Effect::Voided { .. }]) => self.reach("void"),
                    (false, effects) => {
                        assert_audited(command, &events, effects);
                        let (_, row) = self.ledger.audit.last().unwrap();
                        assert_eq!((row.position.0, &row.actor), (position, actor), "{place}");
                        self.reach(format!("entry: {}", name_of(command)));
                        self.note(command, group.as_ref());
                    }
                    other => panic!("{place}: {other:?}"),
                }
            }
            (Ok(Outcome::Before(at)), Answer::Before(before)) => {
                assert_eq!(at.0, *before, "{place}");
                self.reach("before");
            }
            (Ok(Outcome::AsItIs), Answer::AsItIs) => self.reach(format!("as it is: {}", name_of(command))),
            (Err(rejection), Answer::Refused(code)) => {
                assert_eq!(rejection.code(), *code, "{place}");
                self.reach(format!("refused: {code}"));
            }
            (outcome, expected) => panic!("{place}\n{outcome:?}\nthe model: {expected:?}"),
        }
        if let Some(before) = before {
            assert_eq!(self.ledger.digest(), before, "{place}: {expected:?} changed the digest");
        }
        assert_eq!(self.ledger.state.head().recorded_at, self.model.recorded_at, "{place}");
        assert_eq!(self.ledger.state.config().quantity_limits, self.model.quantity_limits(), "{place}");
        assert_eq!(self.ledger.state.organizations().count(), self.model.organizations.len(), "{place}");
        if let Command::Organization(id, _) = command {
            self.compare(&id.clone());
        }
    }

    /// Notes what is worth having been reached.
    fn note(&mut self, command: &Command, before: Option<&Group>) {
        let (Command::Organization(id, command), Some(before)) = (command, before) else { return };
        let after = self.model.find(id).unwrap();
        let working = |group: &Group, member: &MemberId| {
            group.keys.iter().filter(|key| key.member == *member && key.revoked.is_none()).count()
        };
        let of = |member| (working(before, member), working(after, member));
        let [(projects, most), (keys, most_keys)] = after.quantities(self.model.limits);
        let mut reached = Vec::new();
        if projects > most || keys > most_keys {
            reached.push("more than the limit");
        }
        match command {
            C::SetRole { member, role: OrgRole::Member } => match of(member) {
                (before, after) if after < before => reached.push("demoted: keys lost"),
                (before, _) if before > 0 => reached.push("demoted: keys kept"),
                _ => {}
            },
            C::RemoveMember(member) if of(member).0 > of(member).1 => reached.push("removed: keys lost"),
            C::RemoveProjectMember { member, .. } if of(member).0 > of(member).1 => {
                reached.push("left: keys lost");
            }
            C::ArchiveProject(project) if before.keys.iter().any(|key| key.project == *project) => {
                reached.push("archived: keys lost");
            }
            C::AcceptInvitation { token, .. } => {
                let invited = before.invitations.iter().find(|known| known.token == *token).unwrap();
                let archived = |id: &ProjectId| {
                    before.projects.iter().any(|work| work.id == *id && work.archived_at.is_some())
                };
                if invited.projects.iter().any(|(project, _)| archived(project)) {
                    reached.push("accept: projects were archived");
                }
                if before.level != Verification::EnterpriseVerified {
                    reached.push("accept: the level was lowered");
                }
            }
            _ => {}
        }
        if after.local(self.ledger.now).0 != after.zones[0].1.iana_name().unwrap() {
            reached.push("zone: in force");
        }
        for what in reached {
            self.reach(what);
        }
    }

    /// Everything that State knows of an organization's people, projects, keys and limits.
    fn compare(&self, id: &OrgId) {
        let (given, expected) = (self.ledger.state.organization(id), self.model.find(id));
        match (given, expected) {
            (None, None) => {}
            (Some(given), Some(expected)) => {
                if let Some(what) = difference(given, expected, self.ledger.now) {
                    panic!("{}: {id}: {what} differ\n{given:#?}\n{expected:#?}", self.place());
                }
                let limit = given.quantity_limit(self.ledger.state.config());
                let [(projects, most), (keys, most_keys)] = expected.quantities(self.model.limits);
                let used = given.quantities_used();
                let given = [(used.projects, limit.projects), (used.api_keys, limit.api_keys)];
                let number = |value: usize| u32::try_from(value).unwrap();
                let expected = [(number(projects), number(most)), (number(keys), number(most_keys))];
                assert_eq!(given, expected, "{}: {id}", self.place());
            }
            _ => panic!("{}: {id}: {given:?} {expected:?}", self.place()),
        }
    }
}

/// The first thing in which State and the model differ.
fn difference(given: &Organization, expected: &Group, now: Timestamp) -> Option<&'static str> {
    let profile = given.name == expected.name
        && given.email == expected.email
        && given.creator == expected.creator
        && given.created_at == expected.created_at
        && given.contact_key == expected.erased
        && given.has_contacts == expected.readable
        && given.verification == expected.level;
    let limits = [given.quantities.projects, given.quantities.api_keys] == expected.own_limits
        && [given.rates.concurrency, given.rates.rpm, given.rates.tpm, given.rates.tpd] == expected.own_rates;
    let allowlist: Vec<String> = given.allowlist.iter().map(ToString::to_string).collect();
    let members = given.members.len() == expected.members.len()
        && expected.members.iter().all(|person| {
            given.members.get(&person.id).is_some_and(|known| {
                known.name == person.name
                    && known.email == person.email
                    && known.role == person.role
                    && known.joined_at == person.joined_at
            })
        });
    let invitations = given.invitations.len() == expected.invitations.len()
        && expected.invitations.iter().all(|invited| {
            let ended = invited.ended.clone().map(|by| match by {
                Some(member) => InvitationEnd::Accepted(member),
                None => InvitationEnd::Revoked,
            });
            given.invitations.get(&invited.id).is_some_and(|known| {
                known.email == invited.email
                    && known.role == invited.role
                    && known.projects == invited.projects
                    && known.token == invited.token
                    && known.created_at == invited.created_at
                    && known.expires_at == invited.expires_at()
                    && known.ended == ended
            })
        });
    let projects = given.projects.len() == expected.projects.len()
        && expected.projects.iter().all(|work| {
            given.projects.get(&work.id).is_some_and(|known| {
                known.name == work.name
                    && known.created_at == work.created_at
                    && known.archived_at == work.archived_at
                    && known.tpm_limit == work.tpm
                    && known.members.len() == work.team.len()
                    && work.team.iter().all(|(member, role)| known.members.get(member) == Some(role))
            })
        });
    let keys = given.keys.len() == expected.keys.len()
        && expected.keys.iter().all(|key| {
            given.keys.get(&key.id).is_some_and(|known| {
                known.project == key.project
                    && known.member == key.member
                    && known.name == key.name
                    && known.secret == key.secret
                    && known.hint == key.hint
                    && known.created_at == key.created_at
                    && known.revoked == key.revoked
            })
        });
    let calendar = given.calendar.zone_at(now).name() == expected.local(now).0
        && given.calendar.zone_at(Timestamp::MAX).name() == expected.last_zone()
        && [-400, -31, -1, 0, 1, 31].iter().all(|days| {
            let at = now.plus_seconds(86_400 * days);
            given.calendar.day(at) == Day::of_date(expected.local(at).1)
        });
    let same = [
        (profile, "profiles"),
        (limits, "limits"),
        (allowlist == expected.allowlist, "allowlists"),
        (members, "members"),
        (invitations, "invitations"),
        (projects, "projects"),
        (keys, "keys"),
        (calendar, "calendars"),
    ];
    same.iter().find(|(same, _)| !same).map(|(_, what)| *what)
}

fn name_of(command: &Command) -> &'static str {
    let command = match command {
        Command::Organization(_, command) => command,
        Command::Config(_) => return "quantity limits",
        Command::Partition(_) => panic!("{command:?} is not about people"),
    };
    match command {
        C::Register { .. } => "register",
        C::Change { .. } => "change",
        C::SetVerification(_) => "level",
        C::OverrideLimits { .. } => "override",
        C::SaveAllowlist(_) => "allowlist",
        C::EraseContacts => "erase",
        C::Invite { .. } => "invite",
        C::RevokeInvitation(_) => "revoke invitation",
        C::AcceptInvitation { .. } => "accept",
        C::SetRole { .. } => "set role",
        C::RemoveMember(_) => "remove",
        C::CreateProject { .. } => "create project",
        C::RenameProject { .. } => "rename",
        C::ArchiveProject(_) => "archive",
        C::SetTpmLimit { .. } => "tpm limit",
        C::AddProjectMember { .. } => "add to project",
        C::SetProjectRole { .. } => "set project role",
        C::RemoveProjectMember { .. } => "remove from project",
        C::IssueKey { .. } => "issue key",
        C::RevokeKey { .. } => "revoke key",
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
