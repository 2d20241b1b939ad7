//! What one member of an event must be: used by the fast way and by the one that explains.

use std::borrow::Cow;

use crate::amount::Amount;
use crate::time::Timestamp;
use crate::usage::{QUANTITY_MAX, USAGE_ID_MAX};

use super::{Context, REFERENCE_MAX};

/// What is wrong with a member, to be read after its name.
pub(super) type Why = Cow<'static, str>;

/// A CloudEvents `id`.
pub(super) fn id(text: &str) -> Result<String, Why> {
    bounded(text, USAGE_ID_MAX)
}

/// A `lease` or `request_id`.
pub(super) fn reference(text: &str) -> Result<String, Why> {
    bounded(text, REFERENCE_MAX)
}

fn bounded(text: &str, most: usize) -> Result<String, Why> {
    if text.is_empty() {
        return Err("must not be empty".into());
    }
    if text.len() > most {
        return Err(format!("must be at most {most} bytes").into());
    }
    // Plain bytes first: nearly every id is ASCII, and looking at characters is slower.
    let control = if text.is_ascii() {
        text.bytes().any(|byte| byte.is_ascii_control())
    } else {
        text.chars().any(char::is_control)
    };
    if control { Err("must not hold control characters".into()) } else { Ok(text.to_owned()) }
}

/// A `time`, from 1970 to 5 minutes after the event's arrival (R8.1).
pub(super) fn time(text: &str, context: &Context<'_>) -> Result<Timestamp, Why> {
    let at = if is_rfc3339(text) { text.parse::<Timestamp>().ok() } else { None };
    let at = at.ok_or("must be an RFC 3339 time such as 2026-11-20T10:00:00Z")?;
    if at < Timestamp::EPOCH {
        return Err("must not be before 1970".into());
    }
    if at > context.latest {
        return Err("is more than 5 minutes ahead of its arrival".into());
    }
    Ok(at)
}

/// Whether the shape is RFC 3339's: the parser of times also takes spaces, zone names and missing seconds.
fn is_rfc3339(text: &str) -> bool {
    let Some((date_time, rest)) = text.as_bytes().split_first_chunk::<19>() else { return false };
    let shaped = date_time.iter().zip(b"0000-00-00T00:00:00").all(|(byte, shape)| match shape {
        b'0' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't'),
        other => byte == other,
    });
    let offset = match rest.split_first() {
        Some((b'.', fraction)) => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            fraction.split_at_checked(digits).filter(|_| digits > 0).map(|(_, offset)| offset)
        }
        Some(_) | None => Some(rest),
    };
    let offset_shaped = match offset {
        Some([b'Z' | b'z']) => true,
        Some([b'+' | b'-', a, b, b':', c, d]) => [a, b, c, d].iter().all(|byte| byte.is_ascii_digit()),
        Some(_) | None => false,
    };
    shaped && offset_shaped
}

/// A `producerseq`.
pub(super) fn sequence(text: &str) -> Result<u64, Why> {
    let plain = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if plain { text.parse().ok() } else { None };
    number.ok_or("must be a whole number from 1 to 18446744073709551615 in a string, such as \"4711\"".into())
}

/// Tokens or units (R8.3).
pub(super) fn quantity(value: u64) -> Result<u64, Why> {
    if value > QUANTITY_MAX { Err(TOO_LARGE.into()) } else { Ok(value) }
}

/// Said of quantities over [`QUANTITY_MAX`].
pub(super) const TOO_LARGE: &str = "must be at most 1000000000000";

/// Said where cached input exceeds all input.
pub(super) const CACHED_EXCEEDS: &str = "must be at most input_tokens, which includes the cached ones";

/// A `cost`.
pub(super) fn cost(text: &str) -> Result<Amount, Why> {
    let amount: Amount = text.parse().map_err(|error| Why::from(format!("{error}")))?;
    if amount.is_negative() { Err("must not be negative".into()) } else { Ok(amount) }
}

/// A `datacontenttype`: JSON, whatever its parameters.
pub(super) fn content_type(text: &str) -> Result<(), Why> {
    let essence = text.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err("must be application/json".into())
    }
}

/// A text that must be just this.
pub(super) fn exactly(text: &str, wanted: &'static str) -> Result<(), Why> {
    if text == wanted { Ok(()) } else { Err(format!("must be \"{wanted}\"").into()) }
}
