//! Places at which tests have the process die, as if the machine had lost power there: between two steps that must not
//! depend on each other. In builds without debug assertions there are none.

/// A place between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultPoint {
    /// A record is applied, and its rows are not written yet.
    Applied,
    /// Rows are written, alerts among them, and nobody was told.
    ViewWritten,
    /// Alerts are in the feed, and the outbox does not know.
    AlertRaised,
    /// The outbox is empty, and the feed's watermark is not written yet.
    OutboxEmptied,
    /// A delivery stands to be made, and no attempt was.
    DeliveryRecorded,
    /// Somebody has got an alert, and that is not written down.
    DeliveryAttempted,
    /// The outcome of an attempt is written down.
    DeliverySettled,
}

#[cfg(debug_assertions)]
impl FaultPoint {
    const ALL: [Self; 7] = [
        Self::Applied,
        Self::ViewWritten,
        Self::AlertRaised,
        Self::OutboxEmptied,
        Self::DeliveryRecorded,
        Self::DeliveryAttempted,
        Self::DeliverySettled,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::ViewWritten => "view_written",
            Self::AlertRaised => "alert_raised",
            Self::OutboxEmptied => "outbox_emptied",
            Self::DeliveryRecorded => "delivery_recorded",
            Self::DeliveryAttempted => "delivery_attempted",
            Self::DeliverySettled => "delivery_settled",
        }
    }
}

/// Where to die, if anywhere.
#[cfg(debug_assertions)]
#[expect(
    clippy::disallowed_methods,
    reason = "no setting of the server, and none in a build that anybody runs"
)]
fn wanted() -> Option<(FaultPoint, u64)> {
    let said = std::env::var("TOLLBOOK_FAULT").ok()?;
    let (name, count) = said.split_once(':')?;
    let point = FaultPoint::ALL.into_iter().find(|point| point.name() == name)?;
    Some((point, count.parse().ok()?))
}

/// Dies here if `TOLLBOOK_FAULT` says so: `<place>:<n>`, the nth time that it is reached.
#[cfg(debug_assertions)]
pub(crate) fn reached(point: FaultPoint) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: OnceLock<Option<(FaultPoint, u64)>> = OnceLock::new();
    static REACHED: AtomicU64 = AtomicU64::new(0);
    let wanted = WANTED.get_or_init(wanted);
    if let Some((at, count)) = wanted
        && *at == point
        && REACHED.fetch_add(1, Ordering::Relaxed).saturating_add(1) == *count
    {
        // No destructor runs and nothing is flushed, as with SIGKILL.
        std::process::abort();
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub(crate) const fn reached(_point: FaultPoint) {}
