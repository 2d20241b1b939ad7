//! Keys of rows. Ids, references and codes are not empty and hold no byte below a space, so that what follows one ends
//! with a 0 and nobody else's rows begin like these.

use tollbook_schemas::alert::{Alert, AlertKind};
use tollbook_schemas::event::Period;
use tollbook_schemas::id::{OrgId, ProjectId, RechargeId};
use tollbook_schemas::position::Position;
use tollbook_schemas::time::{Day, Month};
use tollbook_schemas::usage::UsagePlace;

use super::BreachCursor;
use crate::budget::Breach;
use crate::movement::{Movement, MovementKey};

pub(super) fn organization(id: &OrgId) -> Vec<u8> {
    [b"o", id.as_str().as_bytes()].concat()
}

/// What all rows of a kind begin with that are of one organization.
pub(super) fn of(kind: &[u8], id: &OrgId) -> Vec<u8> {
    [kind, id.as_str().as_bytes(), &[0]].concat()
}

/// Cells booked on a day or later.
pub(super) fn history_from(id: &OrgId, day: Day) -> Vec<u8> {
    [of(b"h", id), day_bytes(day).to_vec()].concat()
}

/// Day and position at the end of a key that [`history`] made.
pub(super) fn history_at_end(key: &[u8]) -> Option<(Day, Position)> {
    let (rest, position) = key.split_last_chunk()?;
    let (_, day) = rest.split_last_chunk()?;
    let day = Day::of_number((u32::from_be_bytes(*day) ^ 0x8000_0000).cast_signed());
    Some((day, Position(u64::from_be_bytes(*position))))
}

pub(super) fn history(id: &OrgId, day: Day, position: Position) -> Vec<u8> {
    [history_from(id, day), position.0.to_be_bytes().to_vec()].concat()
}

pub(super) fn month(kind: &[u8], id: &OrgId, month: Month) -> Vec<u8> {
    [of(kind, id), month_bytes(month).to_vec()].concat()
}

pub(super) fn movement(id: &OrgId, movement: &Movement) -> Vec<u8> {
    [of(b"m", id), place_of(movement)].concat()
}

/// Movements of the same entry as one of them.
pub(super) fn movements_of_entry(id: &OrgId, movement: &Movement) -> Vec<u8> {
    let mut key = self::movement(id, movement);
    key.truncate(key.len().saturating_sub(4));
    key
}

/// A movement by the end of a key that [`movement_by`] made.
pub(super) fn movement_at(id: &OrgId, place: &[u8]) -> Vec<u8> {
    [of(b"m", id), place.to_vec()].concat()
}

/// What all rows begin with that say where movements are that are found by `key`.
pub(super) fn movements_by(id: &OrgId, key: &MovementKey) -> Vec<u8> {
    let key = match key {
        MovementKey::Reference(kind, reference) => {
            [b"r", kind.code().as_bytes(), &[0], reference.as_str().as_bytes()].concat()
        }
        MovementKey::Recharge(recharge) => [b"c", recharge.as_str().as_bytes()].concat(),
        MovementKey::Usage(place) => [b"u".to_vec(), place_bytes(*place)].concat(),
        MovementKey::Invoice(month) => [b"i".as_slice(), &month_bytes(*month)].concat(),
        MovementKey::Document(invoice) => [b"d", invoice.as_str().as_bytes()].concat(),
        MovementKey::Number(number) => [b"n".as_slice(), &number.to_be_bytes()].concat(),
    };
    [of(b"k", id), key, vec![0]].concat()
}

/// From where to where the keys are that say where recharges are: all of them, or those after one.
pub(super) fn recharges(id: &OrgId, after: Option<&RechargeId>) -> (Vec<u8>, Vec<u8>) {
    let all = |kind: u8| [of(b"k", id), vec![kind]].concat();
    let from = after.map_or_else(
        || all(b'c'),
        // No id holds a 1, and what follows one is a 0.
        |recharge| [all(b'c').as_slice(), recharge.as_str().as_bytes(), &[1]].concat(),
    );
    (from, all(b'd'))
}

/// The recharge that such a key is of, and the place that it names.
pub(super) fn recharge_of<'a>(id: &OrgId, key: &'a [u8]) -> Option<(RechargeId, &'a [u8])> {
    let (key, place) = key.split_at_checked(key.len().checked_sub(PLACE_LENGTH)?)?;
    let recharge = key.get(of(b"k", id).len().checked_add(1)?..key.len().checked_sub(1)?)?;
    Some((RechargeId::parse(std::str::from_utf8(recharge).ok()?).ok()?, place))
}

pub(super) fn movement_by(id: &OrgId, key: &MovementKey, movement: &Movement) -> Vec<u8> {
    [movements_by(id, key), place_of(movement)].concat()
}

pub(super) fn idempotency(id: &OrgId, key: &[u8; 16]) -> Vec<u8> {
    [of(b"i", id), key.to_vec()].concat()
}

pub(super) fn quarantined(place: UsagePlace) -> Vec<u8> {
    [b"q".to_vec(), place_bytes(place)].concat()
}

