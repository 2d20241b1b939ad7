//! Rows about money: what is paid back, corrected, granted, lost, closed, sealed, invoiced, moved in.

use std::collections::BTreeMap;

use tollbook_projections::movement::{MovementKind, What};
use tollbook_projections::past::Settling;
use tollbook_projections::purse::Funds;
use tollbook_projections::state::Effect;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::{
    Command, ConfigCommand, MoveIn, MovedInKey, MovedInMember, NewRateScale, OrganizationCommand,
    PartitionCommand,
};
use tollbook_schemas::id::{
    DisplayName, InvoiceId, ModelName, MovementId, Reason, RechargeId, Reference, VoucherId,
};
use tollbook_schemas::policy::{Tier, VoucherPolicy};
use tollbook_schemas::price::{ModelPrice, Price, PriceList};
use tollbook_schemas::role::{OrgRole, ProjectRole, Verification};
use tollbook_schemas::time::{Month, Timestamp};
use tollbook_schemas::usage::{Charged, Usage, UsagePlace};

use super::people::bare;
use super::{Given, Run, Words, key, member, org, project, sealed, secret_of, words};

/// The id of a voucher that a script names.
pub fn voucher(name: &str) -> VoucherId {
    VoucherId::parse(&format!("{}{name}", VoucherId::PREFIX)).unwrap()
}

fn reference(given: &mut Words<'_>) -> Reference {
    Reference::parse(given.take("ref").unwrap()).unwrap()
}

fn reason(given: &mut Words<'_>) -> Reason {
    Reason::parse(given.take("why").unwrap_or("because")).unwrap()
}

fn amount(text: &str) -> Amount {
    text.parse().unwrap()
}

/// The list of a row that publishes prices.
pub(super) fn price_list(given: &mut Words<'_>, model: usize, now: Timestamp) -> PriceList {
    let mut price = |name| given.take(name).unwrap_or("0").parse::<Price>().unwrap();
    let (input, cached_input, output) = (price("input"), price("cached"), price("output"));
    let effective_from = given.take("from").map_or(now, |from| from.parse::<Timestamp>().unwrap());
    let meters = given.meters().into_iter().map(|(name, price)| (name, price.parse().unwrap())).collect();
    let price = ModelPrice { input, cached_input, output, meters, max_output_tokens: None };
    let models = BTreeMap::from([(ModelName::parse(given.word(model)).unwrap(), price)]);
    PriceList { effective_from, models }
}

fn shown(funds: Funds) -> String {
    format!("{} {}", funds.cash, funds.vouchers)
}

impl Run {
    /// A row about money; `None` where there is no such row.
    pub(super) fn money(&mut self, verb: &str, given: &mut Words<'_>) -> Option<Given> {
        if let Some((places, command)) = self.money_command(verb, given) {
            given.done(places);
            return Some(self.decide(&Command::Organization(org(given.word(0)), command)));
        }
        Some(match verb {
            "move-in" => {
                let command = OrganizationCommand::MoveIn(Box::new(self.move_in(given)));
                given.done(1);
                self.decide(&Command::Organization(org(given.word(0)), command))
            }
            "policy" => {
                let policy = VoucherPolicy {
                    threshold: amount(given.take("threshold").unwrap()),
                    amount: amount(given.take("amount").unwrap()),
                    expires_after_days: given.take("days").map(|days| days.parse().unwrap()),
                };
                given.done(0);
                self.decide(&Command::Config(ConfigCommand::SetVoucherPolicy(policy)))
            }
            "tiers" => {
                let from = given.take("from").map(|from| from.parse().unwrap());
                let tiers = given.placed.iter().map(|row| {
                    let (name, from) = row.split_once(':').unwrap();
                    Tier {
                        name: DisplayName::parse(name).unwrap(),
                        cumulative_recharge: amount(from),
                        concurrency: None,
                        rpm: None,
                        tpm: None,
                        tpd: None,
                    }
                });
                let (effective_from, tiers) = (Some(from.unwrap_or(self.ledger.now)), tiers.collect());
                given.done(given.placed.len());
                self.decide(&Command::Config(ConfigCommand::PublishTiers { effective_from, tiers }))
            }
            "scale" => {
                let scale = Some(given.word(0)).filter(|factor| *factor != "none").map(|factor| {
                    let tiers = given.take("tiers").map_or_else(Vec::new, |tiers| {
                        tiers.split(',').map(|name| DisplayName::parse(name).unwrap()).collect()
                    });
                    let until = given.take("until").unwrap().parse().unwrap();
                    NewRateScale { factor: factor.parse().unwrap(), until, reason: reason(given), tiers }
                });
                given.done(1);
                self.decide(&Command::Config(ConfigCommand::SetRateScale(scale)))
            }
            "months" => {
                given.done(0);
                self.decide(&Command::Partition(PartitionCommand::CloseMonths))
            }
            "book" => {
                given.done(0);
                let (command, topic, entry) = self.held.take().unwrap();
                let outcome = self.ledger.book(&topic, &entry);
                self.told(&command, outcome)
            }
            _ => return self.money_question(verb, given),
        })
    }

