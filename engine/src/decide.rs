//! Deciding: State and an intent in, events or a refusal out. Pure.
//!
//! Who asks is checked first, here for all ([`crate::permission`]). Then one file per family: every function checks
//! what it is about and what the rules say, all of it before its first event.

mod alert;
mod budget;
mod config;
pub(crate) mod cycle;
mod key;
mod member;
mod money;
mod months;
mod moving_in;
mod organization;
mod project;
mod usage;
mod webhook;

use tollbook_projections::movement::{Movement, MovementKey, MovementKind};
use tollbook_projections::organization::{Member, Organization, Project};
use tollbook_projections::past::{Past, Questions};
use tollbook_projections::state::State;
use tollbook_schemas::command::{Command, ConfigCommand, OrganizationCommand, PartitionCommand};
use tollbook_schemas::entry::{Actor, Idempotency};
use tollbook_schemas::event::{ConfigEvent, Event, PartitionEvent};
use tollbook_schemas::id::{MemberId, OrgId, ProjectId, Reference};
use tollbook_schemas::position::{LogPosition, Position};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::sealed::Sealed;
use tollbook_schemas::time::{Timestamp, Zone};

pub(crate) use self::member::INVITATION_SECONDS;
use crate::permission::{self, Action};

/// What a command leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    /// These events, in one entry.
    Events(Vec<Event>),
    /// Nothing: the same was asked before and led to this entry (R4.7).
    Before(Position),
    /// Nothing: everything is as wanted already.
    AsItIs,
}

impl Decided {
    /// These events; without any, everything is as wanted already.
    fn of(events: impl IntoIterator<Item = Event>) -> Self {
        let events: Vec<Event> = events.into_iter().collect();
        if events.is_empty() { Self::AsItIs } else { Self::Events(events) }
    }
}

type Refusable = Result<Decided, Rejection>;

/// A command about an organization that exists: everything that its decision may look at.
struct Case<'a> {
    state: &'a State,
    organization: &'a Organization,
    actor: &'a Actor,
    /// What came before and is not in State any more.
    past: &'a Past,
    /// Never before what is recorded already.
    now: Timestamp,
}

impl<'a> Case<'a> {
    fn member(&self, member: &MemberId) -> Result<&'a Member, Rejection> {
        self.organization.members.get(member).ok_or_else(|| Rejection::MemberUnknown(member.clone()))
    }

    fn project(&self, project: &ProjectId) -> Result<&'a Project, Rejection> {
        self.organization.projects.get(project).ok_or_else(|| Rejection::ProjectUnknown(project.clone()))
    }

    fn active_project(&self, project: &ProjectId) -> Result<&'a Project, Rejection> {
        let found = self.project(project)?;
        if found.is_active() { Ok(found) } else { Err(Rejection::ProjectArchived(project.clone())) }
    }

    /// Movements that a key finds, in the order of the log.
    fn movements<'b>(&self, key: &'b MovementKey) -> impl Iterator<Item = &'a Movement> + use<'a, 'b> {
        self.all_movements().filter(move |movement| movement.answers(key))
    }

    /// What State remembers, and before it what was looked up for this command.
    fn all_movements(&self) -> impl Iterator<Item = &'a Movement> + use<'a> {
        let recent = &self.organization.recent;
        let older = self.past.movements.iter().filter(|movement| movement.position <= recent.dropped());
        older.chain(recent.movements())
    }

    /// The first of them.
    fn movement(&self, key: &MovementKey) -> Option<&'a Movement> {
        self.movements(key).next()
    }

    /// Whether personal data was sealed under the key that is not erased (R9.2).
    fn sealed_under_present_key<'b>(
        &self,
        fields: impl IntoIterator<Item = &'b Sealed>,
    ) -> Result<(), Rejection> {
        let present = self.organization.contact_key;
        if fields.into_iter().all(|sealed| sealed.key == present) {
            Ok(())
        } else {
            Err(Rejection::ContactsErased)
        }
    }
}

