//! The ledger's own types as texts of the API: ids, names, money, times, places in the log.

use std::borrow::Cow;

use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::{
    AlertId, DisplayName, ID_MAX, InvitationId, InvoiceId, KeyId, LeaseId, MemberId, MeterName, ModelName,
    MovementId, OrgId, ProjectId, Reason, RechargeId, Reference, SourceName, TokenId, VoucherId, WebhookId, invisible,
};
use tollbook_schemas::policy::{Factor, Scope};
use tollbook_schemas::position::LogPosition;
use tollbook_schemas::price::Price;
use tollbook_schemas::role::{OrgRole, ProjectRole, Verification};
use tollbook_schemas::time::{Day, Month, Timestamp, Zone};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};

use super::shape::Text;

/// A string.
pub(super) fn string(about: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).description(Some(about))
}

/// A string of a known format.
pub(super) fn formatted(about: &str, format: KnownFormat) -> ObjectBuilder {
    string(about).format(Some(SchemaFormat::KnownFormat(format)))
}

/// A string that is not blank and holds no control characters.
pub(super) fn named(about: &str, most: usize) -> ObjectBuilder {
    let plain = r"\u0000-\u001f\u007f-\u009f";
    let pattern = format!(r"^[^{plain}]*[^\s{plain}][^{plain}]*$");
    string(about).min_length(Some(1)).max_length(Some(most)).pattern(Some(pattern))
}

/// The characters of [`turns_text`], as a class of a pattern holds them.
const TURNING: &str = r"\u202a-\u202e\u2066-\u2069";
/// Those of [`invisible`] in the first plane.
const INVISIBLE: &str = concat!(
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800",
    r"\u3164\ufe00-\ufe0f\ufeff\uffa0",
);

/// A [`named`] string that people read among others.
fn shown(about: &str, most: usize) -> ObjectBuilder {
    let never = format!(r"\u0000-\u001f\u007f-\u009f{TURNING}");
    let (any, edge) = (format!("[^{never}]"), format!(r"[^\s\ufeff{never}]"));
    let seen = format!(r"[^\s{never}{INVISIBLE}]");
    let about = format!(
        "{about} It neither begins nor ends with white space, is not of invisible characters only, and holds none that \
         change the direction of text (U+202A to U+202E, U+2066 to U+2069)."
    );
    let pattern = format!("^({seen}|{edge}{any}*{seen})({any}*{edge})?$");
    string(&about).min_length(Some(1)).max_length(Some(most)).pattern(Some(pattern))
}

/// A pattern of what RFC 3339 says in the years that are kept; whether the month has the day, it does not tell.
pub(super) fn rfc3339() -> String {
    let years = "(167[89]|16[89][0-9]|1[7-9][0-9]{2}|2[01][0-9]{2}|22[0-5][0-9]|226[01])";
    let days = "(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])";
    let hours = "([01][0-9]|2[0-3]):[0-5][0-9]";
    format!(r"{years}-{days}[Tt]{hours}:[0-5][0-9](\.[0-9]{{1,9}})?([Zz]|[+-]{hours})")
}

/// A pattern of amounts that are not negative; the largest of all, above 79 quadrillion, are not promised.
pub(super) const AMOUNT: &str = r"0*([0-9]{1,16}|[1-6][0-9]{16}|7[0-8][0-9]{15})(\.[0-9]{1,12}0*)?";

/// Declares identifiers: type, name of the description, whose.
macro_rules! ids {
    ($($id:ident = $name:literal, $whose:literal;)+) => {$(
        impl Text for $id {
            const NAME: &'static str = $name;

            fn schema() -> ObjectBuilder {
                let rest = ID_MAX.saturating_sub($id::PREFIX.len());
                string(concat!("Identifier of ", $whose, "."))
                    .pattern(Some(format!("^{}[A-Za-z0-9_-]{{1,{rest}}}$", $id::PREFIX)))
            }

            fn of(text: &str) -> Result<Self, String> {
                Self::parse(text).map_err(|error| error.to_string())
            }

            fn text(&self) -> Cow<'_, str> {
                self.as_str().into()
            }
        }
    )+};
}

ids! {
    OrgId = "OrganizationId", "an organization";
    ProjectId = "ProjectId", "a project";
    MemberId = "MemberId", "a member of an organization";
    KeyId = "ApiKeyId", "an API key, not its secret";
    InvitationId = "InvitationId", "an invitation";
    RechargeId = "RechargeId", "a recharge";
    VoucherId = "VoucherId", "a voucher";
    MovementId = "MovementId", "a refund, a reversal or an adjustment";
    InvoiceId = "InvoiceId", "an invoice or credit note";
    TokenId = "TokenId", "a service token, not its secret";
    AlertId = "AlertId", "an alert";
    WebhookId = "WebhookId", "a webhook";
    LeaseId = "LeaseId", "what an admitted request has reserved";
}