    fn money_command(&mut self, verb: &str, given: &mut Words<'_>) -> Option<(usize, OrganizationCommand)> {
        self.ids += 1;
        let bits = self.ids;
        let (movement, note) = (MovementId::from_bits(bits), InvoiceId::from_bits(bits));
        let month = |given: &Words<'_>| given.word(1).parse::<Month>().unwrap();
        let command = match verb {
            "refund" => {
                let recharge = given.take("of").map(|name| self.recharge_of(given.word(0), name));
                let (amount, reference) = (amount(given.word(1)), reference(given));
                (2, OrganizationCommand::Refund { refund: movement, amount, reference, recharge, note })
            }
            "reverse" => {
                let recharge = self.recharge_of(given.word(0), given.word(1));
                let amount = given.placed.get(2).map(|text| amount(text));
                let (reference, reason) = (reference(given), reason(given));
                let reversal = movement;
                let command = OrganizationCommand::ReverseRecharge {
                    reversal,
                    recharge,
                    amount,
                    reference,
                    reason,
                    note,
                };
                (given.placed.len(), command)
            }
            "adjust" => {
                let corrects = given.take("corrects").map(|entry| entry.parse().unwrap());
                let (amount, adjustment) = (amount(given.word(1)), movement);
                let (reference, reason) = (reference(given), reason(given));
                (2, OrganizationCommand::Adjust { adjustment, amount, reference, reason, corrects })
            }
            "grant" => {
                let command = OrganizationCommand::GrantVoucher {
                    voucher: voucher(given.word(1)),
                    amount: amount(given.word(2)),
                    reference: reference(given),
                    expires_at: given.take("expires").map(|at| at.parse().unwrap()),
                    reason: given.take("why").map(|why| Reason::parse(why).unwrap()),
                };
                (3, command)
            }
            "expire" => (1, OrganizationCommand::ExpireVouchers),
            "credit" => {
                let limit = Some(given.word(1)).filter(|limit| *limit != "none").map(amount);
                (2, OrganizationCommand::SetCreditLimit(limit))
            }
            "own-price" => {
                let list = price_list(given, 1, self.ledger.now);
                let currency = given.take("currency").unwrap_or("USD").to_owned();
                (2, OrganizationCommand::PublishPrices { currency, list: list.into() })
            }
            "unuse" => {
                let (place, usage) = self.place_of(given.word(0), given.word(1));
                // What was released was booked by prices as they were known then.
                let position =
                    self.ledger.settled.get(&place).map_or(place.position, |settled| settled.position);
                let organization = self.organization(given.word(0));
                let at = UsagePlace { position, ..place };
                let booked = self.ledger.state.as_booked(organization, &usage, at);
                let booked = Box::new(booked.expect("only what was booked can be taken back"));
                let (reversal, reason) = (movement, reason(given));
                (2, OrganizationCommand::ReverseUsage { reversal, usage: place, booked, reason })
            }
            "release" => {
                let from = given.take("from").unwrap_or_else(|| given.word(0));
                let (place, mut usage) = self.place_of(from, given.word(1));
                let mut mended = false;
                if let Some(name) = given.take("of") {
                    (usage.organization, mended) = (org(name), true);
                }
                if let Some(name) = given.take("key") {
                    (usage.charged, mended) = (Charged::Key(key(name)), true);
                }
                if let Some(name) = given.take("model") {
                    (usage.model, mended) = (ModelName::parse(name).unwrap(), true);
                }
                if let Some(units) = given.take("in") {
                    (usage.tokens.input, mended) = (units.parse().unwrap(), true);
                }
                let usage = mended.then(|| Box::new(usage));
                (2, OrganizationCommand::ReleaseUsage { place, usage })
            }
            "dismiss" => {
                let from = given.take("from").unwrap_or_else(|| given.word(0));
                let (place, _) = self.place_of(from, given.word(1));
                (2, OrganizationCommand::DismissUsage { place, reason: reason(given) })
            }
            "seal" => {
                let hash = [given.take("hash").map_or(7, |hash| hash.parse().unwrap()); 32];
                (2, OrganizationCommand::SealStatement { month: month(given), hash })
            }
            "invoice" => (2, OrganizationCommand::IssueInvoice { invoice: note, month: month(given) }),
            _ => return None,
        };
        Some(command)
    }

