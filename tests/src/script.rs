//! Rules as tables: rows of a text run straight on the pure core, one function that knows the API.
//!
//! ```text
//! by ann|operator|engine|invitee …                        any row of a command, on behalf of member `mem_ann` or another
//! … request=k/1                                           any row of a command, with an idempotency key and a content
//! at 2026-11-20T10:00:00Z
//! organization acme [zone=Europe/Berlin] [creator=ann]    -> ok|organization_exists
//! project acme web                                        -> ok|project_limit 20/20
//! projects acme 19                                        that many more
//! key acme web k1 [member=other]                          -> ok|api_key_limit 50/50
//! keys acme web 49                                        that many more
//! price m input=0.60 cached=0.10 output=3 from=… [currency=EUR] [meter.image=4]  -> ok|same|price_in_the_past
//! copy-price m input=…                                    the same, as another partition copies it
//! recharge acme 3.00 ref=a                                -> ok [voucher 5]|same|reference_conflict
//! usage acme k1 m in=1 [cached=0] [out=1] id=r1 [seq=1] [source=gw] [time=…|none] [cost=1] [meter.image=2]
//!                                                         -> booked|duplicate|quarantined ahead
//! batch                                                   usage rows up to `end` are one entry
//! end                                                     -> booked 1 duplicates 0 quarantined 0
//! unreadable acme|-                                       -> quarantined unreadable
//! balance acme                                            -> cash 5 vouchers 5 available 10 tier Tier0 …
//! counts acme                                             -> booked 1 duplicates 0 quarantined 0
//! spend acme web day=2026-11-20|month=2026-11 [model=m] [key=k1]  -> settled 0 pending 1.5 cost 1.5 requests 1 …
//! cycle 600 [delay=60]                                    -> ok|same
//! close                                                   -> cycles 3|nothing
//! takeover node2                                          -> term 2
//! stale recharge …                                        -> void
//! copy 5                                                  -> skipped
//! foreign bytes|ledger|partition|subject|family|other     -> skipped
//! gap                                                     -> corrupt
//! skipped                                                 -> 2
//! entries                                                 -> 7
//! restart
//! ```
//!
//! What is about people, projects, keys and limits:
//!
//! ```text
//! level acme unverified|verified|enterprise_verified      -> ok|same
//! change acme [name=N] [email=0] [zone=Asia/Tokyo]        e-mail sealed under that key
//!                                                         -> ok [from 2026-12]|same|contacts_erased
//! limits acme [projects=3|none] [keys=…] [concurrency=…] [rpm=…] [tpm=…] [tpd=…]   -> ok|same
//! quantities [default=20/50] [enterprise=50/100]          -> ok|same
//! allow acme TEXT…                                        what people type; without a text: lifted -> ok|same
//! erase acme                                              -> ok|same
//! invite acme i1 [role=administrator] [projects=web:member,shop:administrator] [sealed=0|none]
//! revoke-invitation acme i1                               -> ok|invitation_over
//! accept acme i1 ann [sealed=0]                           by the token of i1, on behalf of an invitee
//!                                                         -> ok ann administrator [web member …]
//! role acme ann administrator|member                      -> ok [revoked k1 member_demoted …]|same
//! remove acme ann                                         -> ok [revoked k1 member_removed …]
//! rename acme web N                                       -> ok|same
//! archive acme web                                        -> ok [revoked k1 project_archived …]|same
//! tpm acme web 1000|none                                  -> ok|same
//! bring acme web ann [role=administrator]                 into the project -> ok web member
//! team-role acme web ann administrator|member             -> ok web administrator|same
//! leave acme web ann                                      out of the project -> ok [revoked k1 member_removed …]
//! revoke acme web k1                                      -> ok revoked k1 requested|same
//! profile acme                                            -> name N zone UTC zone_next none level verified email 0
//! overrides acme                                          -> projects 3 keys none concurrency none rpm none …
//! in-force acme [web]                                     -> concurrency 1 rpm 3 tpm 500000 tpd … scaled no
//!                                                         [project … clamped no]
//! used acme                                               -> projects 1/20 keys 0/50
//! allowlist acme                                          -> none|8.8.8.8 …, in order
//! members acme                                            -> ann:member …, by name
//! team acme web                                           -> none|ann:member …, by name
//! key-states acme                                         -> none|k1:ann k2:member_removed …, by name
//! open-invitations acme                                   -> none|i1 …, by name
//! ```
//!
//! What is about money ([`money`]); what an entry moved is told as the fold booked it:
//!
//! ```text
//! refund acme 3 ref=r [of=a]                              -> ok paid 3 [withdrawn 5] [credit 2 3]|nothing_to_refund
//! reverse acme a [1.5] ref=c [why=W]                      the recharge with reference a
//!                                                         -> ok taken 1.5 [withdrawn 5] [credit 2 1.5]
//! adjust acme -2 ref=j [why=W] [corrects=0-3]             -> ok|same|reference_conflict
//! grant acme v1 5 ref=g [expires=…] [why=W]               -> ok voucher 5
//! expire acme                                             -> ok [expiring] [lost 2]|same
//! credit acme 10|none                                     the credit limit -> ok|same
//! own-price acme m input=…                                as `price`
//! policy threshold=5 amount=5 [days=30]                   -> ok|same
//! tiers Small:1 Large:50 [from=…]                         -> ok|same|tiers_unordered
//! scale 0.5 until=… [tiers=Small,Large] [why=W]           -> ok|same|rate_scale_over|tier_unknown
//! scale none                                              ends it -> ok|same
//! unuse acme r1 [why=W]                                   takes record r1 back -> ok back 1 2: cash, vouchers
//! release acme r1 [key=k1] [model=m] [in=1] [of=beta]     as it came or as mended -> ok released|still_unbookable_…
//! dismiss acme r1 [why=W]                                 -> ok dismissed W
//! … from=beta                                             either, of a record that came for beta
//! move-in acme [cash=3] [recharged=8] [granted=yes] [refs=a,b] [vouchers=v1:3@…,v2:1] [members=ann] [projects=web]
//!         [roles=web:ann] [keys=k1:web] [key-of=ann] [zone=…] [level=…]
//! months                                                  -> ok UTC:2026-11 …|nothing
//! seal acme 2026-11 [hash=7]                              -> ok|same|month_open
//! invoice acme 2026-11                                    -> ok invoice 1 a:10 b:5
//! hold …                                                  any row of a command: decided, its entry kept back -> held
//! book                                                    writes that entry
//! vouchers acme                                           -> none|v1:2.5 …, in the order in which they are spent
//! money acme                                              -> recharged 5 refunded 0 … credit none documents 0
//! books acme                                              -> assets:received 5 …: its trial balance
//! ledger                                                  -> the same of all organizations, and sum 0
//! lines acme [2026-11]                                    -> none|recharge/a/5/0 …: kind, reference, cash, vouchers
//! statement acme 2026-11                                  -> none|opening 0/0 usage 1/2 closing 3/4 ended yes closed no
//! unsealed acme                                           -> none|2026-11 …
//! seals acme                                              -> none|2026-11:7 …
//! due                                                     -> acme@2026-… month@2026-…: when vouchers and months end
//! ```
//!
//! What is about budgets and alerts ([`alerts`]):
//!
//! ```text
//! budget acme web [daily=10] [monthly=100] [enforcement=strict|settled]   what is left out is removed -> ok|same
//! notify acme web [daily=5,10] [monthly=50]               spend notifications -> ok|same
//! balance-alert acme 5|none                               its threshold -> ok|same
//! default-alert 5|none                                    the ledger's -> ok|same
//! webhook acme h1                                         -> ok
//! disable acme h1 [why=W]                                 -> ok|same
//! stop acme web                                           what refuses its requests now
//!                                                         -> none|daily 12/10 from … until …
//! refused acme web daily|monthly [at=…]                   the engine writes the refusal down -> ok|same
//! breach acme web daily|monthly [of=2026-11-20]           the last one -> none|limit 10 crossed … visible never …
//! breaches acme web                                       -> none|daily/10/+2.5/period_over …, those that are open last
//! alerts acme|-                                           since this was last asked -> none|balance_low/5/4.9 …
//! ```
//!
//! `same`: nothing is written. `noted`: an entry that says nothing, so that a request which changed nothing is known if
//! it comes again.
//!
//! A charge `web` names key `web`; `project:web` names the project. Rows without `->` expect `ok`, whatever that is for
//! them. After every row money is conserved and every record accounted for; a refusal leaves the digest as it was; at
//! the end the log, folded again, gives the same State.