/// Declares names: type, name of the description, what it is, how it is described.
macro_rules! names {
    ($($type:ident = $name:literal, $about:literal, $describe:ident;)+) => {$(
        impl Text for $type {
            const NAME: &'static str = $name;

            fn schema() -> ObjectBuilder {
                let about = format!(
                    "{} At most {} bytes of UTF-8, not blank, without control characters.", $about, $type::MAX,
                );
                $describe(&about, $type::MAX)
            }

            fn of(text: &str) -> Result<Self, String> {
                Self::parse(text).map_err(|error| error.to_string())
            }

            fn text(&self) -> Cow<'_, str> {
                self.as_str().into()
            }
        }
    )+};
}

names! {
    DisplayName = "Name", "What people call something.", shown;
    ModelName = "ModelName", "A model as the price book names it.", named;
    MeterName = "MeterName", "A further metered unit, such as `image`.", named;
    SourceName = "Source", "Who published usage: a URI reference.", named;
    Reference = "Reference", "The payment provider's reference.", named;
    Reason = "Reason", "Why it was done.", named;
}

/// Declares what is read and written as Rust does it: type, name of the description, the description.
macro_rules! parsed {
    ($($type:ident = $name:literal, $schema:expr;)+) => {$(
        impl Text for $type {
            const NAME: &'static str = $name;

            fn schema() -> ObjectBuilder {
                $schema
            }

            fn of(text: &str) -> Result<Self, String> {
                text.parse().map_err(|error| format!("{error}"))
            }

            fn text(&self) -> Cow<'_, str> {
                self.to_string().into()
            }
        }
    )+};
}

parsed! {
    Amount = "Amount", string("Money of the ledger's currency, exact: a decimal number with at most 12 places.")
        .pattern(Some(format!("^-?{AMOUNT}$")))
        .examples(["12.5"]);
    Price = "Price", string("Money per million units, exact: a decimal number with at most 6 places.")
        .pattern(Some(r"^0*([0-9]{1,9}(\.[0-9]{1,6}0*)?|1000000000(\.0+)?)$"))
        .examples(["0.60"]);
    Factor = "Factor", string("What limits are multiplied by: above 0, at most 1, with at most 3 decimal places.")
        .pattern(Some(r"^0*(1(\.0+)?|0\.([1-9][0-9]{0,2}|0[1-9][0-9]?|00[1-9])0*)$"))
        .examples(["0.5"]);
    Timestamp = "Time", formatted("An instant, RFC 3339; answers are in UTC.", KnownFormat::DateTime)
        .pattern(Some(format!("^{}$", rfc3339())))
        .examples(["2026-11-20T10:00:00Z"]);
    Day = "Day", string("A calendar day of the organization's time zone.")
        .pattern(Some("^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"))
        .examples(["2026-11-20"]);
    Month = "Month", string("A calendar month.").pattern(Some("^[0-9]{4}-(0[1-9]|1[0-2])$")).examples(["2026-11"]);
    LogPosition = "Position", string("A place in the log: partition and position.")
        .pattern(Some("^(0|[1-9][0-9]{0,4})-(0|[1-9][0-9]{0,19})$"))
        .examples(["0-17"]);
}

impl Text for Zone {
    const NAME: &'static str = "TimeZone";

    fn schema() -> ObjectBuilder {
        string(
            "A time zone of the IANA database; not `Factory` or `Etc/Unknown`, which say that none is set.",
        )
        .pattern(Some("^[A-Za-z][A-Za-z0-9+_-]*(/[A-Za-z0-9+_-]+)*$"))
        .examples(["Europe/Berlin"])
    }

    fn of(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error| format!("{error}"))
    }

    fn text(&self) -> Cow<'_, str> {
        self.name().into()
    }
}

/// Declares a choice: type, name of the description, what it is, and each variant's word.
macro_rules! choices {
    ($($type:ident = $name:literal, $about:literal { $($variant:ident = $word:literal),+ $(,)? })+) => {$(
        impl $crate::http::shape::Text for $type {
            const NAME: &'static str = $name;

            fn schema() -> utoipa::openapi::schema::ObjectBuilder {
                $crate::http::kinds::string($about).enum_values(Some([$($word),+]))
            }

            fn of(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::http::kinds::one_of(&[$($word),+])),
                }
            }

            fn text(&self) -> std::borrow::Cow<'_, str> {
                match self {
                    $(Self::$variant => $word.into(),)+
                }
            }
        }
    )+};
}
pub(super) use choices;

