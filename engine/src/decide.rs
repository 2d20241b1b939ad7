//! Deciding: State and an intent in, events or a refusal out. Pure.

mod config;
pub(crate) mod cycle;
mod key;
mod money;
mod organization;
mod project;

use tollbook_projections::organization::Organization;
use tollbook_projections::state::State;
use tollbook_schemas::command::{Command, ConfigCommand, OrganizationCommand, PartitionCommand};
use tollbook_schemas::entry::Idempotency;
use tollbook_schemas::event::{ConfigEvent, Event, PartitionEvent};
use tollbook_schemas::id::OrgId;
use tollbook_schemas::position::{LogPosition, Position};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::time::{Timestamp, Zone};

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

/// Decides one command at one instant.
pub fn decide(
    state: &State,
    command: &Command,
    idempotency: Option<&Idempotency>,
    now: Timestamp,
) -> Result<Decided, Rejection> {
    match command {
        Command::Organization(id, command) => {
            let organization = state.organization(id);
            let known = |key: &[u8; 16]| organization.and_then(|known| known.idempotency.get(key));
            if let Some(before) = replay(state, idempotency, known)? {
                return Ok(Decided::Before(before));
            }
            decide_organization(state, id, organization, command, now)
        }
        Command::Config(command) => {
            if let Some(before) = replay(state, idempotency, |key| state.idempotency(key))? {
                return Ok(Decided::Before(before));
            }
            decide_config(state, command, now)
        }
        Command::Partition(command) => Ok(decide_partition(state, command, now)),
    }
}

fn decide_organization(
    state: &State,
    id: &OrgId,
    organization: Option<&Organization>,
    command: &OrganizationCommand,
    now: Timestamp,
) -> Result<Decided, Rejection> {
    if let OrganizationCommand::Register { .. } = command {
        return organization::register(id, organization, command);
    }
    let organization = organization.ok_or_else(|| Rejection::OrganizationUnknown(id.clone()))?;
    match command {
        OrganizationCommand::Register { .. } => Err(Rejection::OrganizationExists(id.clone())),
        OrganizationCommand::CreateProject { project, name } => {
            project::create(state.config(), organization, project, name)
        }
        OrganizationCommand::IssueKey { key, project, member, name, secret, hint } => {
            let new = key::NewKey { key, project, member: member.as_ref(), name, secret, hint };
            key::issue(state.config(), organization, &new)
        }
        OrganizationCommand::Recharge { recharge, amount, reference, voucher } => {
            let new = money::NewRecharge { recharge, amount: *amount, reference, voucher };
            money::recharge(state, organization, &new, now)
        }
    }
}

fn decide_config(state: &State, command: &ConfigCommand, now: Timestamp) -> Result<Decided, Rejection> {
    match command {
        ConfigCommand::PublishPrices { currency, list } => config::publish_prices(state, currency, list, now),
        ConfigCommand::SetLagModel(lag) => Ok(config::set_lag_model(state.config(), *lag)),
        ConfigCommand::IssueToken { token, name, scopes, organizations, secret } => {
            Ok(Decided::Events(vec![Event::Config(ConfigEvent::TokenIssued {
                token: token.clone(),
                name: name.clone(),
                scopes: scopes.clone(),
                organizations: organizations.clone(),
                secret: *secret,
            })]))
        }
        ConfigCommand::RevokeToken(token) => config::revoke_token(state.config(), token),
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
        PartitionCommand::CopyConfig { of, events } => {
            if of.position <= state.config().copied_through {
                return Decided::AsItIs;
            }
            Decided::Events(events.iter().cloned().map(Event::Config).collect())
        }
    }
}

/// The entry that the same idempotency key led to before, if the request was the same too.
fn replay<'a>(
    state: &State,
    idempotency: Option<&Idempotency>,
    known: impl FnOnce(&[u8; 16]) -> Option<&'a ([u8; 16], Position)>,
) -> Result<Option<Position>, Rejection> {
    let Some(idempotency) = idempotency else { return Ok(None) };
    match known(&idempotency.key) {
        Some((content, position)) if *content == idempotency.content => Ok(Some(*position)),
        Some((_, position)) => Err(Rejection::IdempotencyConflict {
            first: LogPosition { partition: state.partition(), position: *position },
        }),
        None => Ok(None),
    }
}
