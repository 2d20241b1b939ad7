//! One value of every kind that the log can hold. Each list is the `match` of its enum too, so that a new variant does
//! not compile before it has a sample.
#![allow(dead_code, reason = "each test binary that includes this uses a part of it")]

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::batch::{BatchBuilder, UsageBatch};
use tollbook_schemas::entry::{Actor, Body, Cause, Decision, Entry, Idempotency};
use tollbook_schemas::event::{
    ConfigEvent, Enforcement, Event, KeyEvent, MemberEvent, MoneyEvent, OrganizationEvent, PartitionEvent,
    Period, ProjectEvent, QuarantineEvent, Revocation, VoucherOrigin, WebhookEvent,
};
use tollbook_schemas::id::{
    DisplayName, InvitationId, InvoiceId, KeyId, LedgerId, MemberId, MeterName, ModelName, MovementId,
    NodeName, OrgId, ProjectId, Reason, RechargeId, Reference, SourceName, TokenId, VoucherId, WebhookId,
};
use tollbook_schemas::policy::{
    Change, Defaults, LagModel, QuantityLimits, QuantityOverride, RateOverride, RateScale, Scope, TierTable,
    VoucherPolicy,
};
use tollbook_schemas::position::{EntryId, LogPosition, PartitionId, Position, WriterId};
use tollbook_schemas::price::{ModelPrice, PriceList};
use tollbook_schemas::role::{OrgRole, ProjectRole, Verification};
use tollbook_schemas::sealed::{Sealed, SecretHash};
use tollbook_schemas::time::{Month, Timestamp, Zone};
use tollbook_schemas::usage::{
    BookedUsage, Charged, Extras, Ingress, Occurred, Tokens, Unreadable, Usage, UsagePlace,
};

/// A value with the name of its bytes.
pub(crate) struct Sample<T> {
    /// The file.
    pub(crate) family: &'static str,
    /// The line.
    pub(crate) name: &'static str,
    /// What stands there.
    pub(crate) value: T,
}