/// What a command needs to know of its organization's past.
pub fn questions(command: &Command, idempotency: Option<&Idempotency>) -> Questions {
    use MovementKind as K;
    use OrganizationCommand as C;
    let mut questions = Questions::default();
    let Command::Organization(_, command) = command else { return questions };
    questions.idempotency = idempotency.map(|idempotency| idempotency.key);
    let reference = |kind, reference: &Reference| MovementKey::Reference(kind, reference.clone());
    match command {
        C::Recharge { reference: of, .. } => questions.movements.push(reference(K::Recharge, of)),
        C::Refund { reference: of, recharge, .. } => {
            questions.movements.push(reference(K::Refund, of));
            questions.movements.extend(recharge.clone().map(MovementKey::Recharge));
        }
        C::ReverseRecharge { reference: of, recharge, .. } => {
            questions.movements.push(reference(K::RechargeReversal, of));
            questions.movements.push(MovementKey::Recharge(recharge.clone()));
        }
        C::Adjust { reference: of, .. } => questions.movements.push(reference(K::Adjustment, of)),
        C::GrantVoucher { reference: of, .. } => questions.movements.push(reference(K::VoucherGrant, of)),
        C::ReverseUsage { usage, .. } => questions.movements.push(MovementKey::Usage(*usage)),
        C::ReleaseUsage { place, .. } | C::DismissUsage { place, .. } => questions.quarantined = Some(*place),
        C::IssueInvoice { month, .. } => {
            questions.movements.push(MovementKey::Invoice(*month));
            questions.month = Some(*month);
        }
        C::Register { .. }
        | C::Change { .. }
        | C::SetVerification(_)
        | C::OverrideLimits { .. }
        | C::SaveAllowlist(_)
        | C::EraseContacts
        | C::Invite { .. }
        | C::RevokeInvitation(_)
        | C::AcceptInvitation { .. }
        | C::SetRole { .. }
        | C::RemoveMember(_)
        | C::CreateProject { .. }
        | C::RenameProject { .. }
        | C::ArchiveProject(_)
        | C::SetTpmLimit { .. }
        | C::AddProjectMember { .. }
        | C::SetProjectRole { .. }
        | C::RemoveProjectMember { .. }
        | C::IssueKey { .. }
        | C::RevokeKey { .. }
        | C::ExpireVouchers
        | C::SetCreditLimit(_)
        | C::PublishPrices { .. }
        | C::SealStatement { .. }
        | C::SetBalanceAlert(_)
        | C::SetBudgets { .. }
        | C::SetSpendNotifications { .. }
        | C::NoteBudgetRefusal { .. }
        | C::CreateWebhook { .. }
        | C::RotateWebhookSecret { .. }
        | C::DisableWebhook { .. }
        | C::EnableWebhook(_)
        | C::RemoveWebhook(_)
        | C::MoveIn(_) => {}
    }
    questions
}

/// Decides one command of one actor at one instant; `past` answers its [`questions`].
pub fn decide(
    state: &State,
    command: &Command,
    actor: &Actor,
    idempotency: Option<&Idempotency>,
    past: &Past,
    now: Timestamp,
) -> Result<Decided, Rejection> {
    let decided = match command {
        Command::Organization(id, command) => {
            let asked = Asked { actor, idempotency, past, now };
            decide_organization(state, id, command, &asked)?
        }
        Command::Config(command) => {
            platform_only(actor)?;
            match replay(state, idempotency, |key| state.idempotency(key).copied())? {
                Some(before) => Decided::Before(before),
                None => decide_config(state, command, now)?,
            }
        }
        Command::Partition(command) => decide_partition(state, command, now),
    };
    // A key counts for a request that changed nothing too: its repetition must not change anything later.
    match decided {
        Decided::AsItIs if idempotency.is_some() => Ok(Decided::Events(Vec::new())),
        Decided::AsItIs | Decided::Events(_) | Decided::Before(_) => Ok(decided),
    }
}

/// Refuses members and newcomers.
fn platform_only(actor: &Actor) -> Result<(), Rejection> {
    match actor {
        Actor::Engine | Actor::Operator { .. } => Ok(()),
        Actor::Member { .. } | Actor::Invitee { .. } => {
            Err(Rejection::RoleMissing { needed: "the platform" })
        }
    }
}

/// Who asks for something, and with what.
struct Asked<'a> {
    actor: &'a Actor,
    idempotency: Option<&'a Idempotency>,
    past: &'a Past,
    now: Timestamp,
}

