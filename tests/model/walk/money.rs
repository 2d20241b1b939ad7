//! The walk's money: what is paid back, corrected, granted, lost, closed, sealed, invoiced, moved in.

use std::collections::BTreeMap;

use rand::RngExt;
use tollbook_projections::account::Account;
use tollbook_projections::movement::{Movement, MovementKind, What};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::{
    Command, ConfigCommand, MoveIn, MovedInKey, OrganizationCommand, PartitionCommand,
};
use tollbook_schemas::id::{
    DisplayName, InvoiceId, KeyId, MemberId, ModelName, MovementId, OrgId, ProjectId, Reason, RechargeId,
    Reference, VoucherId,
};
use tollbook_schemas::policy::{Tier, VoucherPolicy};
use tollbook_schemas::position::{LogPosition, PartitionId, Position};
use tollbook_schemas::role::Verification;
use tollbook_schemas::time::Month;
use tollbook_schemas::usage::UsagePlace;
use tollbook_tests::oracle::OracleOrganization;
use tollbook_tests::oracle::money::Kind;
use tollbook_tests::script::{sealed, secret_of};

use super::{Walk, ZONES};
use crate::money::compare::statement_of;

fn units(units: i128) -> Amount {
    Amount::from_units(units).unwrap()
}

impl Walk {
    /// One command about money.
    pub(super) fn money(&mut self) {
        let mut id = self.any_organization();
        if self.chance(500) {
            id = OrgId::from_bits(self.rng.random_range(4..9));
        }
        match self.below(100) {
            0..18 => self.refund(&id),
            18..32 => self.reverse(&id),
            32..40 => self.adjust(&id),
            40..52 => self.grant(&id),
            52..62 => self.expire(&id),
            62..66 => self.credit(&id),
            66..76 => self.unuse(&id),
            76..86 => self.unquarantine(&id),
            86..88 => self.move_in(&OrgId::from_bits(8)),
            88..91 => self.configure(),
            91..94 => self.own_prices(&id),
            _ => self.months(&id),
        }
    }

    fn some_amount(&mut self) -> Amount {
        units(match self.below(100) {
            0..3 => 0,
            3..6 => -self.rng.random_range(1..1_000_000_000_000i128),
            6..8 => 10_000_000_000_000_000_000_000_000_000,
            8..50 => 1_000_000_000_000 * self.rng.random_range(1..6),
            _ => self.rng.random_range(1..8_000_000_000_000),
        })
    }

    /// A reference that is new, or one that a movement of this kind had.
    fn some_reference(&mut self, id: &OrgId, kind: Kind) -> Reference {
        let known: Vec<String> = self.oracle.find(id).map_or_else(Vec::new, |known| {
            let of_kind = known.lines.iter().filter(|line| line.kind == kind);
            of_kind.filter_map(|line| line.reference.clone()).collect()
        });
        if !known.is_empty() && self.chance(200) {
            return Reference::parse(&known[self.below(known.len())]).unwrap();
        }
        // Few enough, so that kinds share them.
        let number = self.id();
        Reference::parse(&format!("payment {number}")).unwrap()
    }

    fn some_reason(&mut self) -> Reason {
        Reason::parse(["mistake", "fraud"][self.below(2)]).unwrap()
    }

    fn some_recharge(&mut self, id: &OrgId) -> RechargeId {
        let known: Vec<RechargeId> = self.oracle.find(id).map_or_else(Vec::new, |known| {
            let recharges = known.lines.iter().filter(|line| line.kind == Kind::Recharge);
            recharges.map(|line| line.recharges[0].clone()).collect()
        });
        if known.is_empty() || self.chance(40) {
            return RechargeId::from_bits(0);
        }
        // The last ones are those that something is left of.
        let few = known.len().min(6);
        let place =
            if self.chance(700) { known.len() - 1 - self.below(few) } else { self.below(known.len()) };
        known[place].clone()
    }

    fn of(&mut self, id: &OrgId, command: OrganizationCommand) {
        let command = Command::Organization(id.clone(), command);
        self.command(&command);
        // The same again, with other ids, is the same.
        if self.chance(100) {
            self.command_with(&command, None);
        }
    }