use std::collections::BTreeMap;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tollbook_projections::record::Record;
use tollbook_projections::spend::Cell;
use tollbook_projections::state::{Corrupt, Effect};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::codec;
use tollbook_schemas::command::{Command, ConfigCommand, OrganizationCommand, PartitionCommand};
use tollbook_schemas::entry::{Actor, Body, Entry, Idempotency};
use tollbook_schemas::event::{
    ConfigEvent, Event, KeyEvent, MemberEvent, MoneyEvent, OrganizationEvent, PartitionEvent,
};
use tollbook_schemas::id::{
    DisplayName, KeyId, LedgerId, MemberId, MeterName, ModelName, NodeName, OrgId, ProjectId, RechargeId,
    Reference, SourceName, VoucherId,
};
use tollbook_schemas::policy::LagModel;
use tollbook_schemas::position::{LogPosition, PartitionId, Position};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::sealed::{Sealed, SecretHash};
use tollbook_schemas::time::{Day, Month, Timestamp, Zone};
use tollbook_schemas::topic::Topic;
use tollbook_schemas::usage::{Charged, Extras, Occurred, Tokens, Usage, UsagePlace};

use crate::memory::{
    MemoryLedger, Outcome, PARTITION, Prepared, actor_of, assert_audited, assert_same, ledger_id,
};