fn decide_organization(
    state: &State,
    id: &OrgId,
    command: &OrganizationCommand,
    asked: &Asked<'_>,
) -> Refusable {
    let Asked { actor, idempotency, past, now } = *asked;
    let known = state.organization(id);
    let wanted = known.zip(action(known, command));
    // Who asks comes first, for repetitions too: they are answered with what is shown now.
    match &wanted {
        Some((organization, action)) => permission::role_allows(organization, actor, action)?,
        None if registers(command) => platform_only(actor)?,
        None => {}
    }
    let remembered = |key: &[u8; 16]| {
        known.and_then(|known| known.recent.idempotency(key)).or(known.and(past.idempotency))
    };
    if let Some(before) = replay(state, idempotency, remembered)? {
        return Ok(Decided::Before(before));
    }
    if let OrganizationCommand::Register { name, email, creator, creator_name, creator_email, zone } = command
    {
        let new = organization::NewOrganization { name, email, creator, creator_name, creator_email, zone };
        return organization::register(id, known, &new);
    }
    if let OrganizationCommand::MoveIn(new) = command {
        return moving_in::move_in(state, id, new, now);
    }
    let organization = known.ok_or_else(|| Rejection::OrganizationUnknown(id.clone()))?;
    if let Some((organization, action)) = &wanted {
        permission::level_allows(organization, action)?;
    }
    let case = Case { state, organization, actor, past, now: now.max(state.head().recorded_at) };
    match command {
        OrganizationCommand::Register { .. } | OrganizationCommand::MoveIn(_) => {
            Err(Rejection::OrganizationExists(id.clone()))
        }
        OrganizationCommand::Change { name, email, zone } => {
            organization::change(&case, name.as_ref(), email.as_ref(), zone.as_ref())
        }
        OrganizationCommand::SetVerification(level) => organization::set_verification(&case, *level),
        OrganizationCommand::OverrideLimits { quantities, rates } => {
            organization::override_limits(&case, *quantities, *rates)
        }
        OrganizationCommand::SaveAllowlist(entries) => organization::save_allowlist(&case, entries),
        OrganizationCommand::EraseContacts => organization::erase_contacts(&case),
        OrganizationCommand::Invite { invitation, email, role, projects, token } => {
            let new =
                member::NewInvitation { invitation, email: email.as_ref(), role: *role, projects, token };
            member::invite(&case, &new)
        }
        OrganizationCommand::RevokeInvitation(invitation) => member::revoke_invitation(&case, invitation),
        OrganizationCommand::AcceptInvitation { token, member, name, email } => {
            member::accept(&case, token, &member::NewMember { member, name, email })
        }
        OrganizationCommand::SetRole { member, role } => member::set_role(&case, member, *role),
        OrganizationCommand::RemoveMember(member) => member::remove(&case, member),
        OrganizationCommand::CreateProject { project, name } => project::create(&case, project, name),
        OrganizationCommand::RenameProject { project, name } => project::rename(&case, project, name),
        OrganizationCommand::ArchiveProject(project) => project::archive(&case, project),
        OrganizationCommand::SetTpmLimit { project, limit } => project::set_tpm_limit(&case, project, *limit),
        OrganizationCommand::AddProjectMember { project, member, role } => {
            member::add_to_project(&case, project, member, *role)
        }
        OrganizationCommand::SetProjectRole { project, member, role } => {
            member::set_project_role(&case, project, member, *role)
        }
        OrganizationCommand::RemoveProjectMember { project, member } => {
            member::remove_from_project(&case, project, member)
        }
        OrganizationCommand::IssueKey { key, project, member, name, secret, hint } => {
            let new = key::NewKey { key, project, member: member.as_ref(), name, secret, hint };
            key::issue(&case, &new)
        }
        OrganizationCommand::RevokeKey { project, key } => key::revoke(&case, project, key),
        OrganizationCommand::Recharge { recharge, amount, reference, voucher } => {
            let new = money::NewRecharge { recharge, amount: *amount, reference, voucher };
            money::recharge(&case, &new)
        }
        OrganizationCommand::Refund { refund, amount, reference, recharge, note } => {
            let new =
                money::NewRefund { refund, amount: *amount, reference, recharge: recharge.as_ref(), note };
            money::refund(&case, &new)
        }
        OrganizationCommand::ReverseRecharge { reversal, recharge, amount, reference, reason, note } => {
            let new = money::NewReversal { reversal, recharge, amount: *amount, reference, reason, note };
            money::reverse_recharge(&case, &new)
        }
        OrganizationCommand::Adjust { adjustment, amount, reference, reason, corrects } => {
            let (amount, corrects) = (*amount, *corrects);
            let new = money::NewAdjustment { adjustment, amount, reference, reason, corrects };
            money::adjust(&case, &new)
        }
        OrganizationCommand::GrantVoucher { voucher, amount, reference, expires_at, reason } => {
            let (amount, expires_at) = (*amount, *expires_at);
            let new = money::NewVoucher { voucher, amount, reference, expires_at, reason: reason.as_ref() };
            money::grant_voucher(&case, &new)
        }
        OrganizationCommand::ExpireVouchers => Ok(money::expire_vouchers(&case)),
        OrganizationCommand::SetCreditLimit(limit) => money::set_credit_limit(&case, *limit),
        OrganizationCommand::PublishPrices { currency, list } => {
            config::publish_own_prices(&case, currency, list)
        }
        OrganizationCommand::ReverseUsage { reversal, usage, booked, reason } => {
            Ok(usage::reverse(&case, reversal, *usage, booked, reason))
        }
        OrganizationCommand::ReleaseUsage { place, usage } => usage::release(&case, *place, usage.as_deref()),
        OrganizationCommand::DismissUsage { place, reason } => usage::dismiss(&case, *place, reason),
        OrganizationCommand::SealStatement { month, hash } => months::seal(&case, *month, *hash),
        OrganizationCommand::IssueInvoice { invoice, month } => months::invoice(&case, invoice, *month),
        OrganizationCommand::SetBalanceAlert(threshold) => alert::set_balance_alert(&case, *threshold),
        OrganizationCommand::SetBudgets { project, daily, monthly, enforcement } => {
            budget::set(&case, project, (*daily, *monthly), *enforcement)
        }
        OrganizationCommand::SetSpendNotifications { project, daily, monthly } => {
            budget::set_notifications(&case, project, daily, monthly)
        }
        OrganizationCommand::NoteBudgetRefusal { project, period, visible_from, refused_at } => {
            Ok(budget::note_refusal(&case, project, *period, *visible_from, *refused_at))
        }
        OrganizationCommand::CreateWebhook { webhook, url, secret } => {
            webhook::create(&case, webhook, url, secret)
        }
        OrganizationCommand::RotateWebhookSecret { webhook, secret } => {
            webhook::rotate_secret(&case, webhook, secret)
        }
        OrganizationCommand::DisableWebhook { webhook, reason } => webhook::disable(&case, webhook, reason),
        OrganizationCommand::EnableWebhook(webhook) => webhook::enable(&case, webhook),
        OrganizationCommand::RemoveWebhook(webhook) => webhook::remove(&case, webhook),
    }
}