/// The reason why something is none of a choice.
pub(super) fn one_of(words: &[&str]) -> String {
    match words {
        [first @ .., last] if !first.is_empty() => format!("must be {} or {last}", first.join(", ")),
        [only] => format!("must be {only}"),
        [..] => "cannot be anything".to_owned(),
    }
}

choices! {
    Verification = "Verification", "How far the platform has verified an organization." {
        Unverified = "unverified",
        Verified = "verified",
        EnterpriseVerified = "enterprise_verified",
    }
    OrgRole = "OrganizationRole", "Role of a member in an organization." {
        Administrator = "administrator",
        Member = "member",
    }
    ProjectRole = "ProjectRole", "Role of a member in a project." {
        Administrator = "administrator",
        Member = "member",
    }
    Scope = "Scope", "What a service token may be used for." {
        Operator = "operator",
        Console = "console",
        Publisher = "publisher",
        Gateway = "gateway",
        Auditor = "auditor",
    }
}

/// An amount that may be nothing, and not less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotNegative(pub(super) Amount);

impl Text for NotNegative {
    const NAME: &'static str = "AmountNotNegative";

    fn schema() -> ObjectBuilder {
        string("Money of the ledger's currency, not below 0, exact: a decimal number with at most 12 places.")
            .pattern(Some(format!("^{AMOUNT}$")))
            .examples(["5"])
    }

    fn of(text: &str) -> Result<Self, String> {
        if text.starts_with('-') {
            return Err("must not be negative".to_owned());
        }
        Amount::of(text).map(Self)
    }

    fn text(&self) -> Cow<'_, str> {
        self.0.to_string().into()
    }
}

/// An e-mail address, as far as a server can know: something, one @, and a host of labels with a dot, or `localhost`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Email(pub(super) String);

impl Text for Email {
    const NAME: &'static str = "Email";

    fn schema() -> ObjectBuilder {
        let strange = format!(r#"\s\u0000-\u001f\u007f-\u009f@,;<>"{INVISIBLE}"#);
        let label = format!("[^{strange}.]+");
        string("An e-mail address, without characters that nobody sees.")
            .max_length(Some(254))
            .pattern(Some(format!(r"^[^{strange}]+@({label}(\.{label})+|localhost)$")))
            .examples(["ada@example.com"])
    }

    fn of(text: &str) -> Result<Self, String> {
        let strange = |c: char| {
            c.is_whitespace() || c.is_control() || invisible(c) || matches!(c, ',' | ';' | '<' | '>' | '"')
        };
        let host_of = |host: &str| {
            let labels = host.split('.').all(|label| !label.is_empty());
            labels && (host.contains('.') || host == "localhost")
        };
        match text.split_once('@') {
            Some((local, host))
                if !local.is_empty()
                    && !host.contains('@')
                    && host_of(host)
                    && text.len() <= 254
                    && !text.contains(strange) =>
            {
                Ok(Self(text.to_owned()))
            }
            Some(_) | None => Err("must be an e-mail address".to_owned()),
        }
    }

    fn text(&self) -> Cow<'_, str> {
        self.0.as_str().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_refused() {
        for good in ["a@b.co", "ann+x@sub.example.org", "root@localhost"] {
            assert_eq!(Email::of(good), Ok(Email(good.to_owned())));
        }
        for bad in [
            "a\u{200b}@b.co",
            "a\u{202e}@b.co",
            "",
            "a",
            "@b.co",
            "a@b",
            "a@b.",
            "a@.b",
            "a@b@c.d",
            "a,b@c.d",
            "a b@c.d",
            "a@b..c",
            "<a@b.co>",
        ] {
            assert!(Email::of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_know_what_nobody_sees() {
        let class = |pattern: &str| {
            let code = |text: &str| u32::from_str_radix(text, 16).unwrap();
            let parts = pattern.split(r"\u").skip(1).map(|part| (code(&part[..4]), part.ends_with('-')));
            let mut found = Vec::new();
            let mut from = None;
            for (code, begins) in parts {
                found.extend(from.take().unwrap_or(code)..=code);
                from = begins.then_some(code);
            }
            found.dedup();
            found
        };
        let of = |is: fn(char) -> bool| {
            (0..=0xffff_u32).filter(|code| char::from_u32(*code).is_some_and(is)).collect::<Vec<_>>()
        };
        assert_eq!(class(INVISIBLE), of(invisible));
        assert_eq!(class(TURNING), of(tollbook_schemas::id::turns_text));
    }

    #[test]
    fn a_choice_names_its_words() {
        assert_eq!(one_of(&["a", "b", "c"]), "must be a, b or c");
        assert_eq!(one_of(&["a"]), "must be a");
    }
}
