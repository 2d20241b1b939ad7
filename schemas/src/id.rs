//! Prefixed, URL-safe identifiers and the names that usage carries.

use std::fmt;
use std::sync::Arc;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

/// Longest identifier accepted, prefix included: one NATS subject token, one URL segment.
pub const ID_MAX: usize = 72;

/// Why a text is not an identifier of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text does not begin as identifiers of this kind do.
    #[error("must begin with `{prefix}`")]
    Prefix {
        /// What it should begin with.
        prefix: &'static str,
    },
    /// Something other than ASCII letters, digits, `_` or `-`, or nothing at all, follows the prefix.
    #[error("may hold only ASCII letters, digits, `_` and `-` after `{prefix}`")]
    Characters {
        /// The prefix of this kind.
        prefix: &'static str,
    },
    /// Longer than [`ID_MAX`] bytes.
    #[error("must be at most {ID_MAX} characters")]
    Length,
}

/// Crockford's base 32 in lower case: no `i`, `l`, `o`, `u`, so ids survive being read aloud.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// What each byte of such a text stands for; 32 and above: nothing.
const DIGITS: [u8; 256] = {
    let mut digits = [u8::MAX; 256];
    let mut digit: u8 = 0;
    while digit < 32 {
        #[expect(clippy::as_conversions, clippy::indexing_slicing, reason = "checked when it is compiled")]
        {
            digits[ALPHABET[digit as usize] as usize] = digit;
        }
        digit += 1;
    }
    digits
};

/// 26 characters, ordered as the numbers are.
fn base32(value: u128) -> [u8; 26] {
    let mut text = [0; 26];
    let mut rest = value;
    for place in text.iter_mut().rev() {
        let digit = usize::try_from(rest & 31).unwrap_or(0);
        *place = ALPHABET.get(digit).copied().unwrap_or(b'0');
        rest >>= 5;
    }
    text
}

/// The number that 26 such characters were made of.
fn from_base32(text: &str) -> Option<u128> {
    let first_fits = text.as_bytes().first().is_some_and(|first| *first < b'8');
    if text.len() != 26 || !first_fits {
        return None;
    }
    text.bytes().try_fold(0_u128, |value, byte| {
        let digit = DIGITS.get(usize::from(byte)).copied().filter(|digit| *digit < 32)?;
        Some(value << 5 | u128::from(digit))
    })
}

fn check(text: &str, prefix: &'static str) -> Result<(), IdError> {
    let rest = text.strip_prefix(prefix).ok_or(IdError::Prefix { prefix })?;
    if text.len() > ID_MAX {
        return Err(IdError::Length);
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    // Without an early end, which would cost more than it saves.
    if rest.is_empty() || !rest.bytes().fold(true, |all, byte| all & plain(byte)) {
        return Err(IdError::Characters { prefix });
    }
    Ok(())
}

/// Reads a text where it stands: entries hold hundreds of them.
struct Text<F> {
    expected: &'static str,
    read: F,
}

impl<T, E: fmt::Display, F: Fn(&str) -> Result<T, E>> Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<Error: de::Error>(self, text: &str) -> Result<T, Error> {
        (self.read)(text).map_err(Error::custom)
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub struct $name(Arc<str>);

        impl $name {
            /// What every identifier of this kind begins with.
            pub const PREFIX: &'static str = $prefix;

            /// Reads an identifier. Errors: the reason it is not one.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check(text, $prefix)?;
                Ok(Self(text.into()))
            }

            /// The identifier for 128 bits that the caller made unique.
            pub fn from_bits(bits: u128) -> Self {
                let mut text = String::with_capacity($prefix.len().saturating_add(26));
                text.push_str($prefix);
                text.extend(base32(bits).map(char::from));
                Self(text.into())
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text { expected: $prefix, read: Self::parse })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

ids! {
    /// An organization (R1.1).
    OrgId = "org_";
    /// A project of an organization (R6).
    ProjectId = "proj_";
    /// A member of an organization (R3).
    MemberId = "mem_";
    /// An API key, not its secret (R3.6).
    KeyId = "ak_";
    /// A single-use invitation (R3.3).
    InvitationId = "inv_";
    /// A recharge (R4.7).
    RechargeId = "rch_";
    /// A refund, adjustment, reversal or other movement of money (R4.8).
    MovementId = "mov_";
    /// A voucher (R4.2).
    VoucherId = "vou_";
    /// An invoice or credit note (R4.10).
    InvoiceId = "invoice_";
    /// A service token, not its secret.
    TokenId = "tok_";
    /// A webhook endpoint (R7.3).
    WebhookId = "wh_";
    /// An alert.
    AlertId = "alert_";
    /// An admission lease (R5.7).
    LeaseId = "lease_";
    /// A ledger: one set of partitions with one currency (R1.5).
    LedgerId = "ledger_";
}

impl LeaseId {
    /// The 128 bits that it was made of, if it was made so.
    pub fn to_bits(&self) -> Option<u128> {
        from_base32(self.0.strip_prefix(Self::PREFIX)?)
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident($max:literal, $check:ident);)+) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Longest name, in bytes.
            pub const MAX: usize = $max;

            /// Reads a name. Errors: empty, too long, or characters that it must not hold.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                $check(text, $max)?;
                Ok(Self(text.into()))
            }

            /// What is stored was accepted once, by what was asked of names then.
            fn stored(text: &str) -> Result<Self, NameError> {
                check_name(text, $max)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text { expected: "a name", read: Self::stored })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    )+};
}

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or only white space.
    #[error("must not be empty")]
    Empty,
    /// Longer than the bound of this kind of name.
    #[error("must be at most {max} bytes")]
    Length {
        /// The bound.
        max: usize,
    },
    /// A line break or another control character.
    #[error("must not hold control characters")]
    Control,
    /// What people read begins or ends with white space, so that it looks like another name.
    #[error("must not begin or end with white space")]
    Edge,
    /// What people read would show nothing.
    #[error("must not be of invisible characters only")]
    Invisible,
    /// What people read would turn what stands around it.
    #[error("must not hold U+{:04X}, which changes the direction of text", u32::from(*.found))]
    Direction {
        /// The first of them.
        found: char,
    },
}

