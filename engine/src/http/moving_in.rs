//! Moving in: organizations that have a past elsewhere (R10.1).

use std::borrow::Cow;
use std::collections::BTreeMap;

use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::{MoveIn, MovedInKey, MovedInMember, OrganizationCommand};
use tollbook_schemas::event::{Event, KeyEvent, MemberEvent, OrganizationEvent, ProjectEvent};
use tollbook_schemas::id::{DisplayName, KeyId, MemberId, OrgId, ProjectId, Reference, VoucherId};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::role::{OrgRole, ProjectRole, Verification};
use tollbook_schemas::sealed::SecretHash;
use tollbook_schemas::time::{Timestamp, Zone};
use utoipa::openapi::schema::ObjectBuilder;

use super::booked::{Balance, balance_of};
use super::document::{Routes, Says, Verb};
use super::kinds::{Email, string};
use super::problem::{Fault, Problem};
use super::shape::{Text, answer, request};
use super::write::{Created, Write};
use crate::clock;
use crate::node::Node;

pub(super) fn routes(routes: &mut Routes) {
    routes.family("Moving in", "Organizations that have a past in another system.");
    let says = Says {
        id: "moveIn",
        summary: "Register an organization with its past",
        more: "One entry of the log takes all of it or nothing. Nothing is granted again: who has recharged the voucher \
               policy's threshold gets no voucher from it any more. References of payments that were made before are \
               refused for new recharges. Customers keep their API keys: only SHA-256 of each secret is needed. Send an \
               `Idempotency-Key`, so that a repetition makes no second organization.",
    };
    routes.write(Verb::Post, "/v1/organizations/imports", says, move_in);
}

request! {
    /// An organization with its past.
    pub(super) struct MovingIn {
        /// What people call it.
        name: DisplayName,
        /// Its registered address.
        email: Email,
        /// Who created it: its first administrator.
        creator: MovingInPerson,
        /// The time zone of its days and months; UTC unless said otherwise.
        time_zone: Option<Zone>,
        /// How far it is verified; not, unless said otherwise.
        verification: Option<Verification>,
        /// Its cash, below zero when it owes.
        cash: Amount,
        /// All that it ever recharged, less refunds.
        cumulative_recharge: Amount,
        /// Whether it got the voucher policy's voucher already; no, unless said otherwise.
        voucher_granted: Option<bool>,
        /// What is left of its vouchers.
        vouchers: Option<Vec<MovingInVoucher>>,
        /// References of payments that were booked before.
        references: Option<Vec<Reference>>,
        /// Its members besides the creator.
        members: Option<Vec<MovingInMember>>,
        /// Its projects.
        projects: Option<Vec<MovingInProject>>,
    }
}

request! {
    /// A person.
    pub(super) struct MovingInPerson {
        /// What the rest of this request calls them: their id in the other system, say. It is not kept.
        label: Option<Label>,
        /// Their name.
        name: DisplayName,
        /// Their address.
        email: Email,
    }
}

request! {
    /// A member.
    pub(super) struct MovingInMember {
        /// What the rest of this request calls them: their id in the other system, say. It is not kept.
        label: Option<Label>,
        /// Their name.
        name: DisplayName,
        /// Their address.
        email: Email,
        /// Their role; member unless said otherwise.
        role: Option<OrgRole>,
    }
}

request! {
    /// What is left of a voucher.
    pub(super) struct MovingInVoucher {
        /// How much; more than 0.
        amount: Amount,
        /// When what is left then is lost; never unless said otherwise.
        expires_at: Option<Timestamp>,
    }
}

request! {
    /// A project.
    pub(super) struct MovingInProject {
        /// What people call it.
        name: DisplayName,
        /// Its members.
        members: Option<Vec<MovingInRole>>,
        /// Its keys that work.
        api_keys: Option<Vec<MovingInApiKey>>,
    }
}

request! {
    /// A member of a project.
    pub(super) struct MovingInRole {
        /// The member's label.
        member: Label,
        /// Their role there.
        role: ProjectRole,
    }
}

request! {
    /// An API key that customers have.
    pub(super) struct MovingInApiKey {
        /// What people call it.
        name: DisplayName,
        /// The label of whoever created it; the creator of the organization unless said otherwise.
        member: Option<Label>,
        /// SHA-256 of the secret, in hexadecimal.
        secret_sha256: Sha256,
        /// The last four characters of the secret.
        hint: Hint,
    }
}

answer! {
    /// An organization that was moved in.
    pub(super) struct MovedIn {
        /// Its id.
        id: OrgId,
        /// What people call it.
        name: DisplayName,
        /// Its members in the order of the request, the creator first.
        members: Vec<MemberId>,
        /// Its projects in the order of the request.
        projects: Vec<MovedInProject>,
        /// As it is now.
        balance: Balance,
    }
}