pub mod alerts;
pub mod money;
pub mod people;

/// When a script begins in which no row says so.
const BEGIN: &str = "2026-11-20T10:00:00Z";

/// Runs a script. Panics with the row that failed, and returns the ledger for whoever wants to know more.
#[track_caller]
pub fn check(script: &str) -> MemoryLedger {
    // The ledger is created when the script begins.
    let begin = script.split_whitespace().skip_while(|word| *word != "at").nth(1).unwrap_or(BEGIN);
    let mut run = Run {
        ledger: MemoryLedger::new(begin.parse().unwrap()),
        batch: None,
        ids: 0,
        stale: false,
        actor: None,
        request: None,
        hold: false,
        held: None,
        places: BTreeMap::new(),
        told: BTreeMap::new(),
    };
    for (number, row) in (1..).zip(script.lines()) {
        let row = row.trim();
        if row.is_empty() || row.starts_with('#') {
            continue;
        }
        if let Err(fault) = run.row(row) {
            panic!("row {number}: {row}\n{fault}");
        }
        run.ledger.check();
    }
    let ledger = run.ledger;
    for every in [1, 3, 1_000] {
        assert_same(&ledger.refold(|position| position % every == 0), &ledger.state);
    }
    for every in [1, 4] {
        ledger.check_told(|position| position % every == 0);
    }
    ledger
}

/// The id of an organization that a script names.
pub fn org(name: &str) -> OrgId {
    OrgId::parse(&format!("org_{name}")).unwrap()
}

/// The id of a project that a script names.
pub fn project(name: &str) -> ProjectId {
    ProjectId::parse(&format!("proj_{name}")).unwrap()
}

/// The id of a key that a script names.
pub fn key(name: &str) -> KeyId {
    KeyId::parse(&format!("ak_{name}")).unwrap()
}

/// The id of a member that a script names.
pub fn member(name: &str) -> MemberId {
    MemberId::parse(&format!("mem_{name}")).unwrap()
}

/// Who acts under a name in a script.
pub fn actor(name: &str) -> Actor {
    match name {
        "operator" => Actor::Operator { token: None },
        "engine" => Actor::Engine,
        "invitee" => Actor::Invitee { token: None },
        _ => Actor::Member { token: None, member: member(name) },
    }
}

/// Ciphertext of nothing.
pub fn sealed() -> Sealed {
    sealed_under(0)
}

/// The same under another key (R9.2).
pub fn sealed_under(key: u32) -> Sealed {
    Sealed { key, ciphertext: Bytes::from_static(b"sealed") }
}

/// The command that registers an organization.
pub fn register(organization: OrgId, zone: Zone) -> Command {
    register_by(organization, zone, member("creator"))
}

/// The same with another creator.
pub fn register_by(organization: OrgId, zone: Zone, creator: MemberId) -> Command {
    Command::Organization(
        organization,
        OrganizationCommand::Register {
            name: DisplayName::parse("an organization").unwrap(),
            email: sealed(),
            creator,
            creator_name: sealed(),
            creator_email: sealed(),
            zone,
        },
    )
}

/// The command that creates a project.
pub fn create_project(organization: OrgId, project: ProjectId) -> Command {
    let name = DisplayName::parse("a project").unwrap();
    Command::Organization(organization, OrganizationCommand::CreateProject { project, name })
}

/// The hash of an API key's secret: no two keys have the same.
pub fn secret_of(key: &KeyId) -> SecretHash {
    SecretHash(Sha256::digest(key.as_str()).into())
}

/// The command that issues a key.
pub fn issue_key(organization: OrgId, project: ProjectId, key: KeyId, member: Option<MemberId>) -> Command {
    Command::Organization(
        organization,
        OrganizationCommand::IssueKey {
            secret: secret_of(&key),
            hint: "abcd".into(),
            name: DisplayName::parse("a key").unwrap(),
            key,
            project,
            member,
        },
    )
}

