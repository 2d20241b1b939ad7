//! R3 Who may do what: the table of the rules, every action by every role at every verification level (R2.3, R3.3).

use std::collections::BTreeMap;

use tollbook_engine::permission::{Action, may};
use tollbook_projections::state::QuarantinedWhat;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::{Command, ConfigCommand, NewRateScale, OrganizationCommand};
use tollbook_schemas::entry::Actor;
use tollbook_schemas::event::Enforcement;
use tollbook_schemas::id::{
    DisplayName, InvitationId, InvoiceId, KeyId, MemberId, ModelName, MovementId, ProjectId, Reason,
    RechargeId, Reference, TokenId, VoucherId,
};
use tollbook_schemas::policy::{
    Change, Defaults, LagModel, QuantityLimit, QuantityLimits, QuantityOverride, RateOverride, Scope, Tier,
    VoucherPolicy,
};
use tollbook_schemas::position::Position;
use tollbook_schemas::price::{ModelPrice, PriceList};
use tollbook_schemas::rejection::{Rejection, RejectionKind};
use tollbook_schemas::role::{OrgRole, ProjectRole, Verification};
use tollbook_schemas::sealed::SecretHash;
use tollbook_schemas::time::{Day, Timestamp};
use tollbook_schemas::usage::{BookedUsage, Extras, UsagePlace};
use tollbook_tests::memory::{MemoryLedger, Outcome};
use tollbook_tests::months::close;
use tollbook_tests::script::people::token;
use tollbook_tests::script::{
    actor, check, create_project, issue_key, key, member, org, project, recharge, sealed,
};

/// As RULES R3 has it, with the levels of R2.3 and R3.3. `yes`: at every level; `v`, `e`: once the organization is
/// verified, enterprise verified; `-`: never. Rows with `*` are reads, or are no commands yet.
///
/// `elsewhere` administers another project, `removed` was an administrator of the organization and of the project,
/// `stranger` is the creator of another organization.
const TABLE: &str = "
action                     | creator | admin | member | project_admin | project_member | elsewhere | removed | stranger | operator | invitee
see IP allowlist *         | v e     | e     | -      | -             | -              | -         | -       | -        | v e      | -
save IP allowlist          | v e     | e     | -      | -             | -              | -         | -       | -        | v e      | -
clear IP allowlist         | v e     | e     | -      | -             | -              | -         | -       | -        | v e      | -

see the balance alert *    | yes     | yes   | -      | -             | -              | -         | -       | -        | yes      | -
balance-alert threshold    | yes     | yes   | -      | -             | -              | -         | -       | -        | yes      | -
invoices *                 | yes     | yes   | -      | -             | -              | -         | -       | -        | yes      | -
issue an invoice           | yes     | yes   | -      | -             | -              | -         | -       | -        | yes      | -
invite                     | e       | e     | -      | -             | -              | -         | -       | -        | e        | -
invite an administrator    | e       | e     | -      | -             | -              | -         | -       | -        | e        | -
revoke an invitation       | yes     | yes   | -      | -             | -              | -         | -       | -        | yes      | -
remove a member            | yes     | yes   | -      | -             | -              | -         | -       | -        | yes      | -
promote a member           | yes     | yes   | -      | -             | -              | -         | -       | -        | yes      | -
demote an administrator    | yes     | yes   | -      | -             | -              | -         | -       | -        | yes      | -
accept an invitation       | -       | -     | -      | -             | -              | -         | -       | -        | -        | yes

create a project           | yes     | yes   | -      | -             | -              | -         | -       | -        | yes      | -
archive a project          | yes     | yes   | -      | -             | -              | -         | -       | -        | yes      | -
see the organization *     | yes     | yes   | yes    | yes           | yes            | yes       | -       | -        | yes      | -
view a project *           | yes     | yes   | yes    | yes           | yes            | yes       | -       | -        | yes      | -

rename a project           | yes     | yes   | -      | yes           | -              | -         | -       | -        | yes      | -
project budgets            | yes     | yes   | -      | yes           | -              | -         | -       | -        | yes      | -
spend notifications        | yes     | yes   | -      | yes           | -              | -         | -       | -        | yes      | -
TPM limit                  | yes     | yes   | -      | yes           | -              | -         | -       | -        | yes      | -
add a project member       | yes     | yes   | -      | yes           | -              | -         | -       | -        | yes      | -
change a project role      | yes     | yes   | -      | yes           | -              | -         | -       | -        | yes      | -
remove a project member    | yes     | yes   | -      | yes           | -              | -         | -       | -        | yes      | -

