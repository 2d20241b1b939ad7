//! Every metric's name and labels, in one place. No organization is ever a label.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use tollbook_schemas::alert::AlertKind;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::position::{PartitionId, Position};

use crate::delivery::outcome::Verdict;
use crate::delivery::record::Channel;

/// Explains every metric to whoever scrapes.
pub fn describe() {
    describe_histogram!("tollbook_log_append_seconds", "from an entry's first attempt to its being durable");
    describe_counter!("tollbook_log_appends_total", "entries appended, by outcome");
    describe_counter!("tollbook_usage_events_total", "usage events received, by way in and outcome");
    describe_counter!("tollbook_entries_applied_total", "entries folded into State");
    describe_gauge!("tollbook_applied_position", "the last position folded, by partition");
    describe_gauge!("tollbook_views_position", "the last position written to the views, by partition");
    describe_gauge!("tollbook_owner", "1 where this process owns the partition, by partition");
    describe_gauge!("tollbook_quarantine_records", "records in quarantine, by partition");
    describe_gauge!(
        "tollbook_skipped_messages",
        "messages of the log that are no entries of ours, copies, or void"
    );
    describe_gauge!("tollbook_cycle_close_delay_seconds", "how late the last billing cycle was closed");
    describe_counter!(
        "tollbook_budget_breaches_total",
        "budgets that were reached and whose breach ended while this process owned the partition, by period"
    );
    describe_histogram!(
        "tollbook_budget_overshoot",
        "what such a breach spent beyond its budget, in the ledger's currency, by period"
    );
    describe_gauge!(
        "tollbook_erasures_pending",
        "organizations whose personal data is erased in the log and whose keys are still to go, by partition"
    );
    describe_gauge!(
        "tollbook_statements_pending",
        "organizations that have closed months whose statements are not sealed yet, by partition"
    );
    describe_counter!(
        "tollbook_admissions_total",
        "requests decided, by code; `admitted` for those that may pass"
    );
    describe_counter!(
        "tollbook_admission_disagreements_total",
        "requests that the system to be replaced decided otherwise"
    );
    describe_counter!(
        "tollbook_admission_rpc_ignored_total",
        "messages about admission over NATS that were not answered: `no_inbox` named no reply that is answered, `no_room` found too many waiting"
    );
    describe_gauge!("tollbook_admission_leases", "open leases, by partition");
    describe_counter!(
        "tollbook_admission_leases_expired_total",
        "leases that were over before their usage came, by partition"
    );
    describe_gauge!(
        "tollbook_admission_held",
        "money held for open leases, in the ledger's currency, by partition"
    );
    describe_gauge!("tollbook_projection_lag_events", "entries of the log that State lacks, by partition");
    describe_gauge!(
        "tollbook_projection_lag_seconds",
        "for how long State may lack something of the log, by partition"
    );
    describe_counter!("tollbook_alerts_total", "alerts raised by this process, by kind");
    describe_gauge!("tollbook_alert_outbox_rows", "alerts that may still have to be raised, by partition");
    describe_gauge!(
        "tollbook_alert_lag_seconds",
        "for how long the oldest alert waits that is not raised yet, by partition"
    );
    describe_counter!(
        "tollbook_alert_publish_failures_total",
        "rounds in which alerts could not be raised, by partition; they are tried again"
    );
    describe_counter!(
        "tollbook_delivery_attempts_total",
        "attempts to deliver alerts, by channel (email, webhook) and outcome (delivered, failed, refused, gone, cancelled)"
    );
    describe_gauge!("tollbook_deliveries_pending", "deliveries that wait for an attempt, by partition");
    describe_gauge!(
        "tollbook_deliveries_late_seconds",
        "for how long the oldest delivery is due that waits, by partition"
    );
    describe_gauge!("tollbook_clock_skew_seconds", "this machine's clock less the broker's");
    describe_gauge!(
        "tollbook_durability_verified",
        "0 where nobody could verify that the servers sync first"
    );
}

/// One entry was appended, or given up.
pub fn appended(took: Duration, durable: bool) {
    histogram!("tollbook_log_append_seconds").record(took);
    counter!("tollbook_log_appends_total", "outcome" => if durable { "durable" } else { "failed" })
        .increment(1);
}

/// Usage events came in by one way.
pub fn received(way: &'static str, outcome: &'static str, events: usize) {
    counter!("tollbook_usage_events_total", "way" => way, "outcome" => outcome)
        .increment(u64::try_from(events).unwrap_or(u64::MAX));
}

/// What one partition's owner publishes about itself.
#[derive(Clone, Copy, Debug)]
pub struct Applied {
    /// Which partition.
    pub partition: PartitionId,
    /// Entries folded since the last call.
    pub entries: u64,
    /// The last position folded.
    pub position: Position,
    /// Records in quarantine.
    pub quarantined: u64,
    /// Messages skipped.
    pub skipped: u64,
}

/// A partition moved on.
pub fn applied(applied: Applied) {
    let partition = applied.partition.to_string();
    counter!("tollbook_entries_applied_total", "partition" => partition.clone()).increment(applied.entries);
    set("tollbook_applied_position", partition.clone(), applied.position.0);
    set("tollbook_quarantine_records", partition.clone(), applied.quarantined);
    set("tollbook_skipped_messages", partition, applied.skipped);
}

