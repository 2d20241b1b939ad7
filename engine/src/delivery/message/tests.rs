use serde_json::{Value, json};
use tollbook_schemas::alert::{Alert, AlertData, AlertKind, BudgetTold};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::event::{Period, Revocation};
use tollbook_schemas::id::{
    DisplayName, KeyId, LedgerId, OrgId, ProjectId, Reason, VoucherId, WebhookId,
};
use tollbook_schemas::policy::RateScale;
use tollbook_schemas::position::{LogPosition, PartitionId, Position};
use tollbook_schemas::usage::{QuarantineReason, UsagePlace};

use super::{About, compose};
use crate::alerts::shape;
use crate::delivery::told::Told;

fn amount(text: &str) -> Amount {
    text.parse().unwrap()
}

fn about(name: &str) -> About {
    About {
        organization: Some((OrgId::from_bits(2), name.to_owned())),
        currency: "USD".to_owned(),
        zone: "Europe/Berlin".parse().unwrap(),
        console_url: Some("https://console.example.com".to_owned()),
    }
}

fn told(kind: AlertKind, data: Value) -> Told {
    let position = LogPosition { partition: PartitionId(0), position: Position(17) };
    let organization = Some(OrgId::from_bits(2));
    let id = Alert::id_of(&LedgerId::from_bits(1), position, organization.as_ref(), kind, 0);
    let raised_at = "2026-11-21T09:03:00Z".parse().unwrap();
    Told { id, organization, kind, position, number: 0, raised_at, data }
}

fn of(data: AlertData) -> Told {
    let blank = told(data.kind(), Value::Null);
    let Told { id, organization, position, number, raised_at, .. } = blank.clone();
    let alert = Alert { id, organization, position, number, raised_at, data };
    Told { data: shape::data(&alert), ..blank }
}

fn budget() -> BudgetTold {
    BudgetTold {
        project: ProjectId::from_bits(3),
        name: DisplayName::parse("Chat").unwrap(),
        period: Period::Daily,
        starts: "2026-11-21".parse().unwrap(),
        limit: amount("50"),
        settled: amount("50.12"),
        resets_at: "2026-11-21T23:00:00Z".parse().unwrap(),
    }
}

/// One of each kind.
fn samples() -> Vec<AlertData> {
    let at = |text: &str| text.parse().unwrap();
    let keys = (0..2).map(|n| {
        let name = DisplayName::parse(&format!("laptop {n}")).unwrap();
        (KeyId::from_bits(n), ProjectId::from_bits(3), name, Revocation::MemberRemoved)
    });
    let samples = vec![
        AlertData::BalanceLow { threshold: amount("5"), available: amount("4.2") },
        AlertData::BudgetWarning(BudgetTold { settled: amount("40.5"), ..budget() }),
        AlertData::BudgetReached(budget()),
        AlertData::SpendNotification {
            project: ProjectId::from_bits(3),
            name: DisplayName::parse("Chat").unwrap(),
            period: Period::Monthly,
            starts: "2026-11-01".parse().unwrap(),
            amount: amount("1000"),
            settled: amount("1003.7"),
        },
        AlertData::TierChanged {
            from: None,
            to: Some(DisplayName::parse("Tier 1").unwrap()),
            cumulative_recharge: amount("100"),
        },
        AlertData::VoucherGranted {
            voucher: VoucherId::from_bits(4),
            amount: amount("5"),
            expires_at: Some(at("2026-12-31T23:00:00Z")),
        },
        AlertData::VoucherExpiring {
            voucher: VoucherId::from_bits(4),
            left: amount("3"),
            expires_at: at("2026-11-28T09:00:00Z"),
        },
        AlertData::VoucherExpired { voucher: VoucherId::from_bits(4), lost: amount("3") },
        AlertData::KeyInvalidated { keys: keys.collect() },
        AlertData::RateLimitsScaled(Some(RateScale {
            factor_thousandths: 500,
            until: at("2026-11-21T12:00:00Z"),
            reason: Reason::parse("a data centre is away").unwrap(),
            tiers: Vec::new(),
        })),
        AlertData::UsageQuarantined {
            place: UsagePlace { position: Position(17), row: 0 },
            reason: QuarantineReason::UnknownKey,
        },
        AlertData::WebhookDisabled {
            webhook: WebhookId::from_bits(5),
            reason: Reason::parse("failed for too long").unwrap(),
        },
    ];
    assert_eq!(samples.iter().map(AlertData::kind).collect::<Vec<_>>(), AlertKind::ALL);
    samples
}