create a key               | yes     | yes   | -      | yes           | yes            | -         | -       | -        | yes      | -
create a key for another   | -       | -     | -      | -             | -              | -         | -       | -        | yes      | -
revoke another's key       | yes     | yes   | -      | yes           | -              | -         | -       | -        | yes      | -
revoke own key             | yes     | yes   | -      | yes           | yes            | -         | -       | -        | yes      | -

change the name            | yes     | yes   | -      | -             | -              | -         | -       | -        | yes      | -
change the e-mail          | yes     | yes   | -      | -             | -              | -         | -       | -        | yes      | -
change the time zone       | yes     | yes   | -      | -             | -              | -         | -       | -        | yes      | -
webhooks *                 | yes     | yes   | -      | -             | -              | -         | -       | -        | yes      | -
audit log *                | yes     | yes   | -      | -             | -              | -         | -       | -        | yes      | -
statements *               | yes     | yes   | -      | -             | -              | -         | -       | -        | yes      | -
quarantine *               | yes     | yes   | -      | -             | -              | -         | -       | -        | yes      | -

spend, balance, members *  | yes     | yes   | -      | -             | -              | -         | -       | -        | yes      | -
project's spend, members * | yes     | yes   | -      | yes           | yes            | -         | -       | -        | yes      | -

recharge                   | -       | -     | -      | -             | -              | -         | -       | -        | yes      | -
set the level              | -       | -     | -      | -             | -              | -         | -       | -        | yes      | -
override limits            | -       | -     | -      | -             | -              | -         | -       | -        | yes      | -
erase personal data        | -       | -     | -      | -             | -              | -         | -       | -        | yes      | -
release usage              | -       | -     | -      | -             | -              | -         | -       | -        | yes      | -
dismiss usage              | -       | -     | -      | -             | -              | -         | -       | -        | yes      | -
reverse usage              | -       | -     | -      | -             | -              | -         | -       | -        | yes      | -
refund                     | -       | -     | -      | -             | -              | -         | -       | -        | yes      | -
take a recharge back       | -       | -     | -      | -             | -              | -         | -       | -        | yes      | -
grant a voucher            | -       | -     | -      | -             | -              | -         | -       | -        | yes      | -
adjust cash                | -       | -     | -      | -             | -              | -         | -       | -        | yes      | -
credit limit               | -       | -     | -      | -             | -              | -         | -       | -        | yes      | -
prices of its own          | -       | -     | -      | -             | -              | -         | -       | -        | yes      | -
publish prices             | -       | -     | -      | -             | -              | -         | -       | -        | yes      | -
tiers                      | -       | -     | -      | -             | -              | -         | -       | -        | yes      | -
rate scale                 | -       | -     | -      | -             | -              | -         | -       | -        | yes      | -
voucher policy             | -       | -     | -      | -             | -              | -         | -       | -        | yes      | -
defaults                   | -       | -     | -      | -             | -              | -         | -       | -        | yes      | -
billing cycle              | -       | -     | -      | -             | -              | -         | -       | -        | yes      | -
quantity limits            | -       | -     | -      | -             | -              | -         | -       | -        | yes      | -
issue a token              | -       | -     | -      | -             | -              | -         | -       | -        | yes      | -
revoke a token             | -       | -     | -      | -             | -              | -         | -       | -        | yes      | -
";

/// An organization with somebody in every role; every one of them who can has a key in `web`.
const CAST: &str = "
    at 2026-10-31T10:00:00Z
    organization beta creator=stranger
    organization acme
    recharge acme 1 ref=october
    at 2026-11-01T10:00:00Z
    project acme web
    project acme shop
    level acme enterprise_verified
    invite acme i1 role=administrator
    accept acme i1 admin                            -> ok admin administrator
    invite acme i2
    accept acme i2 member                           -> ok member member
    invite acme i3 projects=web:administrator
    accept acme i3 project_admin                    -> ok project_admin member web administrator
    invite acme i4 projects=web:member
    accept acme i4 project_member                   -> ok project_member member web member
    invite acme i5 projects=shop:administrator
    accept acme i5 elsewhere                        -> ok elsewhere member shop administrator
    invite acme i6 role=administrator projects=web:administrator
    accept acme i6 removed                          -> ok removed administrator web administrator
    invite acme i7 role=administrator
    accept acme i7 other_admin                      -> ok other_admin administrator
    invite acme i8 projects=web:member
    accept acme i8 other                            -> ok other member web member
    by creator key acme web of_creator              -> ok
    by admin key acme web of_admin                  -> ok
    by project_admin key acme web of_project_admin  -> ok
    by project_member key acme web of_project_member -> ok
    by other key acme web of_other                  -> ok
    by removed key acme web of_removed              -> ok
    by creator remove acme removed                  -> ok revoked of_removed member_removed
    invite acme open
    allow acme 8.8.8.8
    usage acme of_creator none in=1 cost=1 id=r1    -> booked
    usage acme of_creator none in=1 id=r2           -> quarantined unknown_model
