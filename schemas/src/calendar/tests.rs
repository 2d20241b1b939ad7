//! Days and months over changes of the time zone, against the definition searched by halves.

use proptest::prelude::*;

use super::*;

const HOUR: i64 = 3_600;

fn zone(name: &str) -> Zone {
    name.parse().unwrap()
}

fn month(text: &str) -> Month {
    text.parse().unwrap()
}

fn day(text: &str) -> Day {
    text.parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn changed(first: &str, changes: &[(&str, &str)]) -> Calendar {
    let mut calendar = Calendar::new(zone(first));
    for (from, name) in changes {
        calendar.change(zone(name), month(from));
    }
    calendar
}

fn hours(calendar: &Calendar, text: &str) -> i64 {
    let (start, end) = (calendar.start_of_day(day(text)), calendar.start_of_day(day(text).next()));
    end.nanos_since(start) / (HOUR * 1_000_000_000)
}

#[test]
fn r1_4_the_first_day_of_a_new_zone_takes_the_difference() {
    for (first, then, lengths) in [
        ("UTC", "Asia/Shanghai", [24, 16, 24]),
        ("Asia/Shanghai", "UTC", [24, 32, 24]),
        ("America/New_York", "Europe/Berlin", [24, 18, 24]),
        ("Etc/GMT+12", "Etc/GMT-12", [24, 0, 24]),
        ("Etc/GMT+12", "Pacific/Kiritimati", [24, 0, 22]),
        ("Pacific/Kiritimati", "Etc/GMT+12", [24, 50, 24]),
    ] {
        let calendar = changed(first, &[("2026-12", then)]);
        let found = ["2026-11-30", "2026-12-01", "2026-12-02"].map(|text| hours(&calendar, text));
        assert_eq!(found, lengths, "{first} {then}");
        assert_eq!(calendar.start_of_month(month("2026-12")), zone(first).start_of_month(month("2026-12")));
        assert_eq!(calendar.start_of_month(month("2027-01")), zone(then).start_of_month(month("2027-01")));
    }
}

#[test]
fn r1_4_from_utc_minus_12_to_plus_14_and_back() {
    let east = changed("Etc/GMT+12", &[("2026-12", "Pacific/Kiritimati")]);
    assert_eq!(east.day(at("2026-12-01T11:59:59.999999999Z")), day("2026-11-30"));
    assert_eq!(east.day(at("2026-12-01T12:00:00Z")), day("2026-12-02"));
    assert_eq!(east.day(at("2026-12-02T10:00:00Z")), day("2026-12-03"));

    let west = changed("Pacific/Kiritimati", &[("2026-12", "Etc/GMT+12")]);
    assert_eq!(west.day(at("2026-11-30T09:59:59.999999999Z")), day("2026-11-30"));
    assert_eq!(west.day(at("2026-11-30T10:00:00Z")), day("2026-12-01"));
    assert_eq!(west.day(at("2026-12-02T11:59:59.999999999Z")), day("2026-12-01"));
    assert_eq!(west.day(at("2026-12-02T12:00:00Z")), day("2026-12-02"));
}

#[test]
fn r1_4_a_change_is_pending_until_its_month_begins() {
    let calendar = changed("Europe/Berlin", &[("2026-12", "America/New_York")]);
    let (before, after) = (at("2026-11-30T22:59:59.999999999Z"), at("2026-11-30T23:00:00Z"));
    assert_eq!(calendar.zone_at(before).name(), "Europe/Berlin");
    assert_eq!(calendar.pending(before), Some((month("2026-12"), &zone("America/New_York"))));
    assert_eq!(calendar.zone_at(after).name(), "America/New_York");
    assert_eq!(calendar.pending(after), None);
}

#[test]
fn r1_4_the_last_word_about_a_month_counts() {
    let first = Calendar::new(zone("UTC"));
    let berlin = [("2026-12", "Europe/Berlin")];
    assert_eq!(changed("UTC", &[("2026-12", "Asia/Tokyo"), berlin[0]]), changed("UTC", &berlin));
    assert_eq!(changed("UTC", &[("2027-03", "Asia/Tokyo"), berlin[0]]), changed("UTC", &berlin));
    assert_eq!(changed("UTC", &[berlin[0], ("2026-12", "UTC")]), first);
    assert_eq!(changed("UTC", &[("2026-12", "UTC")]), first);
    assert_eq!(changed("UTC", &[berlin[0], ("2027-01", "Europe/Berlin")]), changed("UTC", &berlin));
    // Once it was in force, going back is a change like another.
    assert_ne!(changed("UTC", &[berlin[0], ("2027-01", "UTC")]), first);
}

#[test]
fn r1_4_a_zones_own_clocks_may_go_back_over_midnight() {
    // From 00:01 back to 23:01, and the month with it.
    let (first, then) = (at("2009-11-01T02:30:30Z"), at("2009-11-01T02:31:30Z"));
    let own = Calendar::new(zone("America/St_Johns"));
    assert_eq!((own.day(first), own.day(then)), (day("2009-11-01"), day("2009-10-31")));
    // But not into the month before a change: that is closed.
    let calendar = changed("Etc/GMT+2", &[("2009-11", "America/St_Johns")]);
    for instant in [at("2009-11-01T02:00:00Z"), first, then] {
        assert_eq!(calendar.day(instant), day("2009-11-01"));
        assert!(calendar.span(instant).holds(instant));
        assert_eq!(calendar.span(instant).day, day("2009-11-01"));
    }
    let calendar = changed("America/St_Johns", &[("2009-11", "America/Halifax")]);
    for instant in [first, then] {
        assert_eq!(calendar.day(instant), day("2009-11-01"));
    }
}

const ZONES: [&str; 16] = [
    "UTC",
    "Pacific/Kiritimati",
    "Etc/GMT+12",
    "Pacific/Apia",
    "Pacific/Pago_Pago",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",
    "America/Havana",
    "America/Sao_Paulo",
    "America/Nuuk",
    "Asia/Beirut",
    "Asia/Kolkata",
    "Africa/Cairo",
    "Pacific/Chatham",
];

fn any_zone() -> impl Strategy<Value = Zone> {
    proptest::sample::select(&ZONES[..]).prop_map(zone)
}

fn any_month() -> impl Strategy<Value = Month> {
    (2012_i16..2036, 1_i8..=12).prop_map(|(year, month)| Month { year, month })
}

/// Up to three changes, the last of which is given too.
fn any_calendar() -> impl Strategy<Value = (Calendar, Option<Month>)> {
    (any_zone(), proptest::collection::vec((any_month(), 0_u8..3, any_zone()), 0..4)).prop_map(
        |(first, changes)| {
            let mut calendar = Calendar::new(first);
            let mut last = None;
            for (from, after, zone) in changes {
                // Often months in a row, and rising.
                let from = match (last, after) {
                    (Some(month), 0) => Month::next(month),
                    (Some(month), _) => from.max(month),
                    (None, _) => from,
                };
                calendar.change(zone, from);
                last = Some(from);
            }
            (calendar, last)
        },
    )
}

/// A calendar and an instant from 2012 to 2037, more often one near its last change. In those years none of the zones
/// turns its clocks back over midnight.
fn calendar_and_instant() -> impl Strategy<Value = (Calendar, Timestamp)> {
    let anywhere = at("2012-01-03T00:00:00Z").nanos()..at("2037-01-01T00:00:00Z").nanos();
    let near = -60 * HOUR * 1_000_000_000..60 * HOUR * 1_000_000_000;
    (any_calendar(), anywhere, near, any::<bool>(), any::<bool>()).prop_map(
        |((calendar, last), anywhere, near, use_near, whole)| {
            let nanos = match last {
                Some(month) if use_near => Zone::utc().start_of_month(month).nanos() + near,
                _ => anywhere,
            };
            let unit = if whole { HOUR / 4 * 1_000_000_000 } else { 1 };
            (calendar, Timestamp::from_nanos(nanos / unit * unit))
        },
    )
}

/// The first instant in the years of the tests for which `reached` holds, by halves.
fn first_instant(reached: impl Fn(Timestamp) -> bool) -> Timestamp {
    let (mut low, mut high) = (at("2011-01-01T00:00:00Z").nanos(), at("2038-06-01T00:00:00Z").nanos());
    while low < high {
        let middle = low + (high - low) / 2;
        if reached(Timestamp::from_nanos(middle)) { high = middle } else { low = middle + 1 }
    }
    Timestamp::from_nanos(low)
}

/// The definition: each change over the days before it.
fn day_by_definition(first: &Zone, changes: &[(Month, Zone)], at: Timestamp) -> Day {
    let Some(((from, zone), before)) = changes.split_last() else { return first.day(at) };
    let reached = |at| day_by_definition(first, before, at) >= from.first_day();
    if at < first_instant(reached) {
        day_by_definition(first, before, at)
    } else {
        zone.day(at).max(from.first_day())
    }
}

proptest! {
    #[test]
    fn r1_4_days_are_as_defined(
        zones in [any_zone(), any_zone(), any_zone()], from in any_month(), apart in 1..3, near in -60..60_i64,
    ) {
        let [first, second, third] = zones;
        let then = if apart == 1 { from.next() } else { from.next().next() };
        let changes = [(from, second.clone()), (then, third.clone())];
        let mut calendar = Calendar::new(first.clone());
        calendar.change(second, from);
        calendar.change(third, then);
        for month in [from, then] {
            let at = Zone::utc().start_of_month(month).plus_seconds(near * HOUR / 2);
            prop_assert_eq!(calendar.day(at), day_by_definition(&first, &changes, at));
        }
    }

    #[test]
    fn r1_4_no_day_and_no_month_comes_again(
        (calendar, at) in calendar_and_instant(), later in 0..100 * HOUR * 1_000_000_000,
    ) {
        let after = at.plus_nanos(later);
        prop_assert!(calendar.day(at) <= calendar.day(after));
        prop_assert!(calendar.day(at).month() <= calendar.day(after).month());
    }

    #[test]
    fn r1_4_a_day_begins_with_its_first_instant((calendar, at) in calendar_and_instant(), more in 0..3) {
        let wanted = (0..more).fold(calendar.day(at), |day, _| day.next());
        let start = calendar.start_of_day(wanted);
        prop_assert!(calendar.day(start) >= wanted);
        prop_assert!(calendar.day(start.plus_nanos(-1)) < wanted);
    }

    #[test]
    fn r1_4_a_month_begins_with_its_first_instant_and_none_is_left_out(
        (calendar, at) in calendar_and_instant(),
    ) {
        let wanted = calendar.day(at).month().next();
        let start = calendar.start_of_month(wanted);
        prop_assert!(at < start);
        prop_assert_eq!(calendar.day(start).month(), wanted);
        prop_assert_eq!(calendar.day(start.plus_nanos(-1)).month().next(), wanted);
    }

    #[test]
    fn r1_4_a_span_holds_only_instants_of_its_day(
        (calendar, at) in calendar_and_instant(), by in -52 * HOUR * 1_000_000_000..52 * HOUR * 1_000_000_000,
    ) {
        let span = calendar.span(at);
        prop_assert!(span.holds(at));
        prop_assert_eq!(span.day, calendar.day(at));
        let other = at.plus_nanos(by);
        prop_assert!(!span.holds(other) || calendar.day(other) == span.day);
        // Also where another zone begins.
        for change in &calendar.changes {
            for edge in [change.start, change.start.plus_nanos(-1)] {
                prop_assert!(!span.holds(edge) || calendar.day(edge) == span.day);
            }
        }
    }

    #[test]
    fn r1_4_only_the_first_day_differs_from_the_zones((calendar, at) in calendar_and_instant()) {
        let own = calendar.zone_at(at).day(at);
        let first = calendar.changes.iter().any(|change| change.from.first_day() == calendar.day(at));
        prop_assert!(first || own == calendar.day(at));
    }

    #[test]
    fn r1_4_a_change_leaves_what_was((calendar, at) in calendar_and_instant(), zone in any_zone()) {
        let mut after = calendar.clone();
        let from = calendar.day(at).month().next();
        after.change(zone.clone(), from);
        let start = calendar.start_of_month(from);
        for instant in [at, start.plus_nanos(-1)] {
            prop_assert_eq!(after.day(instant), calendar.day(instant));
            prop_assert_eq!(after.zone_at(instant), calendar.zone_at(instant));
        }
        prop_assert_eq!(after.start_of_month(from), start);
        prop_assert_eq!(after.zone_at(start), &zone);
        if calendar.zone_at(at) == &zone {
            prop_assert_eq!(after.pending(at), None);
        } else {
            prop_assert_eq!(after.pending(at), Some((from, &zone)));
        }
    }

    #[test]
    fn r1_4_without_a_change_the_days_are_the_zones(
        zone in any_zone(), nanos in any::<i64>(), number in -100_000..100_000_i64,
    ) {
        let calendar = Calendar::new(zone.clone());
        let at = Timestamp::from_nanos(nanos);
        prop_assert_eq!(calendar.day(at), zone.day(at));
        prop_assert_eq!(calendar.span(at), DaySpan::of(&zone, at));
        let day = Zone::utc().day(Timestamp::from_seconds(number * 24 * HOUR));
        prop_assert_eq!(calendar.start_of_day(day), zone.start_of_day(day));
        prop_assert_eq!(calendar.zone_at(at), &zone);
        prop_assert_eq!(calendar.pending(at), None);
    }

    #[test]
    fn r1_4_nothing_panics_anywhere(
        first in any_zone(), zone in any_zone(), nanos in any::<i64>(), year in any::<i16>(), month in any::<i8>(),
    ) {
        let mut calendar = Calendar::new(first);
        calendar.change(zone, Month { year, month });
        for nanos in [nanos, i64::MIN, i64::MAX] {
            let at = Timestamp::from_nanos(nanos);
            calendar.start_of_day(calendar.day(at).next());
            calendar.span(at);
            calendar.pending(at);
        }
    }

    #[test]
    fn a_calendar_reads_back((calendar, _) in calendar_and_instant()) {
        let config = bincode::config::standard();
        let bytes = bincode::serde::encode_to_vec(&calendar, config).unwrap();
        let (read, _): (Calendar, _) = bincode::serde::decode_from_slice(&bytes, config).unwrap();
        prop_assert_eq!(&read, &calendar);
        prop_assert_eq!(bincode::serde::encode_to_vec(&read, config).unwrap(), bytes);
    }
}
