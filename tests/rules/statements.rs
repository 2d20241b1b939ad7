//! Statements, month ends and invoices (R4.10, R8.3): what stands in them, and where months end.

use tollbook_projections::movement::MovementKind;
use tollbook_projections::statement::{NoStatement, Statement};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::{Command, MoveIn, OrganizationCommand};
use tollbook_schemas::id::{
    DisplayName, InvoiceId, ModelName, MovementId, Reason, RechargeId, Reference, SourceName,
};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::role::Verification;
use tollbook_schemas::time::{Timestamp, Zone};
use tollbook_schemas::usage::{Charged, Occurred, Tokens, Usage, UsagePlace};
use tollbook_tests::memory::{MemoryLedger, Outcome};
use tollbook_tests::months::{close, month, seal, sealable, statement};
use tollbook_tests::script::{check, key, member, org, recharge, sealed};

/// An organization `acme` in a zone, with a model at a dollar per million of input.
fn shop(at: &str, zone: &str) -> MemoryLedger {
    check(&format!(
        "
        at {at}
        organization acme zone={zone}
        project acme web
        key acme web k1
        price m input=1 from=2020-01-01T00:00:00Z
        "
    ))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn amount(text: &str) -> Amount {
    text.parse().unwrap()
}

/// So many dollars of usage that occurred at a time.
fn used(ledger: &mut MemoryLedger, id: &str, dollars: u64, occurred: &str) -> UsagePlace {
    let usage = record(id, dollars, occurred);
    let effects = ledger.usage(&[usage]);
    let quarantined = effects.iter().any(|effect| format!("{effect:?}").starts_with("Quarantined"));
    assert!(!quarantined, "{effects:?}");
    UsagePlace { position: ledger.state.head().position, row: 0 }
}

fn record(id: &str, dollars: u64, occurred: &str) -> Usage {
    Usage {
        organization: org("acme"),
        charged: Charged::Key(key("k1")),
        model: ModelName::parse("m").unwrap(),
        source: SourceName::parse("test").unwrap(),
        id: id.to_owned(),
        occurred: Occurred::Given(at(occurred)),
        producerseq: None,
        tokens: Tokens { input: dollars * 1_000_000, cached_input: 0, output: 0 },
        extras: None,
    }
}

fn of(ledger: &MemoryLedger, name: &str) -> Statement {
    statement(ledger, &org("acme"), month(name))
}

/// Its usage as `month requests cost`.
fn usage(statement: &Statement) -> Vec<String> {
    let lines = statement.usage.iter();
    lines.map(|(line, cell)| format!("{} {} {}", line.month, cell.requests, cell.cost)).collect()
}

fn acme(ledger: &mut MemoryLedger, command: OrganizationCommand) -> Result<Outcome, Rejection> {
    ledger.command(&Command::Organization(org("acme"), command), None)
}

/// One record a nanosecond before a month ends and one as it ends: the first stands in that month, the second in the
/// next, whoever is looked at first.
#[track_caller]
fn check_end(zone: &str, name: &str, end: &str) {
    let end = at(end);
    let next = month(name).next().to_string();
    let mut ledger = shop(&end.plus_seconds(-20 * 86_400).to_string(), zone);
    for (number, (instant, cost)) in [(end.plus_nanos(-1), 1), (end, 2)].into_iter().enumerate() {
        ledger.now = instant;
        used(&mut ledger, &format!("r{number}"), cost, &instant.to_string());
        // Not before it has ended, and then at once, whether anybody used anything or not.
        assert_eq!(close(&mut ledger), number, "{zone} {name} at {instant}");
    }
    assert_eq!(usage(&of(&ledger, name)), [format!("{name} 1 1")], "{zone}");
    assert_eq!(usage(&of(&ledger, &next)), [format!("{next} 1 2")], "{zone}");
    let known = ledger.state.organization(&org("acme")).unwrap();
    assert_eq!(known.calendar.start_of_month(month(&next)), end, "{zone}");
    assert_eq!(seal(&mut ledger, usize::MAX), 1);
    assert_eq!(sealable(&ledger), []);
}

#[test]
fn r8_3_months_end_where_their_zone_says_whatever_clocks_do() {
    check_end("Europe/Berlin", "2026-03", "2026-03-31T22:00:00Z");
    check_end("Europe/Berlin", "2026-10", "2026-10-31T23:00:00Z");
    // Clocks change at midnight, twice a year.
    check_end("America/Santiago", "2026-03", "2026-04-01T03:00:00Z");
    check_end("America/Santiago", "2026-04", "2026-05-01T04:00:00Z");
    check_end("America/Santiago", "2026-09", "2026-10-01T03:00:00Z");
    check_end("Asia/Beirut", "2026-03", "2026-03-31T21:00:00Z");
    check_end("Asia/Beirut", "2026-10", "2026-10-31T22:00:00Z");
    check_end("Pacific/Auckland", "2026-03", "2026-03-31T11:00:00Z");
    check_end("Pacific/Auckland", "2026-04", "2026-04-30T12:00:00Z");
    check_end("Pacific/Auckland", "2026-09", "2026-09-30T11:00:00Z");
    check_end("Asia/Kolkata", "2026-02", "2026-02-28T18:30:00Z");
    check_end("America/Los_Angeles", "2026-10", "2026-11-01T07:00:00Z");
    check_end("Asia/Kathmandu", "2027-12", "2027-12-31T18:15:00Z");
    check_end("UTC", "2028-02", "2028-03-01T00:00:00Z");
}

/// The west joins the east: the month that begins under the new zone is longer or shorter, but nothing is in none or two.
#[test]
fn r1_4_r8_3_a_zone_changes_with_the_month() {
    for (from, to, end_of_november, end_of_december) in [
        ("Europe/Berlin", "America/Los_Angeles", "2026-11-30T23:00:00Z", "2027-01-01T08:00:00Z"),
        ("Pacific/Pago_Pago", "Pacific/Kiritimati", "2026-12-01T11:00:00Z", "2026-12-31T10:00:00Z"),
        ("Pacific/Kiritimati", "Pacific/Pago_Pago", "2026-11-30T10:00:00Z", "2027-01-01T11:00:00Z"),
    ] {
        let mut ledger = shop("2026-11-20T10:00:00Z", from);
        let zone: Zone = to.parse().unwrap();
        acme(&mut ledger, OrganizationCommand::Change { name: None, email: None, zone: Some(zone) }).unwrap();
        let mut cost = 1;
        for end in [end_of_november, end_of_december] {
            for instant in [at(end).plus_nanos(-1), at(end)] {
                ledger.now = instant;
                used(&mut ledger, &format!("r{cost}"), cost, &instant.to_string());
                close(&mut ledger);
                cost *= 2;
            }
        }
        assert_eq!(usage(&of(&ledger, "2026-11")), ["2026-11 1 1"], "{from} {to}");
        assert_eq!(usage(&of(&ledger, "2026-12")), ["2026-12 2 6"], "{from} {to}");
        assert_eq!(usage(&of(&ledger, "2027-01")), ["2027-01 1 8"], "{from} {to}");
        assert_eq!(seal(&mut ledger, usize::MAX), 2, "{from} {to}");
    }
}

#[test]
fn r8_3_late_usage_lands_in_the_open_month_and_names_its_own() {
    let mut ledger = shop("2026-10-20T10:00:00Z", "Europe/Berlin");
    used(&mut ledger, "r1", 1, "2026-10-20T10:00:00Z");
    ledger.now = at("2026-10-31T23:00:00Z");
    assert_eq!(close(&mut ledger), 1);
    let closed = of(&ledger, "2026-10").csv();
    assert_eq!(seal(&mut ledger, usize::MAX), 1);
    // A node whose clock is behind writes as if October were not over.
    ledger.now = at("2026-10-31T22:59:00Z");
    used(&mut ledger, "r2", 2, "2026-10-31T22:58:00Z");
    ledger.now = at("2026-11-03T10:00:00Z");
    used(&mut ledger, "r3", 4, "2026-10-31T22:59:59Z");
    used(&mut ledger, "r4", 8, "2026-11-03T10:00:00Z");
    assert_eq!(of(&ledger, "2026-10").csv(), closed);
    let november = of(&ledger, "2026-11");
    assert_eq!(usage(&november), ["2026-10 2 6", "2026-11 1 8"]);
    assert_eq!((november.opening.cash, november.closing.cash), (amount("-1"), amount("-15")));
    let late = String::from_utf8(november.csv()).unwrap();
    assert!(late.contains(",usage,,,,,,,,,,,,,,2026-10,proj_web,m,2,6000000,0,0,,6\r\n"), "{late}");
}

#[test]
fn r8_3_one_entry_closes_every_month_that_nobody_looked_at() {
    let mut ledger = shop("2026-01-20T10:00:00Z", "Pacific/Auckland");
    check_idle(&mut ledger);
    let entries = ledger.log.len();
    ledger.now = at("2026-05-02T00:00:00Z");
    // January to April, in one zone.
    assert_eq!((close(&mut ledger), ledger.log.len()), (4, entries + 1));
    // Only the month in which something was booked has anything to seal; the others stay as the one before.
    assert_eq!(sealable(&ledger), [(org("acme"), vec![month("2026-01")])]);
    assert_eq!(seal(&mut ledger, usize::MAX), 1);
    for quiet in ["2026-02", "2026-03", "2026-04", "2026-05"] {
        let statement = of(&ledger, quiet);
        assert_eq!(
            (statement.opening, statement.closing),
            (of(&ledger, "2026-01").closing, statement.opening)
        );
        assert!(statement.movements.is_empty() && statement.usage.is_empty(), "{quiet}");
    }
    assert_eq!((close(&mut ledger), seal(&mut ledger, usize::MAX)), (0, 0), "once");
}

fn check_idle(ledger: &mut MemoryLedger) {
    ledger.command(&recharge(org("acme"), amount("4"), "a", 1), None).unwrap();
    used(ledger, "r1", 1, "2026-01-20T10:00:00Z");
}

#[test]
fn r8_3_there_are_statements_from_registration_to_now() {
    let ledger = shop("2026-10-31T23:30:00Z", "Europe/Berlin");
    let known = ledger.state.organization(&org("acme")).unwrap();
    let kept =
        |name: &str| tollbook_projections::statement::Kept::of(&ledger.state, known, month(name), ledger.now);
    assert_eq!(kept("2026-10").unwrap_err(), NoStatement::Before { first: month("2026-11") });
    assert!(!kept("2026-11").unwrap().closed);
    assert_eq!(kept("2026-12").unwrap_err(), NoStatement::Future);
}

#[test]
fn r8_3_a_statement_shows_every_movement_and_what_usage_took() {
    let mut ledger = shop("2026-11-20T10:00:00Z", "UTC");
    // Five dollars earn the policy's voucher in the same entry.
    ledger.command(&recharge(org("acme"), amount("5"), "=cmd|' /C calc'!A0", 1), None).unwrap();
    let place = used(&mut ledger, "r1", 6, "2026-11-20T10:00:00Z");
    let usage_of_r1 = record("r1", 6, "2026-11-20T10:00:00Z");
    let known = ledger.state.organization(&org("acme")).unwrap();
    let booked = ledger.state.as_booked(known, &usage_of_r1, place).unwrap();
    let reason = Reason::parse("called twice").unwrap();
    let reversal = MovementId::from_bits(9);
    acme(
        &mut ledger,
        OrganizationCommand::ReverseUsage { reversal, usage: place, booked: Box::new(booked), reason },
    )
    .unwrap();
    used(&mut ledger, "r2", 3, "2026-11-20T10:00:00Z");
    let november = of(&ledger, "2026-11");
    let lines: Vec<_> = november
        .movements
        .iter()
        .map(|line| {
            let (change, after) = (line.change, line.after);
            let memo = line.memo().map(|memo| memo.to_string()).unwrap_or_default();
            format!(
                "{} {}/{} {}/{} {memo}",
                line.kind().code(),
                change.cash,
                change.vouchers,
                after.cash,
                after.vouchers
            )
        })
        .collect();
    // Of six dollars five were the voucher's and one was cash; they come back, and three are taken again.
    assert_eq!(
        lines,
        ["recharge 5/0 5/0 ", "voucher_grant 0/5 5/5 ", "usage_reversal 0/0 5/5 6"],
        "the reversal itself changes nothing: what it gave back is in what usage took"
    );
    assert_eq!(usage(&november), ["2026-11 1 3"]);
    assert_eq!((november.took.cash, november.took.vouchers), (Amount::ZERO, amount("3")));
    assert_eq!((november.closing.cash, november.closing.vouchers), (amount("5"), amount("2")));
    let csv = String::from_utf8(november.csv()).unwrap();
    assert!(csv.contains(",=cmd|' /C calc'!A0,"), "text stays as it was given: {csv}");
}

#[test]
fn r10_1_references_that_were_moved_in_are_no_movements() {
    let mut ledger = check("at 2026-11-20T10:00:00Z");
    let new = MoveIn {
        name: DisplayName::parse("Acme").unwrap(),
        email: sealed(),
        creator: member("ann"),
        creator_name: sealed(),
        creator_email: sealed(),
        zone: Zone::utc(),
        verification: Verification::Verified,
        cash: amount("7"),
        cumulative_recharge: amount("20"),
        voucher_granted: true,
        references: ["a", "b"].map(|text| Reference::parse(text).unwrap()).into(),
        vouchers: vec![],
        members: vec![],
        projects: vec![],
        project_roles: vec![],
        keys: vec![],
    };
    acme(&mut ledger, OrganizationCommand::MoveIn(Box::new(new))).unwrap();
    let statement = of(&ledger, "2026-11");
    let lines: Vec<_> =
        statement.movements.iter().map(|line| (line.kind(), line.change.cash, line.memo())).collect();
    assert_eq!(lines, [(MovementKind::OpeningBalance, amount("7"), Some(amount("20")))]);
    assert_eq!((statement.opening.cash, statement.closing.cash), (Amount::ZERO, amount("7")));
}

#[test]
fn r4_10_invoices_and_credit_notes_stand_in_the_month_in_which_they_were_issued() {
    let mut ledger = shop("2026-10-20T10:00:00Z", "UTC");
    ledger.command(&recharge(org("acme"), amount("4"), "a", 1), None).unwrap();
    let invoice = |bits| OrganizationCommand::IssueInvoice {
        invoice: InvoiceId::from_bits(bits),
        month: month("2026-10"),
    };
    assert_eq!(acme(&mut ledger, invoice(1)).unwrap_err(), Rejection::MonthOpen);
    ledger.now = at("2026-11-01T00:00:00Z");
    close(&mut ledger);
    seal(&mut ledger, usize::MAX);
    let october = of(&ledger, "2026-10").csv();
    acme(&mut ledger, invoice(1)).unwrap();
    let reversal = OrganizationCommand::ReverseRecharge {
        reversal: MovementId::from_bits(7),
        recharge: RechargeId::from_bits(1),
        amount: Some(amount("1.5")),
        reference: Reference::parse("chargeback").unwrap(),
        reason: Reason::parse("stolen card").unwrap(),
        note: InvoiceId::from_bits(2),
    };
    acme(&mut ledger, reversal).unwrap();
    assert_eq!(of(&ledger, "2026-10").csv(), october);
    let november = of(&ledger, "2026-11");
    let lines: Vec<_> = november
        .movements
        .iter()
        .map(|line| (line.kind().code(), line.document(), line.memo(), line.change.cash, line.after.cash))
        .collect();
    assert_eq!(
        lines,
        [
            ("invoice", Some(1), Some(amount("4")), Amount::ZERO, amount("4")),
            ("recharge_reversal", None, None, amount("-1.5"), amount("2.5")),
            ("credit_note", Some(2), Some(amount("1.5")), Amount::ZERO, amount("2.5")),
        ]
    );
}