    fn refund(&mut self, id: &OrgId) {
        let recharge = if self.chance(500) { Some(self.some_recharge(id)) } else { None };
        let mut amount = self.some_amount();
        if self.chance(100) {
            amount = Amount::whole(100_000);
        }
        let bits = self.id();
        let (refund, note) = (MovementId::from_bits(bits), InvoiceId::from_bits(bits));
        let reference = self.some_reference(id, Kind::Refund);
        self.of(id, OrganizationCommand::Refund { refund, amount, reference, recharge, note });
    }

    fn reverse(&mut self, id: &OrgId) {
        let recharge = self.some_recharge(id);
        let amount = if self.chance(700) { Some(self.some_amount()) } else { None };
        let bits = self.id();
        let (reversal, note) = (MovementId::from_bits(bits), InvoiceId::from_bits(bits));
        let (reference, reason) = (self.some_reference(id, Kind::Reversal), self.some_reason());
        let command =
            OrganizationCommand::ReverseRecharge { reversal, recharge, amount, reference, reason, note };
        self.of(id, command);
    }

    fn adjust(&mut self, id: &OrgId) {
        let mut amount = self.some_amount();
        if self.chance(400) {
            amount = amount.negated();
        }
        let corrects = self.chance(300).then(|| {
            let end = self.ledger.state.head().position.0 + 2;
            let partition = PartitionId(u16::from(self.chance(100)));
            LogPosition { partition, position: Position(self.rng.random_range(0..end)) }
        });
        let adjustment = MovementId::from_bits(self.id());
        let (reference, reason) = (self.some_reference(id, Kind::Adjustment), self.some_reason());
        self.of(id, OrganizationCommand::Adjust { adjustment, amount, reference, reason, corrects });
    }

    fn grant(&mut self, id: &OrgId) {
        let now = self.ledger.now;
        let expires_at = match self.below(10) {
            0..3 => None,
            3 => Some(now),
            4 => Some(now.plus_seconds(-self.rng.random_range(0..100_000))),
            // About a week, so that it is about to expire soon.
            5 | 6 => Some(now.plus_seconds(self.rng.random_range(600_000..700_000))),
            _ => Some(now.plus_seconds(self.rng.random_range(1..400_000))),
        };
        let (voucher, amount) = (VoucherId::from_bits(self.id()), self.some_amount());
        let reference = self.some_reference(id, Kind::Grant);
        let reason = if self.chance(500) { Some(self.some_reason()) } else { None };
        self.of(id, OrganizationCommand::GrantVoucher { voucher, amount, reference, expires_at, reason });
    }

    fn expire(&mut self, id: &OrgId) {
        let mut due: Vec<OrgId> = vec![id.clone()];
        if self.chance(700) {
            // As the owner's timer does.
            let now = self.ledger.now;
            let expired = self.ledger.state.expiries().take_while(|(at, _)| *at <= now);
            due.extend(expired.map(|(_, organization)| organization.id.clone()));
        }
        for id in due {
            self.command_with(&Command::Organization(id, OrganizationCommand::ExpireVouchers), None);
        }
    }

    fn credit(&mut self, id: &OrgId) {
        let limit = [None, Some(Amount::whole(5)), Some(Amount::whole(7)), Some(Amount::ZERO)][self.below(4)];
        self.of(id, OrganizationCommand::SetCreditLimit(limit));
    }