answer! {
    /// A project that was moved in.
    pub(super) struct MovedInProject {
        /// Its id.
        id: ProjectId,
        /// What people call it.
        name: DisplayName,
        /// Its keys in the order of the request.
        api_keys: Vec<KeyId>,
    }
}

/// What a request calls a member.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Label(String);

impl Text for Label {
    const NAME: &'static str = "Label";

    fn schema() -> ObjectBuilder {
        string("What a request calls somebody.").min_length(Some(1)).max_length(Some(128))
    }

    fn of(text: &str) -> Result<Self, String> {
        match text.chars().count() {
            1..=128 => Ok(Self(text.to_owned())),
            _ => Err("must have 1 to 128 characters".to_owned()),
        }
    }

    fn text(&self) -> Cow<'_, str> {
        self.0.as_str().into()
    }
}

/// SHA-256 in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sha256([u8; 32]);

impl Text for Sha256 {
    const NAME: &'static str = "Sha256";

    fn schema() -> ObjectBuilder {
        string("SHA-256 in hexadecimal.").pattern(Some("^[0-9a-fA-F]{64}$"))
    }

    fn of(text: &str) -> Result<Self, String> {
        let must = || "must be 64 hexadecimal digits".to_owned();
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(must());
        }
        let mut hash = [0; 32];
        for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| must())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| must())?;
        }
        Ok(Self(hash))
    }

    fn text(&self) -> Cow<'_, str> {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
    }
}

/// How a secret ends.
#[derive(Clone, Debug)]
pub(super) struct Hint(String);

impl Text for Hint {
    const NAME: &'static str = "Hint";

    fn schema() -> ObjectBuilder {
        string("The last four characters of a secret.").pattern(Some("^[!-~]{4}$"))
    }

    fn of(text: &str) -> Result<Self, String> {
        let four = text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_graphic());
        if four {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be the last four characters of the secret".to_owned())
        }
    }

    fn text(&self) -> Cow<'_, str> {
        self.0.as_str().into()
    }
}

async fn move_in(Write { body, author, .. }: Write<(), MovingIn>) -> Result<Created<MovedIn>, Problem> {
    // With an idempotency key the id follows from it, so that a repetition finds the organization, wherever it is.
    let organization = OrgId::from_bits(author.id_bits());
    author.may_decide(&organization)?;
    let people = People::of(&body)?;
    let contacts = author.node.contacts();
    let seal = async |text: &str| contacts.seal(&organization, 0, text).await;
    let mut members = Vec::new();
    for (member, id) in body.members.iter().flatten().zip(people.members.iter().skip(1)) {
        members.push(MovedInMember {
            member: id.clone(),
            name: seal(member.name.as_str()).await?,
            email: seal(&member.email.0).await?,
            role: member.role.unwrap_or(OrgRole::Member),
        });
    }
    let Projects { projects, project_roles, keys } = Projects::of(&body, &people)?;
    not_in_use(&author.node, &organization, &keys).await?;
    let vouchers = body
        .vouchers
        .iter()
        .flatten()
        .map(|voucher| (VoucherId::from_bits(clock::new_id_bits()), voucher.amount, voucher.expires_at));
    let new = MoveIn {
        email: seal(&body.email.0).await?,
        creator: people.creator(),
        creator_name: seal(body.creator.name.as_str()).await?,
        creator_email: seal(&body.creator.email.0).await?,
        zone: body.time_zone.unwrap_or_else(Zone::utc),
        verification: body.verification.unwrap_or(Verification::Unverified),
        cash: body.cash,
        cumulative_recharge: body.cumulative_recharge,
        voucher_granted: body.voucher_granted.unwrap_or(false),
        references: body.references.unwrap_or_default(),
        vouchers: vouchers.collect(),
        members,
        projects,
        project_roles,
        keys,
        name: body.name,
    };
    let done = author.decide(&organization, OrganizationCommand::MoveIn(Box::new(new))).await?;
    let balance = balance_of(&author.node, &organization).await?;
    let moved_in = moved_in(organization, &done.events, balance)?;
    Ok(Created::new(done, moved_in))
}

/// Refuses keys that another organization has or had, of whichever partition: a secret leads to one key. Within a
/// partition the decision asks again.
async fn not_in_use(node: &Node, organization: &OrgId, keys: &[MovedInKey]) -> Result<(), Problem> {
    for owner in node.owners() {
        let secrets: Vec<_> = keys.iter().map(|key| (key.secret, key.name.clone())).collect();
        let organization = organization.clone();
        let taken = owner.read(move |state| {
            let others = |secret| state.key_by_secret(secret).filter(|(of, ..)| of.id != organization);
            secrets.iter().find(|(secret, _)| others(secret).is_some()).map(|(_, name)| name.clone())
        });
        if let Some(name) = taken.await? {
            return Err(Rejection::SecretTaken(name).into());
        }
    }
    Ok(())
}