";

const LEVELS: [(&str, &str); 3] = [("u", "unverified"), ("v", "verified"), ("e", "enterprise_verified")];

/// How an action is tried.
enum Try {
    Command(Command),
    Ask(fn(&MemoryLedger, &Actor) -> Result<(), Rejection>),
}

fn ask(ledger: &MemoryLedger, actor: &Actor, action: Action) -> Result<(), Rejection> {
    may(ledger.state.organization(&org("acme")).unwrap(), actor, &action)
}

fn attempt(ledger: &MemoryLedger, action: &str, role: &str) -> Try {
    use OrganizationCommand as C;
    let QuarantinedWhat::Usage(waiting) = &ledger.quarantine[0].what else { panic!("no usage") };
    let held = (ledger.quarantine[0].place, waiting);
    let (web, name) = (project("web"), DisplayName::parse("new").unwrap());
    let invite = |role| C::Invite {
        invitation: InvitationId::from_bits(1),
        email: Some(sealed()),
        role,
        projects: Vec::new(),
        token: SecretHash([9; 32]),
    };
    // Whoever cannot have a key tries with the key of somebody who can.
    let own = match role {
        "creator" | "admin" | "project_admin" | "project_member" => key(&format!("of_{role}")),
        _ => key("of_other"),
    };
    let command = match action {
        "see IP allowlist *" => return Try::Ask(|l, a| ask(l, a, Action::Allowlist)),
        "see the balance alert *" | "invoices *" => {
            return Try::Ask(|l, a| ask(l, a, Action::ManageMembers));
        }
        "see the organization *" => return Try::Ask(|l, a| ask(l, a, Action::SeeOrganization)),
        "view a project *" => return Try::Ask(|l, a| ask(l, a, Action::SeeProject(project("web")))),
        "webhooks *" | "audit log *" | "statements *" | "quarantine *" => {
            return Try::Ask(|l, a| ask(l, a, Action::ManageOrganization));
        }
        "spend, balance, members *" => return Try::Ask(|l, a| ask(l, a, Action::SeeOrganizationFigures)),
        "project's spend, members *" => {
            return Try::Ask(|l, a| ask(l, a, Action::SeeProjectFigures(project("web"))));
        }
        "save IP allowlist" => C::SaveAllowlist(vec!["1.1.1.1/32".parse().unwrap()]),
        "clear IP allowlist" => C::SaveAllowlist(Vec::new()),
        "invite" => invite(OrgRole::Member),
        "invite an administrator" => invite(OrgRole::Administrator),
        "issue an invoice" => {
            C::IssueInvoice { invoice: InvoiceId::from_bits(1), month: "2026-10".parse().unwrap() }
        }
        "revoke an invitation" => C::RevokeInvitation(InvitationId::parse("inv_open").unwrap()),
        "remove a member" => C::RemoveMember(member("other")),
        "promote a member" => C::SetRole { member: member("other"), role: OrgRole::Administrator },
        "demote an administrator" => C::SetRole { member: member("other_admin"), role: OrgRole::Member },
        "accept an invitation" => C::AcceptInvitation {
            token: token("open"),
            member: MemberId::from_bits(1),
            name: sealed(),
            email: sealed(),
        },
        "create a project" => return Try::Command(create_project(org("acme"), ProjectId::from_bits(1))),
        "archive a project" => C::ArchiveProject(web),
        "rename a project" => C::RenameProject { project: web, name },
        "project budgets" => C::SetBudgets {
            project: web,
            daily: Some(Amount::whole(7)),
            monthly: None,
            enforcement: Some(Enforcement::Strict),
        },
        "spend notifications" => {
            C::SetSpendNotifications { project: web, daily: vec![Amount::whole(7)], monthly: Vec::new() }
        }
        "balance-alert threshold" => C::SetBalanceAlert(Some(Amount::whole(7))),
        "TPM limit" => C::SetTpmLimit { project: web, limit: Some(7) },
        "add a project member" => {
            C::AddProjectMember { project: web, member: member("other_admin"), role: ProjectRole::Member }
        }
        "change a project role" => {
            C::SetProjectRole { project: web, member: member("other"), role: ProjectRole::Administrator }
        }
        "remove a project member" => C::RemoveProjectMember { project: web, member: member("other") },
        "create a key" => {
            return Try::Command(issue_key(org("acme"), web, KeyId::from_bits(1), None));
        }
        "create a key for another" => {
            return Try::Command(issue_key(org("acme"), web, KeyId::from_bits(1), Some(member("other"))));
        }
        "revoke another's key" => C::RevokeKey { project: web, key: key("of_other") },
        "revoke own key" => C::RevokeKey { project: web, key: own },
        "change the name" => C::Change { name: Some(name), email: None, zone: None },
        "change the e-mail" => C::Change { name: None, email: Some(sealed()), zone: None },
        "change the time zone" => {
            C::Change { name: None, email: None, zone: Some("Asia/Tokyo".parse().unwrap()) }
        }
        "recharge" => return Try::Command(recharge(org("acme"), Amount::whole(1), "a", 1)),
        "set the level" => C::SetVerification(Verification::Verified),
        "override limits" => C::OverrideLimits {
            quantities: QuantityOverride { projects: Change::Set(3), api_keys: Change::Keep },
            rates: RateOverride::default(),
        },
        "erase personal data" => C::EraseContacts,
        "release usage" => {
            let mut usage = held.1.clone();
            usage.extras = Some(Box::new(Extras { cost: Some(Amount::whole(1)), ..Extras::default() }));
            C::ReleaseUsage { place: held.0, usage: Some(Box::new(usage)) }
        }
        "dismiss usage" => C::DismissUsage { place: held.0, reason: Reason::parse("a test").unwrap() },
        "reverse usage" => C::ReverseUsage {
            reversal: MovementId::from_bits(1),
            // It stands before the one that waits.
            usage: UsagePlace { position: Position(held.0.position.0 - 1), row: 0 },
            booked: Box::new(BookedUsage {
                day: Day::default(),
                project: web,
                key: None,
                model: held.1.model.clone(),
                tokens: held.1.tokens,
                meters: BTreeMap::new(),
                cost: Amount::whole(1),
            }),
            reason: Reason::parse("a test").unwrap(),
        },
        "refund" => C::Refund {
            refund: MovementId::from_bits(1),
            amount: Amount::whole(1),
            reference: reference(),
            recharge: Some(RechargeId::from_bits(7)),
            note: InvoiceId::from_bits(1),
        },
        "take a recharge back" => C::ReverseRecharge {
            reversal: MovementId::from_bits(1),
            recharge: RechargeId::from_bits(7),
            amount: None,
            reference: reference(),
            reason: reason(),
            note: InvoiceId::from_bits(1),
        },
        "grant a voucher" => C::GrantVoucher {
            voucher: VoucherId::from_bits(1),
            amount: Amount::whole(1),
            reference: reference(),
            expires_at: None,
            reason: None,
        },
        "adjust cash" => C::Adjust {
            adjustment: MovementId::from_bits(1),
            amount: Amount::whole(1),
            reference: reference(),
            reason: reason(),
            corrects: None,
        },
        "credit limit" => C::SetCreditLimit(Some(Amount::whole(1))),
        "prices of its own" => C::PublishPrices { currency: "USD".into(), list: prices().into() },
        _ => return Try::Command(Command::Config(config(action))),
    };
    Try::Command(Command::Organization(org("acme"), command))
}