    /// Takes a booked record back; now and then one that was taken back before.
    pub(super) fn unuse(&mut self, id: &OrgId) {
        let Some(known) = self.oracle.find(id) else { return };
        let records: Vec<_> = known.booked.iter().filter(|record| !record.back).cloned().collect();
        if records.is_empty() {
            return;
        }
        let few = records.len().min(100);
        let last = records.len() - 1 - self.below(few);
        let place = if self.chance(500) { last } else { self.below(records.len()) };
        let record = records[place].clone();
        let at = UsagePlace { position: Position(record.place.0), row: record.place.1 };
        let usage = self.usage_at[&record.place].clone();
        // What was released was priced where it was released.
        let priced_at = self.ledger.settled.get(&at).filter(|_| record.released);
        let position = priced_at.map_or(at.position, |settled| settled.position);
        let usage = self.mended.get(&record.place).cloned().unwrap_or(usage);
        let organization = self.ledger.state.organization(id).unwrap();
        let booked =
            self.ledger.state.as_booked(organization, &usage, UsagePlace { position, ..at }).unwrap();
        let place = self.place();
        assert_eq!(booked.cost.to_decimal(), record.cost, "{place}: {at} as it was booked");
        assert_eq!(booked.day.date(), record.day, "{place}: {at} as it was booked");
        assert_eq!((&booked.project, &booked.key), (&record.project, &record.key), "{place}: {at}");
        let (reversal, reason) = (MovementId::from_bits(self.id()), self.some_reason());
        let booked = Box::new(booked);
        self.of(id, OrganizationCommand::ReverseUsage { reversal, usage: at, booked, reason });
    }

    /// Releases or dismisses a quarantined record, or tries to.
    fn unquarantine(&mut self, id: &OrgId) {
        let waiting = self.oracle.waiting(id);
        let (place, usage) = match waiting.len() {
            0 => return,
            known => waiting[self.below(known)].clone(),
        };
        let at = UsagePlace { position: Position(place.0), row: place.1 };
        let other = if self.chance(150) { self.any_organization() } else { id.clone() };
        if self.chance(150) {
            let reason = self.some_reason();
            self.of(&other, OrganizationCommand::DismissUsage { place: at, reason });
            return;
        }
        let mended = self.chance(500).then(|| {
            let mut mended = usage.clone();
            mended.charged = self.charged(id);
            mended.model = ModelName::parse("model-1").unwrap();
            mended.tokens = self.tokens();
            mended.extras = None;
            Box::new(mended)
        });
        let before = self.ledger.settled.contains_key(&at);
        let usage = mended.clone();
        self.of(&other, OrganizationCommand::ReleaseUsage { place: at, usage });
        if !before && self.ledger.settled.contains_key(&at) {
            self.reach("released");
            if let Some(mended) = mended {
                self.mended.insert(place, *mended);
            }
        }
    }

    pub(super) fn move_in(&mut self, id: &OrgId) {
        let display = |name: &str| DisplayName::parse(name).unwrap();
        let now = self.ledger.now;
        let bits = self.id();
        let (project, key) = (ProjectId::from_bits(bits), KeyId::from_bits(bits));
        let mut vouchers = Vec::new();
        for _ in 0..self.below(3) {
            let left = units(self.rng.random_range(1..9_000_000_000_000));
            let expires = if self.chance(500) { Some(now.plus_seconds(100_000)) } else { None };
            vouchers.push((VoucherId::from_bits(self.id()), left, expires));
        }
        let new = MoveIn {
            name: display("an organization"),
            email: sealed(),
            creator: MemberId::parse("mem_creator").unwrap(),
            creator_name: sealed(),
            creator_email: sealed(),
            zone: ZONES[self.below(ZONES.len())].parse().unwrap(),
            verification: Verification::Unverified,
            cash: units(self.rng.random_range(-9_000_000_000_000..9_000_000_000_000)),
            cumulative_recharge: units(self.rng.random_range(0..9_000_000_000_000)),
            voucher_granted: self.chance(300),
            references: ["b", "a", "b"].iter().map(|name| Reference::parse(name).unwrap()).collect(),
            vouchers,
            members: Vec::new(),
            projects: vec![(project.clone(), display("a project"))],
            project_roles: Vec::new(),
            keys: vec![MovedInKey {
                secret: secret_of(&key),
                key,
                project,
                member: MemberId::parse("mem_creator").unwrap(),
                name: display("a key"),
                hint: "abcd".into(),
            }],
        };
        self.command(&Command::Organization(id.clone(), OrganizationCommand::MoveIn(Box::new(new))));
    }

