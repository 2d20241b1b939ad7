//! Following server-sent events, through broken connections.

use std::time::Duration;

use reqwest::{RequestBuilder, Response};

use super::client::{Caller, ClientError};
use super::manage::ManageError;
use super::table;

/// How long after a connection broke another is tried.
const PAUSE: Duration = Duration::from_secs(1);

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// What to begin after, the next time.
    pub(super) id: String,
    /// What it says.
    pub(super) data: String,
}

/// Shows events for ever, each as a line; `request` asks for those after the last one seen. Errors: the server says no, or
/// nobody answers the first time.
pub(super) async fn follow(
    caller: &Caller,
    request: impl Fn(Option<&str>) -> RequestBuilder,
    line: impl Fn(&Event) -> String,
) -> Result<(), ManageError> {
    let mut last: Option<String> = None;
    let mut begun = false;
    loop {
        match caller.open(request(last.as_deref())).await {
            Ok(response) => {
                begun = true;
                show(response, &mut last, &line).await?;
            }
            Err(ClientError::Unreachable { .. }) if begun => {}
            Err(ClientError::Refused(refusal)) if begun && refusal.status.is_server_error() => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Shows events until the connection ends.
async fn show(
    mut response: Response,
    last: &mut Option<String>,
    line: impl Fn(&Event) -> String,
) -> Result<(), ManageError> {
    let mut waiting = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        waiting.extend_from_slice(&chunk);
        while let Some(end) = waiting.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = waiting.drain(..end.saturating_add(2)).collect();
            if let Some(event) = parse(&String::from_utf8_lossy(&block)) {
                table::print(&line(&event))?;
                *last = Some(event.id);
            }
        }
    }
    Ok(())
}

/// One event; `None`: only comments, which keep the connection alive.
fn parse(block: &str) -> Option<Event> {
    let mut event = Event::default();
    for (name, value) in block.lines().filter_map(|line| line.split_once(": ")) {
        match name {
            "id" => value.clone_into(&mut event.id),
            "data" => event.data.push_str(value),
            _ => {}
        }
    }
    (!event.data.is_empty()).then_some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_from_comments() {
        let event = parse("id: 0-7-balance_low-0\nevent: balance_low\ndata: {\"a\": 1}\n\n").unwrap();
        assert_eq!((event.id.as_str(), event.data.as_str()), ("0-7-balance_low-0", "{\"a\": 1}"));
        assert_eq!(parse(": \n\n"), None);
        assert_eq!(parse(":\n\n"), None);
    }
}