    fn move_in(&mut self, given: &mut Words<'_>) -> MoveIn {
        fn items<'a>(given: &mut Words<'a>, name: &str) -> Vec<&'a str> {
            given.take(name).map(|items| items.split(',').collect()).unwrap_or_default()
        }
        let display = |name: &str| DisplayName::parse(name).unwrap();
        let vouchers = items(given, "vouchers").into_iter().map(|item| {
            let (name, left) = item.split_once(':').unwrap();
            let (left, expires_at) = left.split_once('@').map_or((left, None), |(left, at)| (left, Some(at)));
            (voucher(name), amount(left), expires_at.map(|at| at.parse().unwrap()))
        });
        let vouchers = vouchers.collect();
        let members = items(given, "members").into_iter().map(|name| MovedInMember {
            member: member(name),
            name: sealed(),
            email: sealed(),
            role: OrgRole::Member,
        });
        let members = members.collect();
        let pair = |item: &'_ str| {
            let (left, right) = item.split_once(':').unwrap();
            (left.to_owned(), right.to_owned())
        };
        let roles = items(given, "roles").into_iter().map(pair);
        let project_roles =
            roles.map(|(of, who)| (project(&of), member(&who), ProjectRole::Member)).collect();
        let keys = items(given, "keys").into_iter().map(pair).map(|(name, of)| MovedInKey {
            secret: secret_of(&key(&name)),
            key: key(&name),
            project: project(&of),
            member: member(given.named.get("key-of").copied().unwrap_or("creator")),
            name: display("a key"),
            hint: "abcd".into(),
        });
        let keys = keys.collect();
        given.take("key-of");
        MoveIn {
            name: display("an organization"),
            email: sealed(),
            creator: member("creator"),
            creator_name: sealed(),
            creator_email: sealed(),
            zone: given.take("zone").unwrap_or("UTC").parse().unwrap(),
            verification: given.take("level").map_or(Verification::Unverified, super::people::level),
            cash: amount(given.take("cash").unwrap_or("0")),
            cumulative_recharge: amount(given.take("recharged").unwrap_or("0")),
            voucher_granted: given.take("granted").is_some_and(|granted| granted == "yes"),
            references: items(given, "refs")
                .into_iter()
                .map(|name| Reference::parse(name).unwrap())
                .collect(),
            vouchers,
            members,
            projects: items(given, "projects")
                .into_iter()
                .map(|name| (project(name), display(name)))
                .collect(),
            project_roles,
            keys,
        }
    }

    /// The recharge that used a reference; one that does not exist where none did.
    fn recharge_of(&self, organization: &str, name: &str) -> RechargeId {
        let found = self.ledger.movements.iter().find_map(|(of, movement)| match &movement.what {
            What::Recharge { recharge } if *of == org(organization) => {
                movement.reference.as_ref().filter(|of| of.as_str() == name).map(|_| recharge.clone())
            }
            _ => None,
        });
        found.unwrap_or_else(|| RechargeId::from_bits(u128::MAX))
    }

    fn place_of(&self, organization: &str, id: &str) -> (UsagePlace, Usage) {
        let found = self.places.get(&(org(organization), id.to_owned()));
        found.cloned().unwrap_or_else(|| panic!("no record {id} came"))
    }

    /// What an entry moved, in words.
    pub(super) fn moved(&self, effects: &[Effect]) -> Vec<String> {
        let told = effects.iter().filter_map(|effect| match effect {
            Effect::Moved { movement, .. } => {
                let change = movement.change;
                match &movement.what {
                    What::Refund { .. } => Some(format!("paid {}", change.cash.negated())),
                    What::RechargeReversal { .. } => Some(format!("taken {}", change.cash.negated())),
                    What::VoucherWithdrawal { .. } => {
                        Some(format!("withdrawn {}", change.vouchers.negated()))
                    }
                    What::VoucherExpiry { .. } => Some(format!("lost {}", change.vouchers.negated())),
                    What::UsageReversal { back, .. } => Some(format!("back {}", shown(*back))),
                    What::CreditNote { number, amount, .. } => Some(format!("credit {number} {amount}")),
                    What::Invoice { number, recharges, .. } => {
                        let lines = recharges
                            .iter()
                            .map(|(recharge, paid)| format!(" {}:{paid}", self.reference_of(recharge)));
                        Some(format!("invoice {number}{}", lines.collect::<String>()))
                    }
                    What::Recharge { .. }
                    | What::MovedInReference
                    | What::Adjustment { .. }
                    | What::VoucherGrant { .. }
                    | What::OpeningBalance { .. } => None,
                }
            }
            Effect::Settled { settled, .. } => Some(match &settled.how {
                Settling::Released => "released".to_owned(),
                Settling::Dismissed(reason) => format!("dismissed {reason}"),
            }),
            _ => None,
        });
        told.collect()
    }

    fn reference_of(&self, wanted: &RechargeId) -> String {
        let found = self.ledger.movements.iter().find_map(|(_, movement)| match &movement.what {
            What::Recharge { recharge } if recharge == wanted => movement.reference.clone(),
            _ => None,
        });
        found.unwrap().to_string()
    }

    fn money_question(&self, verb: &str, given: &Words<'_>) -> Option<Given> {
        let answer = match verb {
            "vouchers" => {
                let vouchers = self.organization(given.word(0)).purse.each_voucher().iter();
                // One that came of something else has an id of no name.
                let name = |id: &VoucherId| {
                    let name = bare(id.as_str());
                    if name.len() > 20 { "-".to_owned() } else { name.to_owned() }
                };
                let each: Vec<_> =
                    vouchers.map(|known| format!("{}:{}", name(&known.voucher), known.left)).collect();
                words(if each.is_empty() { "none".to_owned() } else { each.join(" ") })
            }
            "books" => {
                let trial = self.organization(given.word(0)).purse.trial_balance().unwrap();
                Given::Values(trial.iter().map(|(account, sum)| (account.name(), sum.to_string())).collect())
            }
            "ledger" => {
                let trial = self.ledger.state.trial_balance().unwrap();
                let mut values: Vec<_> =
                    trial.iter().map(|(account, sum)| (account.name(), sum.to_string())).collect();
                values.push(("sum", trial.sum().unwrap().to_string()));
                given.done(0);
                return Some(Given::Values(values));
            }
            "due" => {
                let state = &self.ledger.state;
                let expiries =
                    state.expiries().map(|(at, known)| format!("{}@{at}", bare(known.id.as_str())));
                let mut due: Vec<_> = expiries.collect();
                due.extend(state.month_end().map(|at| format!("month@{at}")));
                given.done(0);
                return Some(words(due.join(" ")));
            }
            "lines" => {
                let month = given.placed.get(1).map(|month| month.parse::<Month>().unwrap());
                let mine = self.ledger.movements.iter().filter(|(of, movement)| {
                    *of == org(given.word(0)) && month.is_none_or(|month| movement.month == month)
                });
                let line = |kind: MovementKind, reference: Option<&Reference>, change: Funds| {
                    let reference = reference.map_or("-", Reference::as_str);
                    format!("{}/{reference}/{}/{}", kind.code(), change.cash, change.vouchers)
                };
                let lines: Vec<_> =
                    mine.map(|(_, of)| line(of.kind(), of.reference.as_ref(), of.change)).collect();
                given.done(given.placed.len());
                return Some(words(if lines.is_empty() { "none".to_owned() } else { lines.join(" ") }));
            }
            "statement" => {
                let (name, month) = (given.word(0), given.word(1).parse::<Month>().unwrap());
                given.done(2);
                return Some(self.statement(name, month));
            }
            "unsealed" => {
                let known = self.organization(given.word(0));
                let months: Vec<_> = known.unsealed.iter().map(Month::to_string).collect();
                words(if months.is_empty() { "none".to_owned() } else { months.join(" ") })
            }
            "seals" => {
                let mine = self.ledger.seals.iter().filter(|(of, _)| *of == org(given.word(0)));
                let months: Vec<_> =
                    mine.map(|(_, seal)| format!("{}:{}", seal.month, seal.hash[0])).collect();
                words(if months.is_empty() { "none".to_owned() } else { months.join(" ") })
            }
            "money" => {
                let known = self.organization(given.word(0));
                let totals = known.purse.totals();
                Given::Values(vec![
                    ("recharged", totals.recharged.to_string()),
                    ("refunded", totals.refunded.to_string()),
                    ("charged_back", totals.charged_back.to_string()),
                    ("adjusted", totals.adjusted.to_string()),
                    ("granted", totals.granted.to_string()),
                    ("expired", totals.expired.to_string()),
                    ("withdrawn", totals.withdrawn.to_string()),
                    ("credit", known.credit_limit.map_or("none".to_owned(), |limit| limit.to_string())),
                    ("documents", known.documents.to_string()),
                    ("settled", known.counts.settled.to_string()),
                    ("recent", known.recent.movements().count().to_string()),
                ])
            }
            _ => return None,
        };
        given.done(1);
        Some(answer)
    }

    /// What a month came to: of the books that ended, or of those that are open.
    fn statement(&self, name: &str, month: Month) -> Given {
        let known = self.organization(name);
        let ended = self.ledger.months.iter().find(|(of, ended)| *of == org(name) && ended.month == month);
        let (opening, usage, closing, ended) = match ended {
            Some((_, ended)) => (ended.opening, ended.usage, ended.closing, "yes"),
            None if known.month.month == month => {
                (known.month.opening, known.month.usage, known.purse.funds(), "no")
            }
            None => return words("none"),
        };
        Given::Values(vec![
            ("opening", format!("{}/{}", opening.cash, opening.vouchers)),
            ("usage", format!("{}/{}", usage.cash, usage.vouchers)),
            ("closing", format!("{}/{}", closing.cash, closing.vouchers)),
            ("ended", ended.to_owned()),
            ("closed", if self.ledger.state.is_closed(known, month) { "yes" } else { "no" }.to_owned()),
        ])
    }
}
