//! JSON lines: one CloudEvent per line, as it would be posted.

use tollbook_schemas::cloudevent::{self, Payload, Refused};
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::Usage;

/// The record of one line. Errors: all that is wrong with it.
pub(super) fn row(text: &str, arrived: Timestamp) -> Result<Usage, String> {
    let read = cloudevent::parse(text.as_bytes(), Payload::One, arrived, None);
    let mut usages = read.map_err(|refused| reasons(&refused))?;
    usages.pop().ok_or_else(|| "holds no event".to_owned())
}

/// Every fault in one line.
pub(super) fn reasons(refused: &Refused) -> String {
    match refused {
        Refused::Bad(faults) => {
            let said: Vec<_> = faults.iter().map(|bad| format!("{} {}", bad.field, bad.reason)).collect();
            said.join("; ")
        }
        Refused::Unreadable(_) | Refused::TooMany { .. } => refused.to_string(),
    }
}