/// Ids of members in the order of the request, and by their labels.
struct People {
    /// The creator first.
    members: Vec<MemberId>,
    by_label: BTreeMap<Label, MemberId>,
}

impl People {
    fn of(body: &MovingIn) -> Result<Self, Problem> {
        let members = body.members.iter().flatten();
        let labels = members
            .enumerate()
            .map(|(index, member)| (format!("members[{index}].label"), member.label.as_ref()));
        let creator = ("creator.label".to_owned(), body.creator.label.as_ref());
        let mut people = Self { members: Vec::new(), by_label: BTreeMap::new() };
        for (field, label) in std::iter::once(creator).chain(labels) {
            let id = MemberId::from_bits(clock::new_id_bits());
            if let Some(label) = label
                && people.by_label.insert(label.clone(), id.clone()).is_some()
            {
                return Err(refused(&field, label, "is somebody else's label already"));
            }
            people.members.push(id);
        }
        Ok(people)
    }

    /// The ids were made with the creator's, so there is always one.
    fn creator(&self) -> MemberId {
        self.members.first().cloned().unwrap_or_else(|| MemberId::from_bits(0))
    }

    fn find(&self, field: &str, label: &Label) -> Result<MemberId, Problem> {
        self.by_label.get(label).cloned().ok_or_else(|| refused(field, label, "is nobody's label"))
    }
}

/// Projects, who is in them, and their keys.
#[derive(Default)]
struct Projects {
    projects: Vec<(ProjectId, DisplayName)>,
    project_roles: Vec<(ProjectId, MemberId, ProjectRole)>,
    keys: Vec<MovedInKey>,
}

impl Projects {
    fn of(body: &MovingIn, people: &People) -> Result<Self, Problem> {
        let (mut all, mut secrets) = (Self::default(), BTreeMap::new());
        for (index, project) in body.projects.iter().flatten().enumerate() {
            let id = ProjectId::from_bits(clock::new_id_bits());
            for (number, role) in project.members.iter().flatten().enumerate() {
                let field = format!("projects[{index}].members[{number}].member");
                all.project_roles.push((id.clone(), people.find(&field, &role.member)?, role.role));
            }
            for (number, key) in project.api_keys.iter().flatten().enumerate() {
                let field = format!("projects[{index}].api_keys[{number}]");
                if secrets.insert(key.secret_sha256, ()).is_some() {
                    let field = format!("{field}.secret_sha256");
                    return Err(refused(&field, &key.secret_sha256, "is another key's already"));
                }
                let member = match &key.member {
                    Some(label) => people.find(&format!("{field}.member"), label)?,
                    None => people.creator(),
                };
                all.keys.push(MovedInKey {
                    key: KeyId::from_bits(clock::new_id_bits()),
                    project: id.clone(),
                    member,
                    name: key.name.clone(),
                    secret: SecretHash(key.secret_sha256.0),
                    hint: key.hint.0.clone(),
                });
            }
            all.projects.push((id, project.name.clone()));
        }
        Ok(all)
    }
}

fn refused(field: &str, value: &impl Text, reason: &str) -> Problem {
    Problem::inconsistent(vec![Fault::at(field, Some(value.text().into_owned().into()), reason)])
}

/// What the entry says that moved it in: the first one's, for a repetition.
fn moved_in(id: OrgId, events: &[Event], balance: Balance) -> Result<MovedIn, Problem> {
    let (mut name, mut members) = (None, Vec::new());
    let mut projects: Vec<MovedInProject> = Vec::new();
    for event in events {
        if let Event::Organization(OrganizationEvent::Registered { name: called, creator, .. }) = event {
            name = Some(called.clone());
            members.push(creator.clone());
        } else if let Event::Member(MemberEvent::Joined { member, .. }) = event {
            members.push(member.clone());
        } else if let Event::Project(ProjectEvent::Created { project, name }) = event {
            let (id, name) = (project.clone(), name.clone());
            projects.push(MovedInProject { id, name, api_keys: Vec::new() });
        } else if let Event::Key(KeyEvent::Issued { key, project, .. }) = event
            && let Some(found) = projects.iter_mut().find(|known| known.id == *project)
        {
            found.api_keys.push(key.clone());
        }
    }
    let name = name.ok_or_else(|| Problem::internal("the entry registered nothing"))?;
    Ok(MovedIn { id, name, members, projects, balance })
}