    fn configure(&mut self) {
        let command = if self.chance(600) {
            let threshold = Amount::whole([5, 5, 2, 10][self.below(4)]);
            let amount = [Amount::whole(5), Amount::whole(3), Amount::ZERO, units(-1)][self.below(4)];
            let expires_after_days = [None, Some(1), Some(30)][self.below(3)];
            ConfigCommand::SetVoucherPolicy(VoucherPolicy { threshold, amount, expires_after_days })
        } else {
            let ahead = [0, 0, 50_000, -50_000][self.below(4)];
            let low = 1 + self.rng.random_range(0..3);
            let rows = [("Small", low), ("Large", low + 20)];
            let tiers = rows.map(|(name, from)| Tier {
                name: DisplayName::parse(name).unwrap(),
                cumulative_recharge: Amount::whole(from),
                concurrency: None,
                rpm: None,
                tpm: None,
                tpd: None,
            });
            let effective_from = self.ledger.now.plus_seconds(ahead);
            ConfigCommand::PublishTiers { effective_from: Some(effective_from), tiers: tiers.to_vec() }
        };
        self.command(&Command::Config(command));
    }

    fn own_prices(&mut self, id: &OrgId) {
        let (currency, list) = self.price_list();
        self.of(id, OrganizationCommand::PublishPrices { currency, list: list.into() });
    }

    /// What finance does when months are over.
    fn months(&mut self, id: &OrgId) {
        self.command_with(&Command::Partition(PartitionCommand::CloseMonths), None);
        let month = {
            let zone_month = self.oracle.find(id).map(|known| known.month(self.ledger.now));
            let Some(now) = zone_month else { return };
            match self.below(6) {
                0 => now,
                1..5 => before(now),
                _ => before(before(now)),
            }
        };
        if self.chance(500) {
            let known = self.ledger.state.organization(id).unwrap();
            let due = self.ledger.state.is_closed(known, month)
                && known.waiting_for_seals().any(|waiting| waiting == month);
            let hash = if due { statement_of(&self.ledger, known, month).hash() } else { [1; 32] };
            self.of(id, OrganizationCommand::SealStatement { month, hash });
        } else {
            let invoice = InvoiceId::from_bits(self.id());
            self.of(id, OrganizationCommand::IssueInvoice { invoice, month });
        }
    }

    /// To the edge of a month somewhere.
    pub(super) fn until_month_end(&mut self) -> i64 {
        let end = self.ledger.state.month_end().unwrap_or(self.ledger.now);
        let edge = end.seconds() - self.ledger.now.seconds() - i64::from(self.chance(500));
        edge.max(0)
    }

    /// Purse, vouchers one by one, totals, trial balance, months and documents of one organization.
    pub(super) fn compare_money(&self, expected: &OracleOrganization) {
        let place = self.place();
        let (id, known) = (&expected.id, self.ledger.state.organization(&expected.id).unwrap());
        let purse = &known.purse;
        let vouchers: Vec<_> = purse
            .each_voucher()
            .iter()
            .map(|voucher| (voucher.left.to_decimal(), voucher.expires_at, voucher.of_policy))
            .collect();
        let wanted: Vec<_> = expected
            .in_order()
            .iter()
            .map(|voucher| (voucher.left, voucher.expires_at, voucher.policy))
            .collect();
        assert_eq!(vouchers, wanted, "{place}: vouchers of {id}");
        assert_eq!(purse.voucher_granted(), expected.policy_granted, "{place}: {id}");
        let totals = purse.totals();
        let given = [
            (Kind::Recharge, totals.recharged),
            (Kind::Refund, totals.refunded.negated()),
            (Kind::Reversal, totals.charged_back.negated()),
            (Kind::Adjustment, totals.adjusted),
            (Kind::Grant, totals.granted),
            (Kind::Expiry, totals.expired.negated()),
            (Kind::Withdrawal, totals.withdrawn.negated()),
            (Kind::Opening, totals.moved_in.cash),
            (Kind::BroughtVoucher, totals.moved_in.vouchers),
        ];
        for (kind, total) in given {
            assert_eq!(total.to_decimal(), expected.sum(kind), "{place}: {kind:?} of {id}");
        }
        assert_eq!(totals.spent.cash.to_decimal(), expected.spent_cash, "{place}: {id} spent in cash");
        let trial = purse.trial_balance().unwrap();
        for (account, (name, balance)) in Account::ALL.into_iter().zip(expected.trial_balance()) {
            assert_eq!((account.name(), trial.of(account).to_decimal()), (name, balance), "{place}: {id}");
        }
        assert_eq!(known.waiting_for_seals().collect::<Vec<_>>(), expected.waiting(), "{place}: {id}");
        let documents = expected.lines.iter().filter(|line| line.number.is_some()).count();
        assert_eq!(known.documents, u64::try_from(documents).unwrap(), "{place}: documents of {id}");
        assert_eq!(known.counts.settled, expected.settlements, "{place}: {id}");
        let limit = known.credit_limit.map(Amount::to_decimal);
        assert_eq!(limit, expected.credit_limit, "{place}: {id}");
        let next = expected.vouchers.iter().flat_map(|voucher| [voucher.expires_at, voucher.notice_at()]);
        let next = next.flatten().min();
        let noted = self.ledger.state.expiries().find(|(_, of)| of.id == *id).map(|(at, _)| at);
        assert_eq!(noted, next, "{place}: the next expiry of {id}");
    }