/// Whether a character shows nothing by itself: fillers, zero widths, marks and selectors. White space and controls are
/// told apart otherwise.
pub const fn invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Whether a character changes the direction of the text after it, so that a line reads as another: embeddings,
/// overrides and isolates.
pub const fn turns_text(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What people read, among other names and in sentences.
fn check_shown(text: &str, max: usize) -> Result<(), NameError> {
    check_name(text, max)?;
    let edge = |c: char| c.is_whitespace() || c == '\u{feff}';
    if text.starts_with(edge) || text.ends_with(edge) {
        return Err(NameError::Edge);
    }
    if let Some(found) = text.chars().find(|c| turns_text(*c)) {
        return Err(NameError::Direction { found });
    }
    if text.chars().all(|c| invisible(c) || c.is_whitespace()) {
        return Err(NameError::Invisible);
    }
    Ok(())
}

fn check_name(text: &str, max: usize) -> Result<(), NameError> {
    // Nearly all names are such.
    if text.len() <= max
        && !text.is_empty()
        && text.bytes().fold(true, |all, byte| all & byte.is_ascii_graphic())
    {
        return Ok(());
    }
    if text.trim().is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > max {
        return Err(NameError::Length { max });
    }
    if text.chars().any(char::is_control) {
        return Err(NameError::Control);
    }
    Ok(())
}

names! {
    /// A model as the price book names it (R4.11).
    ModelName(128, check_name);
    /// The name of a further metered unit: `image`, `tool_call`, `cache_write` (R4.11).
    MeterName(64, check_name);
    /// Who published usage: the CloudEvents `source`, any URI reference.
    SourceName(256, check_name);
    /// A payment provider's reference (R4.7), unique per organization and kind of movement.
    Reference(256, check_name);
    /// What people call an organization, project, key or token.
    DisplayName(200, check_shown);
    /// Why an operator did something.
    Reason(500, check_name);
    /// A server process among those of one ledger.
    NodeName(64, check_name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_and_sort_as_their_bits() {
        let low = OrgId::from_bits(1);
        let high = OrgId::from_bits(u128::MAX);
        assert_eq!(low.as_str(), "org_00000000000000000000000001");
        assert_eq!(high.as_str(), "org_7zzzzzzzzzzzzzzzzzzzzzzzzz");
        assert!(low < high);
        assert_eq!(OrgId::parse(high.as_str()), Ok(high));
    }

    #[test]
    fn what_is_no_id_says_why() {
        assert_eq!(OrgId::parse("acme"), Err(IdError::Prefix { prefix: "org_" }));
        assert_eq!(OrgId::parse("org_"), Err(IdError::Characters { prefix: "org_" }));
        assert_eq!(OrgId::parse("org_a.b"), Err(IdError::Characters { prefix: "org_" }));
        assert_eq!(OrgId::parse(&format!("org_{}", "a".repeat(ID_MAX))), Err(IdError::Length));
    }

    #[test]
    fn what_is_no_name_says_why() {
        assert_eq!(ModelName::parse(" "), Err(NameError::Empty));
        assert_eq!(ModelName::parse("a\nb"), Err(NameError::Control));
        assert_eq!(MeterName::parse(&"m".repeat(65)), Err(NameError::Length { max: 64 }));
    }

    #[test]
    fn what_people_read_is_to_be_seen() {
        for good in
            ["Acme", "Ac me", "Żółw & Söhne", "❤\u{fe0f}", "👩\u{200d}🚀", "می\u{200c}خواهم", "\u{200b}a"]
        {
            assert!(DisplayName::parse(good).is_ok(), "{good:?}");
        }
        for (bad, why) in [
            ("\u{200b}", NameError::Invisible),
            ("\u{200b} \u{3164}", NameError::Invisible),
            ("\u{feff}", NameError::Edge),
            (" Acme", NameError::Edge),
            ("Acme\u{a0}", NameError::Edge),
            ("A\u{202e}cme", NameError::Direction { found: '\u{202e}' }),
            ("\u{2066}Acme\u{2069}", NameError::Direction { found: '\u{2066}' }),
            ("\u{3000}", NameError::Empty),
        ] {
            assert_eq!(DisplayName::parse(bad), Err(why), "{bad:?}");
        }
        // Others are told apart by programs, and what is stored stays.
        assert!(SourceName::parse(" a ").is_ok());
        let stored: DisplayName = serde_json::from_str("\" Acme\"").unwrap();
        assert_eq!(stored.as_str(), " Acme");
    }
}