/// The command that books a recharge; `bits` makes its ids.
pub fn recharge(organization: OrgId, amount: Amount, reference: &str, bits: u128) -> Command {
    Command::Organization(
        organization,
        OrganizationCommand::Recharge {
            recharge: RechargeId::from_bits(bits),
            amount,
            reference: Reference::parse(reference).unwrap(),
            voucher: VoucherId::from_bits(bits),
        },
    )
}

/// A name and what it came with, as the engine hashes an idempotency key.
pub fn idempotency(key: &str, content: &str) -> Idempotency {
    let cut = |text: &str| *Sha256::digest(text).first_chunk().unwrap();
    Idempotency { key: cut(key), content: cut(content) }
}

struct Run {
    ledger: MemoryLedger,
    batch: Option<Vec<Usage>>,
    /// Makes ids.
    ids: u128,
    /// The row at hand is decided by an owner that lost its term.
    stale: bool,
    /// On whose behalf the row at hand is decided, if it says so.
    actor: Option<Actor>,
    /// What it carries to make it idempotent.
    request: Option<Idempotency>,
    /// The row at hand is decided, and its entry kept back.
    hold: bool,
    /// The entry that is kept back.
    held: Option<(Command, Topic, Entry)>,
    /// Where every record first came, by its id.
    places: BTreeMap<(OrgId, String), (UsagePlace, Usage)>,
    /// How many alerts of an organization were asked for.
    told: BTreeMap<Option<OrgId>, usize>,
}

/// The words of a row: those that stand by place, and those with a name.
struct Words<'a> {
    placed: Vec<&'a str>,
    named: BTreeMap<&'a str, &'a str>,
    row: &'a str,
}

impl<'a> Words<'a> {
    fn of(row: &'a str) -> Self {
        let mut words = Self { placed: Vec::new(), named: BTreeMap::new(), row };
        for word in row.split_whitespace() {
            match word.split_once('=') {
                Some((name, value)) => {
                    assert!(words.named.insert(name, value).is_none(), "{row}: {name} stands twice");
                }
                None => words.placed.push(word),
            }
        }
        words
    }

    fn word(&self, place: usize) -> &'a str {
        self.placed.get(place).unwrap_or_else(|| panic!("{}: a word is missing", self.row))
    }

    fn take(&mut self, name: &str) -> Option<&'a str> {
        self.named.remove(name)
    }

    fn meters(&mut self) -> Vec<(MeterName, &'a str)> {
        let names: Vec<_> = self.named.keys().copied().filter(|name| name.starts_with("meter.")).collect();
        names
            .into_iter()
            .map(|name| {
                (MeterName::parse(&name["meter.".len()..]).unwrap(), self.named.remove(name).unwrap())
            })
            .collect()
    }

    /// Nothing may be left over: a misspelt name would test nothing.
    fn done(&self, places: usize) {
        assert!(self.named.is_empty(), "{}: nobody knows {:?}", self.row, self.named);
        assert_eq!(self.placed.len(), places, "{}: {:?}", self.row, self.placed);
    }
}

