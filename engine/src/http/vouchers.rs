//! Vouchers: granting them, and those that are not used up (R4.2, R4.3).

use tollbook_projections::movement::{MovementKey, MovementKind, What};
use tollbook_projections::purse;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::OrganizationCommand;
use tollbook_schemas::id::{OrgId, Reason, Reference, VoucherId};
use tollbook_schemas::position::{LogPosition, PartitionId};
use tollbook_schemas::time::Timestamp;

use super::answer::{Json, List};
use super::booked::{Balance, booked, only};
use super::document::{Routes, Says, Verb};
use super::problem::Problem;
use super::reading::{Page, Reading};
use super::shape::{answer, request};
use super::write::{Created, Write};
use crate::clock;
use crate::permission::Action;

const VOUCHERS: &str = "/v1/organizations/{org}/vouchers";

/// Of the family that balances begin.
pub(super) fn routes(routes: &mut Routes) {
    let says = Says {
        id: "grantVoucher",
        summary: "Grant a voucher",
        more: "Vouchers are spent before cash and do not count as recharge; what is left of one when it expires is lost. The \
               same reference with the same content again changes nothing; with other content it is 409.",
    };
    routes.write(Verb::Post, VOUCHERS, says, grant);
    let says = Says {
        id: "listVouchers",
        summary: "List vouchers that have something left",
        more: "In the order in which they are spent: the one that expires first, then the oldest.",
    };
    routes.read(VOUCHERS, says, list);
}

request! {
    /// A voucher to grant.
    pub(super) struct NewVoucher {
        /// What it is worth; more than 0.
        amount: Amount,
        /// The voucher's own, so that it is granted once.
        reference: Reference,
        /// When what is left of it is lost; never, unless said.
        expires_at: Option<Timestamp>,
        /// Why.
        reason: Option<Reason>,
    }
}

answer! {
    /// A voucher that was granted.
    pub(super) struct Voucher {
        /// Its id.
        id: VoucherId,
        /// What it was worth.
        amount: Amount,
        /// The voucher's own.
        reference: Reference,
        /// When what is left of it is lost; null: never.
        expires_at: Option<Timestamp>,
        /// Why; null: nobody said.
        reason: Option<Reason>,
        /// As it is now.
        balance: Balance,
    }
}

answer! {
    /// A voucher that has something left.
    pub(super) struct VoucherLeft {
        /// Its id.
        id: VoucherId,
        /// What it was worth.
        amount: Amount,
        /// What is left of it.
        left: Amount,
        /// When that is lost; null: never.
        expires_at: Option<Timestamp>,
        /// Whether it is the voucher policy's, which may be withdrawn.
        of_policy: bool,
        /// The entry that granted it.
        position: LogPosition,
    }
}

async fn grant(
    Write { path: org, body, author }: Write<OrgId, NewVoucher>,
) -> Result<Created<Voucher>, Problem> {
    let key = MovementKey::Reference(MovementKind::VoucherGrant, body.reference.clone());
    let command = OrganizationCommand::GrantVoucher {
        voucher: VoucherId::from_bits(clock::new_id_bits()),
        amount: body.amount,
        reference: body.reference,
        expires_at: body.expires_at,
        reason: body.reason,
    };
    let done = author.decide(&org, command).await?;
    let (movements, balance) = booked(&author.node, &org, &done, key).await?;
    let (id, expires_at, reference, reason, amount) = only(&movements, |movement| {
        let What::VoucherGrant { voucher, expires_at, .. } = &movement.what else { return None };
        let (reference, reason) = (movement.reference.clone()?, movement.reason.clone());
        Some((voucher.clone(), *expires_at, reference, reason, movement.change.vouchers))
    })?;
    Ok(Created::new(done, Voucher { id, amount, reference, expires_at, reason, balance }))
}

async fn list(
    Reading { path: org, query: page, at }: Reading<OrgId, Page>,
) -> Result<Json<List<VoucherLeft>>, Problem> {
    let partition = at.node.partition_of(&org);
    let read = at.organization(&org, Action::SeeOrganizationFigures, move |known| {
        let mut sorted: Vec<_> = known.purse.each_voucher().iter().map(keyed).collect();
        sorted.sort_by(|(one, _), (other, _)| one.cmp(other));
        let List { items, next_page } = page.cut(sorted, |(key, _)| key.as_str());
        let items = items.into_iter().map(|(_, voucher)| shown(partition, voucher)).collect();
        List { items, next_page }
    });
    Ok(Json(read.await?))
}

/// A voucher with what sorts it as it is spent, and still says where a page began when it is gone.
fn keyed(voucher: &purse::Voucher) -> (String, &purse::Voucher) {
    let expires_at = voucher.expires_at.unwrap_or(Timestamp::MAX).nanos();
    (format!("{expires_at:020}.{:020}.{}", voucher.position.0, voucher.voucher), voucher)
}

fn shown(partition: PartitionId, voucher: &purse::Voucher) -> VoucherLeft {
    VoucherLeft {
        id: voucher.voucher.clone(),
        amount: voucher.granted,
        left: voucher.left,
        expires_at: voucher.expires_at,
        of_policy: voucher.of_policy,
        position: LogPosition { partition, position: voucher.position },
    }
}