#[test]
fn r7_1_a_low_balance_says_how_much_when_and_what_to_do() {
    let told = of(AlertData::BalanceLow { threshold: amount("5"), available: amount("4.2") });
    let message = compose(&told, &about("Acme"));
    assert_eq!(message.subject, "Balance below $5.00: Acme");
    assert_eq!(
        message.text,
        format!(
            "The balance of Acme is below $5.00

The available balance dropped to $4.20. Once it is used up, requests are
refused.

  Available balance: $4.20
  Threshold:         $5.00
  When:              21 November 2026, 10:03 (Europe/Berlin, UTC+01:00)

Recharge to keep requests going.

https://console.example.com

--
You get this message once each time the balance drops below the threshold,
and again only after it has been back at or above it. Administrators of the
organization can set another threshold, or remove it, in the settings of the
balance alert.

Organization: Acme ({})
Alert: {}
",
            OrgId::from_bits(2),
            told.id,
        )
    );
}

#[test]
fn r7_2_every_kind_has_a_letter_with_figures() {
    for data in samples() {
        let told = of(data);
        let message = compose(&told, &about("Acme"));
        for part in [&message.subject, &message.text, &message.html] {
            assert!(!part.contains(super::letters::UNKNOWN), "{part}");
        }
        assert!(message.text.lines().all(|line| line.chars().count() <= 100), "{}", message.text);
        assert!(!message.html.contains("<img"), "nothing is loaded from anywhere");
    }
}

#[test]
fn r7_2_figures_have_the_ledgers_currency() {
    let told = of(AlertData::BudgetReached(budget()));
    let euro = About { currency: "EUR".to_owned(), ..about("Acme") };
    let message = compose(&told, &euro);
    assert_eq!(message.subject, "The daily budget is reached: Chat (Acme)");
    assert!(message.text.contains("Budget:        €50.00"), "{}", message.text);
    assert!(message.text.contains("Settled spend: €50.12"), "{}", message.text);
    assert!(message.text.contains("22 November 2026, 00:00 (Europe/Berlin, UTC+01:00)"), "{}", message.text);
}

#[test]
fn what_people_call_things_is_never_markup_and_never_a_header() {
    let evil = "<script>alert('1')</script> & \"Sons\"";
    let data = json!({ "threshold": "5", "available": "4" });
    let message = compose(&told(AlertKind::BalanceLow, data), &about(evil));
    assert!(!message.html.contains("<script>") && !message.html.contains("\"Sons\""), "{}", message.html);
    assert!(message.html.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &amp; &quot;Sons&quot;"));
    let data = json!({ "threshold": "5", "available": "4" });
    let message = compose(&told(AlertKind::BalanceLow, data), &about("a\r\nBcc: all@example.com"));
    assert!(!message.subject.contains(['\r', '\n']), "{}", message.subject);
}

#[test]
fn the_body_of_a_webhook_is_that_of_standard_webhooks() {
    let told = of(AlertData::BalanceLow { threshold: amount("5"), available: amount("4.2") });
    let body: Value = serde_json::from_slice(&told.body()).unwrap();
    assert_eq!(
        body,
        json!({
            "type": "balance_low",
            "timestamp": "2026-11-21T09:03:00Z",
            "id": told.id.as_str(),
            "organization": OrgId::from_bits(2).as_str(),
            "position": "0-17",
            "number": 0,
            "data": { "threshold": "5", "available": "4.2" },
        })
    );
}