fn reference() -> Reference {
    Reference::parse("r").unwrap()
}

fn reason() -> Reason {
    Reason::parse("why").unwrap()
}

fn prices() -> PriceList {
    let price = ModelPrice {
        input: "1".parse().unwrap(),
        cached_input: "1".parse().unwrap(),
        output: "1".parse().unwrap(),
        meters: BTreeMap::new(),
        max_output_tokens: None,
    };
    let models = BTreeMap::from([(ModelName::parse("m").unwrap(), price)]);
    PriceList { effective_from: Timestamp::EPOCH, models }
}

fn config(action: &str) -> ConfigCommand {
    match action {
        "publish prices" => ConfigCommand::PublishPrices { currency: "USD".into(), list: prices().into() },
        "tiers" => {
            let name = DisplayName::parse("Only").unwrap();
            let cumulative_recharge = Amount::whole(1);
            let tier = Tier { name, cumulative_recharge, concurrency: None, rpm: None, tpm: None, tpd: None };
            ConfigCommand::PublishTiers { effective_from: None, tiers: vec![tier] }
        }
        "rate scale" => ConfigCommand::SetRateScale(Some(NewRateScale {
            factor: "0.5".parse().unwrap(),
            until: Timestamp::MAX,
            reason: reason(),
            tiers: Vec::new(),
        })),
        "voucher policy" => ConfigCommand::SetVoucherPolicy(VoucherPolicy {
            threshold: Amount::whole(1),
            ..VoucherPolicy::default()
        }),
        "defaults" => ConfigCommand::SetDefaults(Defaults { max_output_tokens: 1, ..Defaults::default() }),
        "billing cycle" => ConfigCommand::SetLagModel(LagModel { cycle_seconds: 60, delay_seconds: 0 }),
        "quantity limits" => {
            let limit = QuantityLimit { projects: 1, api_keys: 1 };
            ConfigCommand::SetQuantityLimits(QuantityLimits { default: limit, enterprise_verified: limit })
        }
        "issue a token" => ConfigCommand::IssueToken {
            token: TokenId::from_bits(2),
            name: DisplayName::parse("a token").unwrap(),
            scopes: vec![Scope::Operator],
            organizations: None,
            secret: SecretHash([2; 32]),
        },
        "revoke a token" => ConfigCommand::RevokeToken(TokenId::from_bits(1)),
        _ => panic!("nobody knows how to {action}"),
    }
}