/// Samples of one enum; the `match` behind them knows every variant.
macro_rules! samples {
    ($family:literal, $type:ty, $into:expr, { $($name:literal: $pattern:pat => $value:expr;)+ }) => {{
        let name = |value: &$type| match value { $($pattern => $name,)+ };
        let values: Vec<(&'static str, $type)> = vec![$(($name, $value)),+];
        values.into_iter().map(|(label, value)| {
            assert_eq!(name(&value), label, "a sample under the wrong name");
            Sample { family: $family, name: label, value: $into(value) }
        }).collect::<Vec<_>>()
    }};
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn month() -> Month {
    "2026-11".parse().unwrap()
}

fn amount(text: &str) -> Amount {
    text.parse().unwrap()
}

fn name(text: &str) -> DisplayName {
    DisplayName::parse(text).unwrap()
}

fn reason() -> Reason {
    Reason::parse("agreed by telephone").unwrap()
}

fn reference() -> Reference {
    Reference::parse("pay_1").unwrap()
}

fn sealed() -> Sealed {
    Sealed { key: 1, ciphertext: Bytes::from_static(&[1, 2, 3, 255]) }
}

fn secret() -> SecretHash {
    SecretHash([7; 32])
}

fn project() -> ProjectId {
    ProjectId::from_bits(2)
}

fn member() -> MemberId {
    MemberId::from_bits(3)
}

fn position() -> LogPosition {
    LogPosition { partition: PartitionId(1), position: Position(300) }
}

fn prices() -> PriceList {
    let meters = BTreeMap::from([(MeterName::parse("image").unwrap(), "40".parse().unwrap())]);
    let price = ModelPrice {
        input: "0.60".parse().unwrap(),
        cached_input: "0.10".parse().unwrap(),
        output: "3.00".parse().unwrap(),
        meters,
        max_output_tokens: Some(8192),
    };
    let models = BTreeMap::from([(ModelName::parse("kimi-k2.5").unwrap(), price)]);
    PriceList { effective_from: at("2026-01-01T00:00:00Z"), models }
}

/// Usage with everything that a record can carry.
pub(crate) fn usage() -> Usage {
    Usage {
        organization: OrgId::from_bits(1),
        charged: Charged::Key(KeyId::from_bits(4)),
        model: ModelName::parse("kimi-k2.5").unwrap(),
        source: SourceName::parse("gateway-eu-1").unwrap(),
        id: "req-7f3".into(),
        occurred: Occurred::Given(at("2026-11-20T10:00:00.000000001Z")),
        producerseq: Some(4711),
        tokens: Tokens { input: 1200, cached_input: 800, output: 310 },
        extras: Some(Box::new(Extras {
            lease: Some("lease_9".into()),
            request_id: Some("r-1".into()),
            cost: Some(amount("0.000000000001")),
            meters: BTreeMap::from([(MeterName::parse("image").unwrap(), 2)]),
            kept: Some(r#"{"attributes":{"traceparent":"00-1"}}"#.into()),
        })),
    }
}

/// Usage with as little as a record can carry.
pub(crate) fn bare_usage() -> Usage {
    Usage {
        charged: Charged::Project(project()),
        occurred: Occurred::Assumed(at("2026-11-20T09:59:59Z")),
        producerseq: None,
        extras: None,
        ..usage()
    }
}

/// Two records, packed.
pub(crate) fn batch() -> UsageBatch {
    let mut builder = BatchBuilder::new(at("2026-11-20T10:00:00Z"));
    builder.push(&usage());
    builder.push(&bare_usage());
    builder.finish()
}

fn entry(body: Body) -> Entry {
    let id = EntryId {
        ledger: LedgerId::from_bits(5),
        partition: PartitionId(1),
        writer: WriterId(0x0123_4567_89ab_cdef),
        count: 70_000,
    };
    Entry { id, recorded_at: at("2026-11-20T10:00:00Z"), body }
}

fn decided(actor: Actor, cause: Cause, events: Vec<Event>) -> Entry {
    entry(Body::Decision(Decision { term: 2, actor, cause, events }))
}

fn happened(event: Event) -> Entry {
    decided(Actor::Engine, Cause::Timer, vec![event])
}

/// Every kind of body, actor, cause and event, each as a whole entry.
pub(crate) fn entries() -> Vec<Sample<Entry>> {
    let mut samples = samples!("body", Body, entry, {
        "usage": Body::Usage(_) => Body::Usage(batch());
        "decision": Body::Decision(_) => Body::Decision(Decision {
            term: u64::MAX, actor: Actor::Engine, cause: Cause::Timer, events: Vec::new(),
        });
        "unreadable": Body::Unreadable(_) => Body::Unreadable(vec![Unreadable {
            organization: Some(OrgId::from_bits(1)),
            reason: "not JSON".into(),
            ingress: Ingress::Spool { sequence: 9, subject: "tollbook.spool.org_1".into() },
            bytes: Bytes::from_static(b"{"),
        }]);
    });
    let token = || Some(TokenId::from_bits(6));
    samples.extend(samples!("actor", Actor, |actor| decided(actor, Cause::Timer, Vec::new()), {
        "engine": Actor::Engine => Actor::Engine;
        "operator": Actor::Operator { .. } => Actor::Operator { token: None };
        "member": Actor::Member { .. } => Actor::Member { token: token(), member: member() };
        "invitee": Actor::Invitee { .. } => Actor::Invitee { token: token() };
    }));
    samples.extend(samples!("cause", Cause, |cause| decided(Actor::Engine, cause, Vec::new()), {
        "command": Cause::Command { .. } => Cause::Command {
            idempotency: Some(Idempotency { key: [1; 16], content: [2; 16] }),
        };
        "timer": Cause::Timer => Cause::Timer;
        "takeover": Cause::Takeover => Cause::Takeover;
        "copy": Cause::Copy { .. } => Cause::Copy { of: position() };
    }));
    // One line for each family, so that a new family does not compile before it has samples.
    let families: [fn() -> Vec<Sample<Event>>; 9] = [
        organization_events,
        member_events,
        project_events,
        key_events,
        money_events,
        quarantine_events,
        webhook_events,
        config_events,
        partition_events,
    ];
    for events in families {
        let events: Vec<Sample<Event>> = events();
        for Sample { family, name, value } in events {
            let named = match &value {
                Event::Organization(_) => "organization",
                Event::Member(_) => "member",
                Event::Project(_) => "project",
                Event::Key(_) => "key",
                Event::Money(_) => "money",
                Event::Quarantine(_) => "quarantine",
                Event::Webhook(_) => "webhook",
                Event::Config(_) => "config",
                Event::Partition(_) => "partition",
            };
            assert_eq!(family, named);
            samples.push(Sample { family, name, value: happened(value) });
        }
    }
    samples
}

fn organization_events() -> Vec<Sample<Event>> {
    use OrganizationEvent as E;
    samples!("organization", E, Event::Organization, {
        "registered": E::Registered { .. } => E::Registered {
            name: name("Acme"), email: sealed(), creator: member(), creator_name: sealed(),
            creator_email: sealed(), zone: "Europe/Berlin".parse().unwrap(),
        };
        "renamed": E::Renamed { .. } => E::Renamed { name: name("Ünited") };
        "email_changed": E::EmailChanged { .. } => E::EmailChanged { email: sealed() };
        "zone_changed": E::ZoneChanged { .. } => E::ZoneChanged { zone: Zone::utc(), from: month() };
        "verification_changed": E::VerificationChanged { .. } =>
            E::VerificationChanged { level: Verification::Verified };
        "quantity_overridden": E::QuantityOverridden(_) => E::QuantityOverridden(QuantityOverride {
            projects: Change::Keep,
            api_keys: Change::Set(70),
        });
        "rate_overridden": E::RateOverridden(_) => E::RateOverridden(RateOverride {
            concurrency: Change::Keep,
            rpm: Change::Set(600),
            tpm: Change::Remove,
            tpd: Change::Set(u64::MAX),
        });
        "allowlist_saved": E::AllowlistSaved { .. } => E::AllowlistSaved {
            entries: vec!["10.0.0.0/8".parse().unwrap(), "192.0.2.7/32".parse().unwrap()],
        };
        "balance_alert_set": E::BalanceAlertSet { .. } => E::BalanceAlertSet { threshold: Some(amount("5")) };
        "credit_limit_set": E::CreditLimitSet { .. } => E::CreditLimitSet { limit: None };
        "prices_published": E::PricesPublished(_) => E::PricesPublished(prices());
        "contacts_erased": E::ContactsErased => E::ContactsErased;
        "moved_in": E::MovedIn { .. } => E::MovedIn {
            cash: amount("-3.5"), cumulative_recharge: amount("120"), voucher_granted: true,
            references: vec![reference()],
        };
    })
}

fn member_events() -> Vec<Sample<Event>> {
    use MemberEvent as E;
    let invitation = || InvitationId::from_bits(7);
    samples!("member", E, Event::Member, {
        "invited": E::Invited { .. } => E::Invited {
            invitation: invitation(), email: Some(sealed()), role: OrgRole::Member,
            projects: vec![(project(), ProjectRole::Administrator)], token: secret(),
            expires_at: at("2026-11-27T10:00:00Z"),
        };
        "invitation_revoked": E::InvitationRevoked { .. } => E::InvitationRevoked { invitation: invitation() };
        "joined": E::Joined { .. } => E::Joined {
            member: member(), invitation: Some(invitation()), name: sealed(), email: sealed(),
            role: OrgRole::Administrator,
        };
        "role_changed": E::RoleChanged { .. } => E::RoleChanged { member: member(), role: OrgRole::Member };
        "removed": E::Removed { .. } => E::Removed { member: member() };
        "project_role_set": E::ProjectRoleSet { .. } =>
            E::ProjectRoleSet { project: project(), member: member(), role: ProjectRole::Member };
        "project_left": E::ProjectLeft { .. } => E::ProjectLeft { project: project(), member: member() };
    })
}

fn project_events() -> Vec<Sample<Event>> {
    use ProjectEvent as E;
    samples!("project", E, Event::Project, {
        "created": E::Created { .. } => E::Created { project: project(), name: name("Chat") };
        "renamed": E::Renamed { .. } => E::Renamed { project: project(), name: name("Talk") };
        "archived": E::Archived { .. } => E::Archived { project: project() };
        "tpm_limit_set": E::TpmLimitSet { .. } => E::TpmLimitSet { project: project(), limit: Some(500_000) };
        "budgets_set": E::BudgetsSet { .. } => E::BudgetsSet {
            project: project(), daily: Some(amount("12.50")), monthly: None, enforcement: Enforcement::Strict,
        };
        "spend_notifications_set": E::SpendNotificationsSet { .. } => E::SpendNotificationsSet {
            project: project(), daily: vec![amount("1"), amount("2")], monthly: vec![],
        };
        "budget_refused": E::BudgetRefused { .. } => E::BudgetRefused {
            project: project(), period: Period::Daily, visible_from: position(),
            refused_at: at("2026-11-20T10:00:00Z"),
        };
    })
}

fn key_events() -> Vec<Sample<Event>> {
    use KeyEvent as E;
    samples!("key", E, Event::Key, {
        "issued": E::Issued { .. } => E::Issued {
            key: KeyId::from_bits(4), project: project(), member: member(), name: name("ci"), secret: secret(),
            hint: "x9Zq".into(),
        };
        "revoked": E::Revoked { .. } => E::Revoked { key: KeyId::from_bits(4), why: Revocation::Requested };
    })
}

fn money_events() -> Vec<Sample<Event>> {
    use MoneyEvent as E;
    let (recharge, voucher) = (|| RechargeId::from_bits(8), || VoucherId::from_bits(9));
    let (movement, invoice) = (|| MovementId::from_bits(10), || InvoiceId::from_bits(11));
    samples!("money", E, Event::Money, {
        "recharged": E::Recharged { .. } =>
            E::Recharged { recharge: recharge(), amount: amount("20"), reference: reference() };
        "recharge_reversed": E::RechargeReversed { .. } => E::RechargeReversed {
            reversal: movement(), recharge: recharge(), amount: amount("20"), reference: reference(),
            reason: reason(),
        };
        "refunded": E::Refunded { .. } => E::Refunded {
            refund: movement(), requested: amount("7.25"), reference: reference(), recharge: Some(recharge()),
        };
        "adjusted": E::Adjusted { .. } => E::Adjusted {
            adjustment: movement(), amount: amount("-0.01"), reference: reference(), reason: reason(),
            corrects: Some(position()),
        };
        "voucher_granted": E::VoucherGranted { .. } => E::VoucherGranted {
            voucher: voucher(), amount: amount("5"), expires_at: Some(at("2027-02-20T00:00:00Z")),
            origin: VoucherOrigin::Policy,
        };
        "voucher_expired": E::VoucherExpired { .. } => E::VoucherExpired { voucher: voucher() };
        "voucher_withdrawn": E::VoucherWithdrawn { .. } =>
            E::VoucherWithdrawn { voucher: voucher(), below: amount("5") };
        "usage_reversed": E::UsageReversed { .. } => E::UsageReversed {
            reversal: movement(), usage: UsagePlace { position: Position(17), row: 3 },
            booked: Box::new(BookedUsage {
                day: "2026-11-20".parse().unwrap(), project: ProjectId::from_bits(3), key: Some(KeyId::from_bits(4)),
                model: ModelName::parse("kimi-k2.5").unwrap(),
                tokens: Tokens { input: 1200, cached_input: 800, output: 310 }, meters: BTreeMap::new(), cost: amount("0.00125"),
            }),
            reason: reason(),
        };
        "statement_sealed": E::StatementSealed { .. } => E::StatementSealed { month: month(), hash: [9; 32] };
        "invoice_issued": E::InvoiceIssued { .. } => E::InvoiceIssued {
            invoice: invoice(), number: 1, month: month(), recharges: vec![(recharge(), amount("20"))],
        };
        "credit_note_issued": E::CreditNoteIssued { .. } => E::CreditNoteIssued {
            note: InvoiceId::from_bits(12), number: 2, invoice: invoice(), movement: movement(),
        };
        "voucher_expiring": E::VoucherExpiring { .. } => E::VoucherExpiring { voucher: voucher() };
    })
}

fn quarantine_events() -> Vec<Sample<Event>> {
    use QuarantineEvent as E;
    let place = UsagePlace { position: Position(17), row: 3 };
    samples!("quarantine", E, Event::Quarantine, {
        "released": E::Released { .. } => E::Released { place, usage: Box::new(usage()), uncounted: false };
        "dismissed": E::Dismissed { .. } => E::Dismissed { place, reason: reason() };
    })
}

fn webhook_events() -> Vec<Sample<Event>> {
    use WebhookEvent as E;
    let webhook = || WebhookId::from_bits(13);
    samples!("webhook", E, Event::Webhook, {
        "created": E::Created { .. } => E::Created { webhook: webhook(), url: sealed(), secret: sealed() };
        "secret_rotated": E::SecretRotated { .. } => E::SecretRotated {
            webhook: webhook(), secret: sealed(), old_until: at("2026-11-21T10:00:00Z"),
        };
        "disabled": E::Disabled { .. } => E::Disabled { webhook: webhook(), reason: reason() };
        "removed": E::Removed { .. } => E::Removed { webhook: webhook() };
        "enabled": E::Enabled { .. } => E::Enabled { webhook: webhook() };
    })
}

fn config_events() -> Vec<Sample<Event>> {
    use ConfigEvent as E;
    let until = || at("2026-11-20T12:00:00Z");
    samples!("config", E, Event::Config, {
        "ledger_created": E::LedgerCreated { .. } =>
            E::LedgerCreated { ledger: LedgerId::from_bits(5), currency: "USD".into(), partitions: 4 };
        "prices_published": E::PricesPublished(_) => E::PricesPublished(prices());
        "tiers_published": E::TiersPublished(_) => E::TiersPublished(TierTable::default());
        "lag_model_set": E::LagModelSet(_) => E::LagModelSet(LagModel { cycle_seconds: 60, delay_seconds: 5 });
        "voucher_policy_set": E::VoucherPolicySet(_) => E::VoucherPolicySet(VoucherPolicy {
            threshold: amount("5"), amount: amount("5"), expires_after_days: Some(90),
        });
        "quantity_limits_set": E::QuantityLimitsSet(_) => E::QuantityLimitsSet(QuantityLimits::default());
        "defaults_set": E::DefaultsSet(_) => E::DefaultsSet(Defaults {
            balance_alert_threshold: None, max_output_tokens: 4096,
        });
        "rate_scale_set": E::RateScaleSet(_) => E::RateScaleSet(Some(RateScale {
            factor_thousandths: 500, until: until(), reason: reason(), tiers: vec![name("Tier1")],
        }));
        "token_issued": E::TokenIssued { .. } => E::TokenIssued {
            token: TokenId::from_bits(6), name: name("gateway"), scopes: vec![Scope::Gateway, Scope::Publisher],
            organizations: Some(vec![OrgId::from_bits(1)]), secret: secret(),
        };
        "token_revoked": E::TokenRevoked { .. } => E::TokenRevoked { token: TokenId::from_bits(6) };
        "subscription_created": E::SubscriptionCreated { .. } =>
            E::SubscriptionCreated { name: name("crm"), organizations: None };
        "subscription_removed": E::SubscriptionRemoved { .. } => E::SubscriptionRemoved { name: name("crm") };
    })
}

fn partition_events() -> Vec<Sample<Event>> {
    use PartitionEvent as E;
    samples!("partition", E, Event::Partition, {
        "ownership_taken": E::OwnershipTaken { .. } => E::OwnershipTaken {
            term: 3, node: NodeName::parse("node-a").unwrap(), zone_database: "2025b".into(),
        };
        "billing_cycle_closed": E::BillingCycleClosed { .. } =>
            E::BillingCycleClosed { through: at("2026-11-20T10:10:00Z"), cycles: 2 };
        "month_closed": E::MonthClosed { .. } =>
            E::MonthClosed {
                zone: "Asia/Shanghai".parse().unwrap(), month: month(), until: at("2026-11-30T16:00:00Z"),
            };
    })
}

/// What entries are made of, where one event shows only one variant.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Part {
    Change(Change<u32>),
    Charged(Charged),
    Enforcement(Enforcement),
    Ingress(Ingress),
    Occurred(Occurred),
    OrgRole(OrgRole),
    Period(Period),
    ProjectRole(ProjectRole),
    Revocation(Revocation),
    /// Rows are packed (`rows` in `body.hex`); the others keep their places.
    #[allow(dead_code, reason = "no sample is of it")]
    Row,
    Scope(Scope),
    Verification(Verification),
    VoucherOrigin(VoucherOrigin),
}

/// Every variant of what entries are made of.
pub(crate) fn parts() -> Vec<Sample<Part>> {
    let mut samples = samples!("change", Change<u32>, Part::Change, {
        "keep": Change::Keep => Change::Keep;
        "set": Change::Set(_) => Change::Set(300);
        "remove": Change::Remove => Change::Remove;
    });
    samples.extend(samples!("charged", Charged, Part::Charged, {
        "key": Charged::Key(_) => Charged::Key(KeyId::from_bits(4));
        "project": Charged::Project(_) => Charged::Project(project());
    }));
    samples.extend(samples!("enforcement", Enforcement, Part::Enforcement, {
        "settled": Enforcement::Settled => Enforcement::Settled;
        "strict": Enforcement::Strict => Enforcement::Strict;
    }));
    samples.extend(samples!("ingress", Ingress, Part::Ingress, {
        "http": Ingress::Http => Ingress::Http;
        "nats": Ingress::Nats { .. } => Ingress::Nats { subject: "tollbook.usage.org_1".into() };
        "spool": Ingress::Spool { .. } => Ingress::Spool { sequence: 9, subject: "tollbook.spool.org_1".into() };
        "import": Ingress::Import => Ingress::Import;
    }));
    samples.extend(samples!("occurred", Occurred, Part::Occurred, {
        "given": Occurred::Given(_) => Occurred::Given(Timestamp::from_nanos(-1));
        "assumed": Occurred::Assumed(_) => Occurred::Assumed(Timestamp::MAX);
    }));
    samples.extend(samples!("org_role", OrgRole, Part::OrgRole, {
        "administrator": OrgRole::Administrator => OrgRole::Administrator;
        "member": OrgRole::Member => OrgRole::Member;
    }));
    samples.extend(samples!("period", Period, Part::Period, {
        "daily": Period::Daily => Period::Daily;
        "monthly": Period::Monthly => Period::Monthly;
    }));
    samples.extend(samples!("project_role", ProjectRole, Part::ProjectRole, {
        "administrator": ProjectRole::Administrator => ProjectRole::Administrator;
        "member": ProjectRole::Member => ProjectRole::Member;
    }));
    samples.extend(samples!("revocation", Revocation, Part::Revocation, {
        "requested": Revocation::Requested => Revocation::Requested;
        "member_removed": Revocation::MemberRemoved => Revocation::MemberRemoved;
        "member_demoted": Revocation::MemberDemoted => Revocation::MemberDemoted;
        "project_archived": Revocation::ProjectArchived => Revocation::ProjectArchived;
    }));
    samples.extend(samples!("scope", Scope, Part::Scope, {
        "operator": Scope::Operator => Scope::Operator;
        "console": Scope::Console => Scope::Console;
        "publisher": Scope::Publisher => Scope::Publisher;
        "gateway": Scope::Gateway => Scope::Gateway;
        "auditor": Scope::Auditor => Scope::Auditor;
    }));
    samples.extend(samples!("verification", Verification, Part::Verification, {
        "unverified": Verification::Unverified => Verification::Unverified;
        "verified": Verification::Verified => Verification::Verified;
        "enterprise_verified": Verification::EnterpriseVerified => Verification::EnterpriseVerified;
    }));
    samples.extend(samples!("voucher_origin", VoucherOrigin, Part::VoucherOrigin, {
        "policy": VoucherOrigin::Policy => VoucherOrigin::Policy;
        "operator": VoucherOrigin::Operator { .. } =>
            VoucherOrigin::Operator { reference: reference(), reason: Some(reason()) };
        "moved_in": VoucherOrigin::MovedIn => VoucherOrigin::MovedIn;
    }));
    samples
}