/// That a quarantined record is of an organization.
pub(super) fn quarantined_of(id: &OrgId, place: UsagePlace) -> Vec<u8> {
    [of(b"u", id), place_bytes(place)].concat()
}

/// The place at the end of a key that [`quarantined_of`] made.
pub(super) fn place_at_end(key: &[u8]) -> Option<UsagePlace> {
    let (rest, row) = key.split_last_chunk()?;
    let (_, position) = rest.split_last_chunk()?;
    let position = Position(u64::from_be_bytes(*position));
    Some(UsagePlace { position, row: u32::from_be_bytes(*row) })
}

pub(super) fn settled(place: UsagePlace) -> Vec<u8> {
    [b"w".to_vec(), place_bytes(place)].concat()
}

pub(super) fn repeated(position: Position) -> Vec<u8> {
    [b"d".as_slice(), &position.0.to_be_bytes()].concat()
}

pub(super) fn skipped(position: Position) -> Vec<u8> {
    [b"f".as_slice(), &position.0.to_be_bytes()].concat()
}

pub(super) fn audit_prefix(organization: Option<&OrgId>, end: u8) -> Vec<u8> {
    [b"a", organization.map_or("", OrgId::as_str).as_bytes(), &[end]].concat()
}

pub(super) fn audit(organization: Option<&OrgId>, position: Position) -> Vec<u8> {
    [&audit_prefix(organization, 0), position.0.to_be_bytes().as_slice()].concat()
}

/// What all alerts of an organization begin with, or the platform's own.
pub(super) fn alerts(organization: Option<&OrgId>, end: u8) -> Vec<u8> {
    [b"l", organization.map_or("", OrgId::as_str).as_bytes(), &[end]].concat()
}

/// Alerts of entries from a position on.
pub(super) fn alerts_from(organization: Option<&OrgId>, position: Position) -> Vec<u8> {
    [&alerts(organization, 0), position.0.to_be_bytes().as_slice()].concat()
}

/// In the order in which they were raised.
pub(super) fn alert_at(
    organization: Option<&OrgId>,
    position: Position,
    kind: AlertKind,
    number: u32,
) -> Vec<u8> {
    let number = number.to_be_bytes();
    [&alerts_from(organization, position), kind.code().as_bytes(), &[0], &number].concat()
}

pub(super) fn alert(alert: &Alert) -> Vec<u8> {
    alert_at(alert.organization.as_ref(), alert.position.position, alert.kind(), alert.number)
}

/// Alerts that may still have to leave, of entries from a position on.
pub(super) fn outgoing_from(position: Position) -> Vec<u8> {
    [b"x".as_slice(), &position.0.to_be_bytes()].concat()
}

pub(super) fn outgoing(alert: &Alert) -> Vec<u8> {
    let organization = alert.organization.as_ref().map_or("", OrgId::as_str).as_bytes();
    let (kind, number) = (alert.kind().code().as_bytes(), alert.number.to_be_bytes());
    let from = outgoing_from(alert.position.position);
    [from.as_slice(), organization, &[0], kind, &[0], &number].concat()
}

/// Breaches of a project's budgets in periods that begin on a day or later.
pub(super) fn breaches_from(organization: &OrgId, project: &ProjectId, day: Day) -> Vec<u8> {
    [&of(b"b", organization), project.as_str().as_bytes(), &[0], day_bytes(day).as_slice()].concat()
}

pub(super) fn breach(organization: &OrgId, project: &ProjectId, breach: &Breach) -> Vec<u8> {
    breach_at(organization, project, (breach.starts, breach.crossed_in, breach.period))
}

pub(super) fn breach_at(
    organization: &OrgId,
    project: &ProjectId,
    (starts, crossed_in, period): BreachCursor,
) -> Vec<u8> {
    let period = match period {
        Period::Daily => b"d",
        Period::Monthly => b"m",
    };
    let position = crossed_in.0.to_be_bytes();
    [&breaches_from(organization, project, starts), position.as_slice(), period].concat()
}

/// Length of what [`place_of`] gives.
pub(super) const PLACE_LENGTH: usize = 3 + 8 + 4;

fn place_of(movement: &Movement) -> Vec<u8> {
    let (position, number) = (movement.position.0.to_be_bytes(), movement.number.to_be_bytes());
    [month_bytes(movement.month).as_slice(), &position, &number].concat()
}

fn place_bytes(place: UsagePlace) -> Vec<u8> {
    [place.position.0.to_be_bytes().as_slice(), &place.row.to_be_bytes()].concat()
}

/// In the order of days, those before 1970 too.
fn day_bytes(day: Day) -> [u8; 4] {
    (day.number().cast_unsigned() ^ 0x8000_0000).to_be_bytes()
}

/// In the order of months.
fn month_bytes(month: Month) -> [u8; 3] {
    let [high, low] = (month.year.cast_unsigned() ^ 0x8000).to_be_bytes();
    [high, low, month.month.cast_unsigned()]
}