/// A ledger with the whole cast, at a level.
fn cast(level: &str) -> MemoryLedger {
    let mut ledger = check(&format!(
        "{CAST}\nlevel acme {level} -> {}",
        match level {
            "enterprise_verified" => "same",
            _ => "ok",
        }
    ));
    assert_eq!(close(&mut ledger), 1);
    let token = ConfigCommand::IssueToken {
        token: TokenId::from_bits(1),
        name: DisplayName::parse("a token").unwrap(),
        scopes: vec![Scope::Operator],
        organizations: None,
        secret: SecretHash([1; 32]),
    };
    ledger.command(&Command::Config(token), None).unwrap();
    ledger.command(&recharge(org("acme"), Amount::whole(3), "first", 7), None).unwrap();
    ledger
}

#[test]
fn r3_the_permission_table() {
    let ledgers = LEVELS.map(|(short, level)| (short, cast(level)));
    let mut rows = TABLE.lines().filter(|row| !row.trim().is_empty());
    let cells = |row: &'static str| row.split('|').map(str::trim).collect::<Vec<_>>();
    let roles = cells(rows.next().unwrap());
    let (mut allowed, mut refused) = (0, 0);
    let mut wrong = Vec::new();
    for row in rows {
        let row = cells(row);
        assert_eq!(row.len(), roles.len(), "{row:?}");
        for (role, cell) in roles.iter().zip(&row).skip(1) {
            for (level, ledger) in &ledgers {
                let expected = match *cell {
                    "yes" => true,
                    "-" => false,
                    levels => {
                        assert!(levels.split(' ').all(|level| ["u", "v", "e"].contains(&level)), "{row:?}");
                        levels.split(' ').any(|allowed| allowed == *level)
                    }
                };
                if let Err(fault) = tried(row[0], role, level, ledger, expected) {
                    wrong.push(format!("{} by {role} at {level}: {fault}", row[0]));
                }
                *(if expected { &mut allowed } else { &mut refused }) += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), allowed + refused, wrong.join("\n"));
    assert!(allowed > 250 && refused > 800, "{allowed} {refused}");
}

fn tried(action: &str, role: &str, level: &str, ledger: &MemoryLedger, expected: bool) -> Result<(), String> {
    let command = match attempt(ledger, action, role) {
        Try::Ask(ask) => {
            return match (ask(ledger, &actor(role)), expected) {
                (Ok(()), true) => Ok(()),
                (Err(rejection), false) if rejection.kind() == RejectionKind::Forbidden => Ok(()),
                (answer, _) => Err(format!("expected {expected}, given {answer:?}")),
            };
        }
        Try::Command(command) => command,
    };
    let mut ledger = ledger.clone();
    let before = (ledger.digest(), ledger.log.len());
    match (ledger.command_of(&actor(role), &command, None), expected) {
        (Ok(Outcome::Entry { .. }), true) => Ok(()),
        // The level that is set is the one that it has.
        (Ok(Outcome::AsItIs), true) if action == "set the level" && level == "v" => Ok(()),
        (Err(rejection), false) if rejection.kind() == RejectionKind::Forbidden => {
            match (ledger.digest(), ledger.log.len()) == before {
                true => Ok(()),
                false => Err("a refusal changed something".into()),
            }
        }
        (outcome, _) => Err(format!("expected {expected}, given {outcome:?}")),
    }
}
