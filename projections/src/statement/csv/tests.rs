use std::collections::BTreeMap;

use sha2::Digest;

use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::{ModelName, MovementId, OrgId, ProjectId, Reason, RechargeId, Reference};
use tollbook_schemas::position::{PartitionId, Position};
use tollbook_schemas::time::Month;

use super::*;
use crate::movement::What;
use crate::statement::{About, UsedIn};

fn amount(text: &str) -> Amount {
    text.parse().unwrap()
}

fn month(text: &str) -> Month {
    text.parse().unwrap()
}

fn movement(position: u64, reference: &str, reason: Option<&str>, what: What, change: &str) -> Movement {
    Movement {
        position: Position(position),
        number: 0,
        booked_at: "2026-11-20T10:00:00.5Z".parse().unwrap(),
        month: month("2026-11"),
        reference: Some(Reference::parse(reference).unwrap()),
        reason: reason.map(|reason| Reason::parse(reason).unwrap()),
        change: Funds::cash(amount(change)),
        after: Funds { cash: amount(change), vouchers: amount("0.000000000001") },
        what,
    }
}

fn statement() -> Statement {
    let used_in = |month_of: &str, model: &str| UsedIn {
        month: month(month_of),
        project: ProjectId::from_bits(1),
        model: ModelName::parse(model).unwrap(),
    };
    let meter = |name: &str| MeterName::parse(name).unwrap();
    let meters = BTreeMap::from([(meter("b \"2\""), 2), (meter("a"), -1), (meter("zero"), 0)]);
    let cell = Cell {
        requests: 2,
        input_tokens: 1_000,
        output_tokens: 5,
        meters,
        cost: amount("0.500"),
        ..Cell::default()
    };
    let recharge = RechargeId::from_bits(1);
    let about = About {
        organization: OrgId::from_bits(1),
        month: month("2026-11"),
        partition: PartitionId(3),
        currency: "USD".into(),
    };
    let reversal = MovementId::from_bits(2);
    Statement {
        about,
        opening: Funds::default(),
        movements: vec![
            movement(7, "=1+1", None, What::Recharge { recharge: recharge.clone() }, "10.00"),
            movement(
                9,
                "pi_1, \"x\"",
                Some("−, ü"),
                What::RechargeReversal { reversal, recharge },
                "-0.000000000001",
            ),
        ],
        usage: BTreeMap::from([
            (used_in("2026-11", "m"), cell.clone()),
            (used_in("2026-10", "late"), Cell::default()),
        ]),
        used: cell,
        took: Funds { cash: amount("0.5"), vouchers: Amount::ZERO },
        closing: Funds { cash: amount("9.499999999999"), vouchers: Amount::ZERO },
    }
}

#[test]
fn r8_3_canonical_bytes_are_rfc_4180_and_stay_as_they_are() {
    let lead = "org_00000000000000000000000001,2026-11,USD";
    let wanted = [
        "organization,month,currency,line,position,time,kind,id,relates_to,number,reference,reason,memo,cash,vouchers,\
         cash_after,vouchers_after,usage_month,project,model,requests,input_tokens,cached_input_tokens,output_tokens,\
         meters,cost"
            .to_owned(),
        format!("{lead},opening,,,,,,,,,,,,0,0,,,,,,,,,"),
        format!(
            "{lead},movement,3-7,2026-11-20T10:00:00.5Z,recharge,rch_00000000000000000000000001,,,=1+1,,,\
             10,0,10,0.000000000001,,,,,,,,,"
        ),
        format!(
            "{lead},movement,3-9,2026-11-20T10:00:00.5Z,recharge_reversal,mov_00000000000000000000000002,\
             rch_00000000000000000000000001,,\"pi_1, \"\"x\"\"\",\"−, ü\",,-0.000000000001,0,\
             -0.000000000001,0.000000000001,,,,,,,,,"
        ),
        format!("{lead},usage,,,,,,,,,,,,,,2026-10,proj_00000000000000000000000001,late,0,0,0,0,,0"),
        format!(
            "{lead},usage,,,,,,,,,,,,,,2026-11,proj_00000000000000000000000001,m,2,1000,0,5,\
             \"{{\"\"a\"\":-1,\"\"b \\\"\"2\\\"\"\"\":2}}\",0.5"
        ),
        format!("{lead},used,,,,,,,,,,-0.5,0,,,,,,2,1000,0,5,\"{{\"\"a\"\":-1,\"\"b \\\"\"2\\\"\"\"\":2}}\",0.5"),
        format!("{lead},closing,,,,,,,,,,,,9.499999999999,0,,,,,,,,,"),
        String::new(),
    ];
    let bytes = statement().csv();
    assert_eq!(String::from_utf8(bytes.clone()).unwrap(), wanted.join("\r\n"));
    assert_eq!(statement().hash(), <[u8; 32]>::from(sha2::Sha256::digest(&bytes)));
}

#[test]
fn r8_3_every_line_has_every_column() {
    for line in String::from_utf8(statement().csv()).unwrap().lines() {
        let mut quoted = false;
        let commas = line.chars().filter(|c| {
            quoted ^= *c == '"';
            *c == ',' && !quoted
        });
        assert_eq!(commas.count() + 1, COLUMNS.len(), "{line}");
    }
}