/// What a row gave, as words; names with values where only some of them may be asked for.
enum Given {
    Words(String),
    Values(Vec<(&'static str, String)>),
}

fn words(text: impl Into<String>) -> Given {
    Given::Words(text.into())
}

impl Run {
    fn row(&mut self, row: &str) -> Result<(), String> {
        let (asked, expected) = match row.split_once("->") {
            Some((asked, expected)) => (asked, Some(expected.trim())),
            None => (row, None),
        };
        let (asked, stale) = match asked.trim().strip_prefix("stale ") {
            Some(rest) => (rest, true),
            None => (asked.trim(), false),
        };
        self.stale = stale;
        let (asked, hold) = match asked.strip_prefix("hold ") {
            Some(rest) => (rest.trim(), true),
            None => (asked, false),
        };
        self.hold = hold;
        let (asked, actor) = match asked.strip_prefix("by ") {
            Some(rest) => {
                let (name, rest) = rest.trim().split_once(' ').unwrap();
                (rest.trim(), Some(actor(name)))
            }
            None => (asked, None),
        };
        self.actor = actor;
        let before = self.ledger.digest();
        let given = self.run(asked)?;
        match (given, expected) {
            (Given::Words(given), expected) => {
                let expected = expected.unwrap_or("ok");
                if refused(&given) && self.ledger.digest() != before {
                    return Err("a refusal changed the digest".into());
                }
                if same(&given, expected) {
                    Ok(())
                } else {
                    Err(format!("expected {expected}\n   given {given}"))
                }
            }
            (Given::Values(_), None) => Err("says nothing of what it expects".into()),
            (Given::Values(given), Some(expected)) => {
                let all: Vec<_> = given.iter().map(|(name, value)| format!("{name} {value}")).collect();
                let mut expected = expected.split_whitespace();
                while let Some(name) = expected.next() {
                    let value = expected.next().unwrap_or("nothing");
                    let actual = given.iter().find(|(known, _)| *known == name);
                    if !actual.is_some_and(|(_, actual)| same(actual, value)) {
                        return Err(format!("expected {name} {value}\n   given {}", all.join(" ")));
                    }
                }
                Ok(())
            }
        }
    }

    fn run(&mut self, asked: &str) -> Result<Given, String> {
        let (verb, rest) = asked.split_once(' ').unwrap_or((asked, ""));
        let mut given = Words::of(rest);
        self.request = given.take("request").map(|request| {
            let (key, content) = request.split_once('/').unwrap();
            idempotency(key, content)
        });
        let answer = match verb {
            "at" => {
                self.ledger.now = given.word(0).parse().unwrap();
                given.done(1);
                words("ok")
            }
            "organization" => {
                let zone = given.take("zone").unwrap_or("UTC").parse().unwrap();
                let creator = member(given.take("creator").unwrap_or("creator"));
                given.done(1);
                self.decide(&register_by(org(given.word(0)), zone, creator))
            }
            "project" => {
                given.done(2);
                self.decide(&create_project(org(given.word(0)), project(given.word(1))))
            }
            "projects" => {
                given.done(2);
                self.many(given.word(1), |id| create_project(org(given.word(0)), ProjectId::from_bits(id)))
            }
            "key" => {
                let member = given.take("member").map(member);
                given.done(3);
                let (organization, project) = (org(given.word(0)), project(given.word(1)));
                self.decide(&issue_key(organization, project, key(given.word(2)), member))
            }
            "keys" => {
                given.done(3);
                self.many(given.word(2), |id| {
                    issue_key(org(given.word(0)), project(given.word(1)), KeyId::from_bits(id), None)
                })
            }
            "price" => {
                let list = money::price_list(&mut given, 0, self.ledger.now);
                let currency = given.take("currency").unwrap_or("USD").to_owned();
                given.done(1);
                self.decide(&Command::Config(ConfigCommand::PublishPrices { currency, list: list.into() }))
            }
            // As the owner of another partition than the first copies it.
            "copy-price" => {
                let list = money::price_list(&mut given, 0, self.ledger.now);
                given.done(1);
                self.ids += 1;
                let of = LogPosition {
                    partition: PartitionId(0),
                    position: Position(self.ids.try_into().unwrap()),
                };
                let events = vec![ConfigEvent::PricesPublished(list)];
                self.decide(&Command::Partition(PartitionCommand::CopyConfig { of, events }))
            }
            "recharge" => {
                let reference = given.take("ref").unwrap();
                given.done(2);
                self.ids += 1;
                let amount = given.word(1).parse().unwrap();
                self.decide(&recharge(org(given.word(0)), amount, reference, self.ids))
            }
            "cycle" => {
                let delay_seconds = given.take("delay").map_or(0, |delay| delay.parse().unwrap());
                given.done(1);
                let lag = LagModel { cycle_seconds: given.word(0).parse().unwrap(), delay_seconds };
                self.decide(&Command::Config(ConfigCommand::SetLagModel(lag)))
            }
            "close" => {
                given.done(0);
                self.decide(&Command::Partition(PartitionCommand::CloseCycles))
            }
            "takeover" => {
                given.done(1);
                let node = NodeName::parse(given.word(0)).unwrap();
                self.decide(&Command::Partition(PartitionCommand::TakeOwnership(node)))
            }
            "usage" => self.usage(given),
            "batch" => {
                given.done(0);
                self.batch = Some(Vec::new());
                words("ok")
            }
            "end" => self.end(),
            "unreadable" => {
                given.done(1);
                let organization = Some(given.word(0)).filter(|name| *name != "-").map(org);
                words(fates(&self.ledger.unreadable(organization, "not JSON")).join(" "))
            }
            "balance" => self.balance(&given),
            "counts" => {
                given.done(1);
                let counts = self.organization(given.word(0)).counts;
                Given::Values(vec![
                    ("booked", counts.booked.to_string()),
                    ("duplicates", counts.duplicates.to_string()),
                    ("quarantined", counts.quarantined.to_string()),
                ])
            }
            "spend" => self.spend(given),
            "copy" => {
                given.done(1);
                let place: usize = given.word(0).parse().unwrap();
                let message = self.ledger.log[place - 1].clone();
                let effects = self.ledger.append_bytes(&message.subject, message.payload);
                match effects.as_deref() {
                    Ok([Effect::Copy { .. }]) => words("skipped"),
                    other => words(format!("{other:?}")),
                }
            }
            "foreign" => {
                given.done(1);
                self.foreign(given.word(0))
            }
            "gap" => self.gap(),
            "skipped" => words(self.ledger.state.head().skipped.to_string()),
            "entries" => words(self.ledger.log.len().to_string()),
            "restart" => {
                self.ledger.restart();
                words("ok")
            }
            _ => match self.money(verb, &mut given) {
                Some(answer) => answer,
                None => match self.alerts(verb, &mut given) {
                    Some(answer) => answer,
                    None => self.people(verb, given).ok_or("no such row")?,
                },
            },
        };
        if self.actor.is_some() || self.request.is_some() {
            return Err("by and request are for commands".into());
        }
        Ok(answer)
    }

    fn organization(&self, name: &str) -> &tollbook_projections::organization::Organization {
        self.ledger.state.organization(&org(name)).unwrap()
    }

    fn many(&mut self, count: &str, command: impl Fn(u128) -> Command) -> Given {
        let mut last = words("ok");
        let actor = self.actor.take();
        for _ in 0..count.parse::<u32>().unwrap() {
            self.ids += 1;
            self.actor.clone_from(&actor);
            last = self.decide(&command(self.ids));
        }
        last
    }

    fn decide(&mut self, command: &Command) -> Given {
        let actor = self.actor.take().unwrap_or_else(|| actor_of(command));
        let idempotency = self.request.take();
        let term = self.ledger.state.head().term - u64::from(self.stale);
        if self.hold {
            return match self.ledger.prepare(&actor, command, idempotency, term) {
                Ok(Prepared::Entry(topic, entry)) => {
                    self.held = Some((command.clone(), topic, entry));
                    words("held")
                }
                Ok(Prepared::Nothing(_)) => words("same"),
                Err(rejection) => words(refusal(&rejection)),
            };
        }
        let entries = self.ledger.log.len();
        let outcome = self.ledger.command_in_term(&actor, command, idempotency, term);
        let written = self.ledger.log.len() - entries;
        assert_eq!(written, usize::from(matches!(outcome, Ok(Outcome::Entry { .. }))), "one entry, or none");
        match outcome {
            Ok(outcome) => self.told(command, outcome),
            Err(rejection) => words(refusal(&rejection)),
        }
    }

    /// What came of a command, in words.
    fn told(&self, command: &Command, outcome: Outcome) -> Given {
        let (events, effects) = match outcome {
            Outcome::Entry { events, effects, .. } => (events, effects),
            Outcome::Before(_) => return words("same"),
            Outcome::AsItIs if matches!(command, Command::Partition(_)) => return words("nothing"),
            Outcome::AsItIs => return words("same"),
        };
        if let [Effect::Voided { .. }] = effects.as_slice() {
            return words("void");
        }
        assert_audited(command, &events, &effects);
        if events.is_empty() {
            return words("noted");
        }
        let mut told = vec!["ok".to_owned()];
        for event in &events {
            match event {
                Event::Money(MoneyEvent::VoucherGranted { amount, .. }) => {
                    told.push(format!("voucher {amount}"))
                }
                Event::Money(MoneyEvent::VoucherExpiring { .. }) => told.push("expiring".into()),
                Event::Partition(PartitionEvent::BillingCycleClosed { cycles, .. }) => {
                    told = vec![format!("cycles {cycles}")];
                }
                Event::Partition(PartitionEvent::OwnershipTaken { term, .. }) => {
                    told = vec![format!("term {term}")];
                }
                Event::Partition(PartitionEvent::MonthClosed { zone, month, until: _ }) => {
                    told.push(format!("{}:{month}", zone.name()));
                }
                Event::Organization(OrganizationEvent::ZoneChanged { zone: _, from }) => {
                    told.push(format!("from {from}"));
                }
                Event::Member(MemberEvent::Joined { member, role, .. }) => {
                    told.push(format!("{} {}", people::bare(member.as_str()), people::org_role_name(*role)));
                }
                Event::Member(MemberEvent::ProjectRoleSet { project, role, .. }) => {
                    let role = people::project_role_name(*role);
                    told.push(format!("{} {role}", people::bare(project.as_str())));
                }
                Event::Key(KeyEvent::Revoked { key, why }) => {
                    let why = people::revocation_name(*why);
                    told.push(format!("revoked {} {why}", people::bare(key.as_str())));
                }
                _ => {}
            }
        }
        told.extend(self.moved(&effects));
        words(told.join(" "))
    }

    fn usage(&mut self, mut given: Words<'_>) -> Given {
        let mut number = |name| given.take(name).map(|text| text.parse::<u64>().unwrap());
        let tokens = Tokens {
            input: number("in").unwrap_or(0),
            cached_input: number("cached").unwrap_or(0),
            output: number("out").unwrap_or(0),
        };
        let producerseq = number("seq");
        let now = self.ledger.now;
        let occurred = match given.take("time") {
            None => Occurred::Given(now),
            Some("none") => Occurred::Assumed(now),
            Some(at) => Occurred::Given(at.parse().unwrap()),
        };
        let extras = Extras {
            cost: given.take("cost").map(|cost| cost.parse().unwrap()),
            meters: given.meters().into_iter().map(|(name, units)| (name, units.parse().unwrap())).collect(),
            ..Extras::default()
        };
        let (source, id) = (given.take("source").unwrap_or("gw"), given.take("id").unwrap());
        given.done(3);
        let usage = Usage {
            organization: org(given.word(0)),
            charged: match given.word(1).strip_prefix("project:") {
                Some(name) => Charged::Project(project(name)),
                None => Charged::Key(key(given.word(1))),
            },
            model: ModelName::parse(given.word(2)).unwrap(),
            source: SourceName::parse(source).unwrap(),
            id: id.to_owned(),
            occurred,
            producerseq,
            tokens,
            extras: (!extras.is_empty()).then(|| Box::new(extras)),
        };
        if let Some(batch) = &mut self.batch {
            batch.push(usage);
            return words("ok");
        }
        let before = self.counted();
        let effects = self.ledger.usage(std::slice::from_ref(&usage));
        self.came(&[usage]);
        let after = self.counted();
        let fate = [after[0] - before[0], after[1] - before[1], after[2] - before[2]];
        match (fate, fates(&effects).as_slice()) {
            ([1, 0, 0], []) => words("booked"),
            ([0, 1, 0], []) => words("duplicate"),
            ([0, 0, 1], [fate]) => words(fate.clone()),
            other => words(format!("{other:?}")),
        }
    }

    fn end(&mut self) -> Given {
        let before = self.counted();
        let usage = self.batch.take().unwrap();
        self.ledger.usage(&usage);
        self.came(&usage);
        let after = self.counted();
        Given::Values(vec![
            ("booked", (after[0] - before[0]).to_string()),
            ("duplicates", (after[1] - before[1]).to_string()),
            ("quarantined", (after[2] - before[2]).to_string()),
        ])
    }

    /// Notes where records came.
    fn came(&mut self, usage: &[Usage]) {
        let position = self.ledger.state.head().position;
        for (row, usage) in (0..).zip(usage) {
            let name = (usage.organization.clone(), usage.id.clone());
            self.places.entry(name).or_insert((UsagePlace { position, row }, usage.clone()));
        }
    }

    /// Booked, repeated and quarantined over all organizations.
    fn counted(&self) -> [u64; 3] {
        let state = &self.ledger.state;
        let mut sums = [0, 0, state.head().quarantined];
        for organization in state.organizations() {
            sums[0] += organization.counts.booked;
            sums[1] += organization.counts.duplicates;
        }
        sums
    }

    fn balance(&self, given: &Words<'_>) -> Given {
        given.done(1);
        let purse = &self.organization(given.word(0)).purse;
        let table = self.ledger.state.config().tiers_at(self.ledger.now);
        let tier =
            table.tier(purse.cumulative_recharge()).map_or("none".to_owned(), |tier| tier.name.to_string());
        Given::Values(vec![
            ("cash", purse.cash().to_string()),
            ("vouchers", purse.vouchers().to_string()),
            ("available", purse.available().to_string()),
            ("recharged", purse.cumulative_recharge().to_string()),
            ("granted", purse.granted().to_string()),
            ("spent", purse.spent().to_string()),
            ("tier", tier),
        ])
    }

    fn spend(&self, mut given: Words<'_>) -> Given {
        let day: Option<Day> = given.take("day").map(|day| day.parse().unwrap());
        let month: Option<Month> = given.take("month").map(|month| month.parse().unwrap());
        let model = given.take("model").map(|name| ModelName::parse(name).unwrap());
        let by_key = given.take("key");
        given.done(2);
        let (organization, project) = (org(given.word(0)), project(given.word(1)));
        let mut sum = Cell::default();
        for (cell, consumed) in self.ledger.cells(&organization) {
            let key_fits = match by_key {
                None => true,
                Some("none") => cell.key.is_none(),
                Some(name) => cell.key == Some(key(name)),
            };
            if cell.project == project
                && day.is_none_or(|day| cell.day == day)
                && month.is_none_or(|month| cell.day.month() == month)
                && model.as_ref().is_none_or(|model| cell.model == *model)
                && key_fits
            {
                sum.add(&consumed).unwrap();
            }
        }
        let spend = &self.organization(given.word(0)).projects[&project].spend;
        let (settled, pending) = match (day, month) {
            (Some(day), _) => (spend.settled_on(day), spend.pending_on(day)),
            (None, Some(month)) => (spend.settled_in(month), spend.pending_in(month).unwrap()),
            (None, None) => panic!("a day or a month"),
        };
        Given::Values(vec![
            ("settled", settled.to_string()),
            ("pending", pending.to_string()),
            ("cost", sum.cost.to_string()),
            ("requests", sum.requests.to_string()),
            ("input", sum.input_tokens.to_string()),
            ("cached", sum.cached_input_tokens.to_string()),
            ("output", sum.output_tokens.to_string()),
        ])
    }

    /// A message that is no entry of this ledger and partition.
    fn foreign(&mut self, kind: &str) -> Given {
        let mut entry = self.ledger.entry(Body::Unreadable(Vec::new()));
        let mut topic = Topic::UsageMixed;
        match kind {
            "ledger" => entry.id.ledger = LedgerId::from_bits(8),
            "partition" => entry.id.partition = PartitionId(1),
            "family" => topic = Topic::Config,
            "other" => {
                // Usage of one organization under the subject of another.
                let mut builder = tollbook_schemas::batch::BatchBuilder::new(self.ledger.now);
                builder.push(&any_usage(org("somebody")));
                entry.body = Body::Usage(builder.finish());
                topic = Topic::Usage(org("else"));
            }
            "bytes" | "subject" => {}
            _ => panic!("no such kind"),
        }
        let mut payload = codec::encode_entry(&entry).unwrap();
        let mut subject = topic.subject(PARTITION);
        match kind {
            "bytes" => payload.truncate(payload.len() - 1),
            "subject" => subject.push_str(".more"),
            _ => {}
        }
        match self.ledger.append_bytes(&subject, payload).as_deref() {
            Ok([Effect::Foreign { .. }]) => words("skipped"),
            other => words(format!("{other:?}")),
        }
    }

    /// A record that stands one further than the next, tried on a copy of State.
    fn gap(&self) -> Given {
        let mut state = self.ledger.state.clone();
        let expected = state.head().position.next();
        let found = expected.next();
        for place in [found, state.head().position, Position::ZERO] {
            let record = Record::read(&ledger_id(), PARTITION, place, "x", b"x");
            let answer = state.apply(&record, &[]);
            assert_eq!(answer, Err(Corrupt::Gap { expected, found: place }));
        }
        words("corrupt")
    }
}

/// Some record, for messages that are skipped anyway.
fn any_usage(organization: OrgId) -> Usage {
    Usage {
        organization,
        charged: Charged::Key(key("k")),
        model: ModelName::parse("m").unwrap(),
        source: SourceName::parse("gw").unwrap(),
        id: "x".into(),
        occurred: Occurred::Given(Timestamp::EPOCH),
        producerseq: None,
        tokens: Tokens::default(),
        extras: None,
    }
}

fn fates(effects: &[Effect]) -> Vec<String> {
    let quarantined = effects.iter().filter_map(|effect| match effect {
        Effect::Quarantined(record) => Some(record),
        _ => None,
    });
    quarantined.map(|record| format!("quarantined {}", record.reason.code())).collect()
}

fn refusal(rejection: &Rejection) -> String {
    match rejection {
        Rejection::ProjectLimit { current, limit } | Rejection::KeyLimit { current, limit } => {
            format!("{} {current}/{limit}", rejection.code())
        }
        Rejection::RefundTooLarge { left } | Rejection::ReversalTooLarge { left } => {
            format!("{} {left}", rejection.code())
        }
        Rejection::StillUnbookable(why) => format!("{} {why}", rejection.code()).replace(' ', "_"),
        _ => rejection.code().to_owned(),
    }
}

/// Whether an answer is one that must not have changed anything.
fn refused(given: &str) -> bool {
    !given.starts_with("ok")
        && !given.starts_with("cycles")
        && !given.starts_with("term")
        && !["booked", "duplicate", "noted", "void", "skipped", "held"].contains(&given)
        && !given.starts_with("quarantined")
}

/// Word by word, numbers by value.
fn same(given: &str, expected: &str) -> bool {
    let value = |word: &str| word.parse::<Amount>().ok();
    let (given, expected): (Vec<_>, Vec<_>) =
        (given.split_whitespace().collect(), expected.split_whitespace().collect());
    given.len() == expected.len()
        && given
            .iter()
            .zip(&expected)
            .all(|(a, b)| a == b || value(a).is_some_and(|number| Some(number) == value(b)))
}