/// Whether a command makes an organization, so that nobody has a role in it yet.
const fn registers(command: &OrganizationCommand) -> bool {
    matches!(command, OrganizationCommand::Register { .. } | OrganizationCommand::MoveIn(_))
}

/// What a command does, for [`permission::may`]; `None` for registering, where nobody has a role yet.
fn action(organization: Option<&Organization>, command: &OrganizationCommand) -> Option<Action> {
    Some(match command {
        OrganizationCommand::Register { .. } | OrganizationCommand::MoveIn(_) => return None,
        OrganizationCommand::Change { .. } => Action::ManageOrganization,
        OrganizationCommand::SetVerification(_)
        | OrganizationCommand::OverrideLimits { .. }
        | OrganizationCommand::EraseContacts
        | OrganizationCommand::Recharge { .. }
        | OrganizationCommand::Refund { .. }
        | OrganizationCommand::ReverseRecharge { .. }
        | OrganizationCommand::Adjust { .. }
        | OrganizationCommand::GrantVoucher { .. }
        | OrganizationCommand::ExpireVouchers
        | OrganizationCommand::SetCreditLimit(_)
        | OrganizationCommand::PublishPrices { .. }
        | OrganizationCommand::ReverseUsage { .. }
        | OrganizationCommand::ReleaseUsage { .. }
        | OrganizationCommand::DismissUsage { .. }
        | OrganizationCommand::NoteBudgetRefusal { .. }
        | OrganizationCommand::SealStatement { .. } => Action::Operate,
        OrganizationCommand::IssueInvoice { .. } | OrganizationCommand::SetBalanceAlert(_) => {
            Action::ManageMembers
        }
        OrganizationCommand::CreateWebhook { .. }
        | OrganizationCommand::RotateWebhookSecret { .. }
        | OrganizationCommand::DisableWebhook { .. }
        | OrganizationCommand::EnableWebhook(_)
        | OrganizationCommand::RemoveWebhook(_) => Action::ManageOrganization,
        OrganizationCommand::SaveAllowlist(_) => Action::Allowlist,
        OrganizationCommand::Invite { .. } => Action::Invite,
        OrganizationCommand::AcceptInvitation { .. } => Action::AcceptInvitation,
        OrganizationCommand::RevokeInvitation(_)
        | OrganizationCommand::SetRole { .. }
        | OrganizationCommand::RemoveMember(_) => Action::ManageMembers,
        OrganizationCommand::CreateProject { .. } | OrganizationCommand::ArchiveProject(_) => {
            Action::ManageProjects
        }
        OrganizationCommand::RenameProject { project, .. }
        | OrganizationCommand::SetTpmLimit { project, .. }
        | OrganizationCommand::SetBudgets { project, .. }
        | OrganizationCommand::SetSpendNotifications { project, .. }
        | OrganizationCommand::AddProjectMember { project, .. }
        | OrganizationCommand::SetProjectRole { project, .. }
        | OrganizationCommand::RemoveProjectMember { project, .. } => Action::ManageProject(project.clone()),
        OrganizationCommand::IssueKey { project, .. } => Action::CreateKey(project.clone()),
        OrganizationCommand::RevokeKey { project, key } => {
            let found = organization.and_then(|known| known.keys.get(key));
            match found.filter(|found| found.project == *project) {
                Some(found) => Action::RevokeKey { project: project.clone(), creator: found.member.clone() },
                // Who may not see the project's keys must not learn which there are.
                None => Action::SeeProjectFigures(project.clone()),
            }
        }
    })
}

