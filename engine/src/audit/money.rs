//! What happened to an organization's money, as it was decided: what a refund comes to, the fold computes.

use serde_json::{Value, json};
use tollbook_schemas::event::{MoneyEvent as E, VoucherOrigin};
use tollbook_schemas::id::{Reason, RechargeId};
use tollbook_schemas::position::PartitionId;

use super::{Told, place_id, text, texts};

pub(super) fn event(partition: PartitionId, event: &E) -> Told {
    match event {
        E::Recharged { recharge, amount, reference } => (
            "recharge.booked",
            json!({
                "recharge": recharge.as_str(),
                "amount": amount.to_string(),
                "reference": reference.as_str(),
            }),
        ),
        E::RechargeReversed { reversal, recharge, amount, reference, reason } => (
            "recharge.reversed",
            json!({
                "reversal": reversal.as_str(),
                "recharge": recharge.as_str(),
                "amount": amount.to_string(),
                "reference": reference.as_str(),
                "reason": reason.as_str(),
            }),
        ),
        E::Refunded { refund, requested, reference, recharge } => (
            "refund.booked",
            json!({
                "refund": refund.as_str(),
                "requested": requested.to_string(),
                "reference": reference.as_str(),
                "recharge": recharge.as_ref().map(RechargeId::as_str),
            }),
        ),
        E::Adjusted { adjustment, amount, reference, reason, corrects } => (
            "adjustment.booked",
            json!({
                "adjustment": adjustment.as_str(),
                "amount": amount.to_string(),
                "reference": reference.as_str(),
                "reason": reason.as_str(),
                "corrects": text(*corrects),
            }),
        ),
        E::VoucherGranted { voucher, amount, expires_at, origin } => {
            let (origin, reference, reason) = origin_of(origin);
            let fields = json!({
                "voucher": voucher.as_str(),
                "amount": amount.to_string(),
                "expires_at": text(*expires_at),
                "origin": origin,
                "reference": reference,
                "reason": reason,
            });
            ("voucher.granted", fields)
        }
        E::VoucherExpired { voucher } => ("voucher.expired", json!({ "voucher": voucher.as_str() })),
        E::VoucherWithdrawn { voucher } => ("voucher.withdrawn", json!({ "voucher": voucher.as_str() })),
        E::UsageReversed { reversal, usage, reason } => (
            "usage.reversed",
            json!({
                "reversal": reversal.as_str(),
                "usage": place_id(partition, *usage),
                "reason": reason.as_str(),
            }),
        ),
        E::StatementSealed { month, hash } => {
            ("statement.sealed", json!({ "month": month.to_string(), "sha256": hex(hash) }))
        }
        E::InvoiceIssued { invoice, number, month, recharges } => (
            "invoice.issued",
            json!({
                "invoice": invoice.as_str(),
                "number": number,
                "month": month.to_string(),
                "recharges": texts(recharges),
            }),
        ),
        E::CreditNoteIssued { note, number, invoice, movement } => (
            "credit_note.issued",
            json!({
                "credit_note": note.as_str(),
                "number": number,
                "invoice": invoice.as_str(),
                "movement": movement.as_str(),
            }),
        ),
    }
}

/// Where a voucher came from, the operator's reference and reason.
fn origin_of(origin: &VoucherOrigin) -> (&'static str, Option<&str>, Option<&str>) {
    match origin {
        VoucherOrigin::Policy => ("policy", None, None),
        VoucherOrigin::Operator { reference, reason } => {
            ("operator", Some(reference.as_str()), reason.as_ref().map(Reason::as_str))
        }
        VoucherOrigin::MovedIn => ("moved_in", None, None),
    }
}

fn hex(hash: &[u8; 32]) -> Value {
    hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}