    /// Every line, and every month that ended.
    pub(super) fn compare_books(&self, expected: &OracleOrganization) {
        let (place, id) = (self.place(), &expected.id);
        let mine: Vec<&Movement> =
            self.ledger.movements.iter().filter(|(of, _)| of == id).map(|(_, movement)| movement).collect();
        assert_eq!(mine.len(), expected.lines.len(), "{place}: lines of {id}");
        for (movement, line) in mine.iter().zip(&expected.lines) {
            let given = (
                kind_of(movement),
                movement.reference.as_ref().map(ToString::to_string),
                (movement.position.0, movement.month),
                movement.change.cash.to_decimal(),
                movement.change.vouchers.to_decimal(),
            );
            let wanted =
                (line.kind, line.reference.clone(), (line.position, line.month), line.cash, line.vouchers);
            assert_eq!(given, wanted, "{place}: {id}");
        }
        let known = self.ledger.state.organization(id).unwrap();
        let mut months: BTreeMap<Month, [_; 3]> = BTreeMap::new();
        for (of, ended) in &self.ledger.months {
            if of == id {
                months.insert(ended.month, [ended.opening, ended.usage, ended.closing]);
            }
        }
        months.insert(known.month.month, [known.month.opening, known.month.usage, purse_of(known)]);
        for (month, figures) in months {
            let figures = figures.map(|funds| (funds.cash.to_decimal(), funds.vouchers.to_decimal()));
            assert_eq!(figures, expected.statement(month), "{place}: {month} of {id}");
        }
    }
}

fn purse_of(
    organization: &tollbook_projections::organization::Organization,
) -> tollbook_projections::purse::Funds {
    organization.purse.funds()
}

fn before(month: Month) -> Month {
    match month.month {
        1 => Month { year: month.year - 1, month: 12 },
        number => Month { month: number - 1, ..month },
    }
}

fn kind_of(movement: &Movement) -> Kind {
    match (movement.kind(), &movement.what) {
        (_, What::MovedInReference) => Kind::BroughtReference,
        (_, What::VoucherGrant { grant: tollbook_projections::movement::Grant::MovedIn, .. }) => {
            Kind::BroughtVoucher
        }
        (MovementKind::Recharge, _) => Kind::Recharge,
        (MovementKind::Refund, _) => Kind::Refund,
        (MovementKind::RechargeReversal, _) => Kind::Reversal,
        (MovementKind::Adjustment, _) => Kind::Adjustment,
        (MovementKind::VoucherGrant, _) => Kind::Grant,
        (MovementKind::VoucherExpiry, _) => Kind::Expiry,
        (MovementKind::VoucherWithdrawal, _) => Kind::Withdrawal,
        (MovementKind::UsageReversal, _) => Kind::UsageReversal,
        (MovementKind::OpeningBalance, _) => Kind::Opening,
        (MovementKind::Invoice, _) => Kind::Invoice,
        (MovementKind::CreditNote, _) => Kind::CreditNote,
    }
}