fn decide_config(state: &State, command: &ConfigCommand, now: Timestamp) -> Refusable {
    match command {
        ConfigCommand::PublishPrices { currency, list } => config::publish_prices(state, currency, list, now),
        ConfigCommand::SetLagModel(lag) => Ok(config::set_lag_model(state.config(), *lag)),
        ConfigCommand::PublishTiers { effective_from, tiers } => {
            config::publish_tiers(state, *effective_from, tiers, now)
        }
        ConfigCommand::SetVoucherPolicy(policy) => config::set_voucher_policy(state.config(), *policy),
        ConfigCommand::SetDefaults(defaults) => config::set_defaults(state.config(), *defaults),
        ConfigCommand::SetRateScale(scale) => config::set_rate_scale(state, scale.as_ref(), now),
        ConfigCommand::SetQuantityLimits(limits) => Ok(config::set_quantity_limits(state.config(), *limits)),
        ConfigCommand::IssueToken { token, name, scopes, organizations, secret } => {
            Ok(Decided::of([Event::Config(ConfigEvent::TokenIssued {
                token: token.clone(),
                name: name.clone(),
                scopes: scopes.clone(),
                organizations: organizations.clone(),
                secret: *secret,
            })]))
        }
        ConfigCommand::RevokeToken(token) => config::revoke_token(state.config(), token),
        ConfigCommand::CreateSubscription { name, organizations } => {
            alert::create_subscription(state.config(), name, organizations.as_deref())
        }
        ConfigCommand::RemoveSubscription(name) => alert::remove_subscription(state.config(), name),
    }
}

fn decide_partition(state: &State, command: &PartitionCommand, now: Timestamp) -> Decided {
    match command {
        PartitionCommand::TakeOwnership(node) => {
            Decided::Events(vec![Event::Partition(PartitionEvent::OwnershipTaken {
                term: state.head().term.saturating_add(1),
                node: node.clone(),
                zone_database: Zone::database_version().to_owned(),
            })])
        }
        PartitionCommand::CloseCycles => cycle::close(state, now),
        PartitionCommand::CloseMonths => months::close(state, now),
        PartitionCommand::CopyConfig { of, events } => {
            if of.position <= state.config().copied_through {
                return Decided::AsItIs;
            }
            Decided::Events(events.iter().cloned().map(Event::Config).collect())
        }
    }
}

/// The entry that the same idempotency key led to before, if the request was the same too.
fn replay(
    state: &State,
    idempotency: Option<&Idempotency>,
    known: impl FnOnce(&[u8; 16]) -> Option<([u8; 16], Position)>,
) -> Result<Option<Position>, Rejection> {
    let Some(idempotency) = idempotency else { return Ok(None) };
    match known(&idempotency.key) {
        Some((content, position)) if content == idempotency.content => Ok(Some(position)),
        Some((_, position)) => Err(Rejection::IdempotencyConflict {
            first: LogPosition { partition: state.partition(), position },
        }),
        None => Ok(None),
    }
}
