//! What happened to an organization's money, as it was decided: what a refund comes to, the fold computes.

use serde_json::{Value, json};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::event::{MoneyEvent as E, VoucherOrigin};
use tollbook_schemas::id::{KeyId, Reason, RechargeId};
use tollbook_schemas::position::PartitionId;
use tollbook_schemas::usage::BookedUsage;

use super::{Told, place_id, text};

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
        E::VoucherExpiring { voucher } => ("voucher.expiring", json!({ "voucher": voucher.as_str() })),
        E::VoucherWithdrawn { voucher, below } => {
            ("voucher.withdrawn", json!({ "voucher": voucher.as_str(), "below": below.to_string() }))
        }
        E::UsageReversed { reversal, usage, booked, reason } => (
            "usage.reversed",
            json!({
                "reversal": reversal.as_str(),
                "usage": place_id(partition, *usage),
                "booked": booked_json(booked),
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
                "recharges": invoiced(recharges),
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

/// A usage record as it was charged.
fn booked_json(booked: &BookedUsage) -> Value {
    let BookedUsage { day, project, key, model, tokens, meters, cost } = booked;
    let meters: serde_json::Map<_, _> =
        meters.iter().map(|(meter, units)| (meter.as_str().to_owned(), (*units).into())).collect();
    json!({
        "day": day.to_string(),
        "project": project.as_str(),
        "api_key": key.as_ref().map(KeyId::as_str),
        "model": model.as_str(),
        "input_tokens": tokens.input,
        "cached_input_tokens": tokens.cached_input,
        "output_tokens": tokens.output,
        "meters": meters,
        "cost": cost.to_string(),
    })
}

fn invoiced(recharges: &[(RechargeId, Amount)]) -> Value {
    let line = |(recharge, amount): &(RechargeId, Amount)| json!({ "recharge": recharge.as_str(), "amount": amount.to_string() });
    recharges.iter().map(line).collect()
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