/// The views of a partition were written.
pub fn viewed(partition: PartitionId, position: Position) {
    set("tollbook_views_position", partition.to_string(), position.0);
}

/// Whether this process owns a partition.
pub fn owner(partition: PartitionId, owns: bool) {
    set("tollbook_owner", partition.to_string(), u64::from(owns));
}

/// So many organizations' keys are still to be erased.
pub fn erasures_pending(partition: PartitionId, organizations: usize) {
    set("tollbook_erasures_pending", partition.to_string(), u64::try_from(organizations).unwrap_or(u64::MAX));
}

/// So many organizations' statements are still to be sealed.
pub fn statements_pending(partition: PartitionId, organizations: usize) {
    let organizations = u64::try_from(organizations).unwrap_or(u64::MAX);
    set("tollbook_statements_pending", partition.to_string(), organizations);
}

/// A billing cycle was closed so many seconds after it ended.
pub fn cycle_closed(partition: PartitionId, late_seconds: i64) {
    set(
        "tollbook_cycle_close_delay_seconds",
        partition.to_string(),
        u64::try_from(late_seconds).unwrap_or(0),
    );
}

/// A breach of a budget ended, with so much spent beyond it.
pub fn breach_ended(period: &'static str, overshoot: Amount) {
    counter!("tollbook_budget_breaches_total", "period" => period).increment(1);
    histogram!("tollbook_budget_overshoot", "period" => period).record(currency(overshoot));
}

/// How many requests were decided how, since the start.
pub fn admissions(admitted: u64, refused: impl Iterator<Item = (&'static str, u64)>) {
    counter!("tollbook_admissions_total", "code" => "admitted").absolute(admitted);
    for (code, count) in refused {
        counter!("tollbook_admissions_total", "code" => code).absolute(count);
    }
}

/// An alert was raised that was not raised before.
pub fn alert_raised(kind: AlertKind) {
    counter!("tollbook_alerts_total", "kind" => kind.code()).increment(1);
}

/// So many alerts may still have to be raised, the oldest for so long.
pub fn alert_outbox(partition: PartitionId, rows: usize, lag_seconds: u64) {
    set("tollbook_alert_outbox_rows", partition.to_string(), u64::try_from(rows).unwrap_or(u64::MAX));
    set("tollbook_alert_lag_seconds", partition.to_string(), lag_seconds);
}

/// Alerts could not be raised.
pub fn alert_publish_failed(partition: PartitionId) {
    counter!("tollbook_alert_publish_failures_total", "partition" => partition.to_string()).increment(1);
}

/// An attempt to deliver an alert has ended.
pub(crate) fn delivery_attempted(channel: &Channel, verdict: Verdict) {
    let channel = match channel {
        Channel::Email => "email",
        Channel::Webhook(_) => "webhook",
    };
    counter!("tollbook_delivery_attempts_total", "channel" => channel, "outcome" => verdict.code()).increment(1);
}

/// So many deliveries wait, the oldest for so long beyond its time.
pub fn deliveries_waiting(partition: PartitionId, waiting: usize, late_seconds: u64) {
    let count = u64::try_from(waiting).unwrap_or(u64::MAX);
    set("tollbook_deliveries_pending", partition.to_string(), count);
    set("tollbook_deliveries_late_seconds", partition.to_string(), late_seconds);
}

/// So many requests were decided otherwise by the system to be replaced, since the start.
pub fn disagreements(count: u64) {
    counter!("tollbook_admission_disagreements_total").absolute(count);
}

/// A message about admission over NATS was not answered.
pub fn rpc_ignored(why: &'static str) {
    counter!("tollbook_admission_rpc_ignored_total", "why" => why).increment(1);
}

/// How leases of a partition stand.
pub fn leases(partition: PartitionId, open: usize, held: Amount, expired: u64) {
    let partition = partition.to_string();
    set("tollbook_admission_leases", partition.clone(), u64::try_from(open).unwrap_or(u64::MAX));
    counter!("tollbook_admission_leases_expired_total", "partition" => partition.clone()).absolute(expired);
    gauge!("tollbook_admission_held", "partition" => partition).set(currency(held));
}

/// An amount as metrics have it.
#[expect(
    clippy::as_conversions,
    clippy::float_arithmetic,
    reason = "metrics are floats; books are not made of them"
)]
fn currency(amount: Amount) -> f64 {
    amount.units() as f64 / 1e12
}

/// How far State trails the log.
pub fn lag(partition: PartitionId, events: u64, behind: Duration) {
    let partition = partition.to_string();
    set("tollbook_projection_lag_events", partition.clone(), events);
    gauge!("tollbook_projection_lag_seconds", "partition" => partition).set(behind.as_secs_f64());
}

/// How far this machine's clock is from the broker's.
pub fn clock_skew(offset_ms: i64) {
    #[expect(clippy::as_conversions, clippy::float_arithmetic, reason = "gauges are floats")]
    gauge!("tollbook_clock_skew_seconds").set(offset_ms as f64 / 1_000.0);
}

fn set(name: &'static str, partition: String, value: u64) {
    #[expect(clippy::as_conversions, reason = "gauges are floats; positions stay exact up to 2^53")]
    gauge!(name, "partition" => partition).set(value as f64);
}
