//! Random walks at the gate: what the engine admits, refuses, promises and counts, beside lists of everything that ever
//! happened. Every figure is compared after every step.
//!
//! `TOLLBOOK_SEEDS=1000 cargo test -p tollbook-tests --test model admission` runs that many seeds, `TOLLBOOK_SEEDS=17..18`
//! one.

mod naive;

use std::collections::BTreeMap;
use std::net::IpAddr;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tollbook_engine::admission::refusal::{Refusal, Retry};
use tollbook_engine::admission::{AdmissionSettings, Admitted, Mode};
use tollbook_projections::budget::Watch;
use tollbook_projections::limits::RateLimits;
use tollbook_projections::spend::ProjectSpend;
use tollbook_projections::state::{Effect, QuarantinedWhat};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::{
    Command, ConfigCommand, NewPrices, NewRateScale, OrganizationCommand, PartitionCommand,
};
use tollbook_schemas::event::Enforcement;
use tollbook_schemas::id::{LeaseId, MeterName, ModelName, MovementId, OrgId, Reason, Reference, SourceName};
use tollbook_schemas::policy::{Change, LagModel, Meters, QuantityOverride, RateOverride};
use tollbook_schemas::price::{ModelPrice, Price};
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::{Charged, Extras, Occurred, Tokens, Usage, UsagePlace};
use tollbook_tests::gate::{Call, Gate};
use tollbook_tests::memory::{Outcome, PARTITION};
use tollbook_tests::script::{check, issue_key, key, org, project, recharge};

use self::naive::{Fate, Gatekeeper, Lease, MILLI, Row, Wait, World};
use crate::walk::told_seeds;

/// Seeds of a run that names none.
const SEEDS: std::ops::Range<u64> = 1..9;
/// Steps of one walk.
const STEPS: u32 = 2_500;
/// Where days are short, long, or missing; and when.
const PLACES: [(&str, &str); 6] = [
    ("UTC", "2026-11-20T10:00:00Z"),
    ("Europe/Berlin", "2026-03-28T20:00:00Z"),
    ("America/Sao_Paulo", "2018-11-03T20:00:00Z"),
    ("Europe/Berlin", "2026-10-24T20:00:00Z"),
    ("Pacific/Apia", "2011-12-29T20:00:00Z"),
    ("Asia/Kolkata", "2026-12-31T10:00:00Z"),
];
const ORGS: [&str; 2] = ["acme", "beta"];
const MODELS: [&str; 3] = ["m", "n", "unknown"];
const PROJECTS: usize = 2;

/// Everything that a run must have reached, or its walks ask too little.
const REACHED: &[&str] = &[
    "admitted",
    "admitted: before",
    "admitted: noted",
    "api_key_revoked",
    "ip_not_allowed",
    "model_not_found",
    "recharge_required",
    "insufficient_balance",
    "project_daily_budget",
    "project_monthly_budget",
    "strict",
    "held back by holds",
    "closed",
    "balance_below_request",
    "organization_concurrency",
    "organization_rpm",
    "organization_tpm",
    "organization_tpd",
    "project_tpm",
    "request_id_conflict",
    "never",
    "waited",
    "waited: over an hour",
    "settled",
    "settled: above the estimate",
    "ended",
    "released",
    "released: settled",
    "renewed",
    "not found",
    "expired",
    "used: a lease",
    "used: a lease that was settled",
    "used: a lease that was over",
    "used: a request",
    "used: another organization's lease",
    "used: nothing",
    "used: again",
    "quarantined",
    "taken out of quarantine",
    "dearer",
    "scaled",
    "empty",
];

struct Org {
    id: OrgId,
    gate: Gatekeeper,
    world: World,
    keys: Vec<String>,
    /// Leases that are gone, and still named.
    old: Vec<LeaseId>,
    requests: Vec<String>,
}

struct Walk {
    seed: u64,
    step: u32,
    rng: StdRng,
    gate: Gate,
    orgs: Vec<Org>,
    observe: bool,
    ids: u128,
    sent: Vec<Usage>,
    held_back: Vec<(usize, UsagePlace)>,
    reached: BTreeMap<String, u64>,
}

#[test]
fn r5_6_r5_7_the_gate_is_what_lists_of_everything_say() {
    let mut reached = BTreeMap::new();
    let mut steps = 0;
    for seed in told_seeds().unwrap_or(SEEDS) {
        let mut walk = Walk::new(seed);
        for step in 1..=STEPS {
            walk.step = step;
            walk.step();
        }
        walk.end();
        steps += STEPS;
        for (what, times) in walk.reached {
            *reached.entry(what).or_insert(0) += times;
        }
    }
    println!("{steps} steps");
    for (what, times) in &reached {
        println!("{times:>9} {what}");
    }
    let missed: Vec<_> = REACHED.iter().filter(|what| !reached.contains_key(**what)).collect();
    assert!(missed.is_empty() || told_seeds().is_some(), "the walks never reached {missed:?}");
}

fn price(units: u64) -> Price {
    format!("{}.{:06}", units / 1_000_000, units % 1_000_000).parse().unwrap()
}

fn model_price(row: &Row) -> ModelPrice {
    let meters = row.image.map(|units| (MeterName::parse("image").unwrap(), price(units)));
    ModelPrice {
        input: price(row.input),
        cached_input: price(row.cached),
        output: price(row.output),
        meters: meters.into_iter().collect(),
        max_output_tokens: row.max_output,
    }
}

impl Walk {
    fn new(seed: u64) -> Self {
        let (zone, at) = PLACES[usize::try_from(seed).unwrap() % PLACES.len()];
        let mut script = format!("at {at}\n");
        for name in ORGS {
            script +=
                &format!("organization {name} zone={zone}\nlevel {name} verified\nlimits {name} keys=1000\n");
            for number in 0..PROJECTS {
                script +=
                    &format!("project {name} {name}{number}\nkey {name} {name}{number} {name}k{number}\n");
            }
        }
        let observe = seed.is_multiple_of(5);
        let settings = AdmissionSettings {
            mode: if observe { Mode::Observe } else { Mode::Enforce },
            keep_estimates: seed.is_multiple_of(4),
            ..AdmissionSettings::default()
        };
        let gate = Gate::of(check(&script), settings.clone());
        let orgs = ORGS.iter().map(|name| {
            let calendar = gate.ledger.state.organization(&org(name)).unwrap().calendar.clone();
            Org {
                id: org(name),
                gate: Gatekeeper { keep_estimates: settings.keep_estimates, ..Gatekeeper::default() },
                world: World {
                    keys: (0..PROJECTS).map(|project| (project, true)).collect(),
                    projects: vec![(true, None); PROJECTS],
                    allowed: Vec::new(),
                    prices: Vec::new(),
                    available: 0,
                    calendar,
                    scale_until: None,
                    default_output: 4_096,
                    budgets: vec![(Watch::default(), ProjectSpend::default()); PROJECTS],
                },
                keys: (0..PROJECTS).map(|number| format!("{name}k{number}")).collect(),
                old: Vec::new(),
                requests: Vec::new(),
            }
        });
        let mut walk = Self {
            seed,
            step: 0,
            rng: StdRng::seed_from_u64(seed),
            orgs: orgs.collect(),
            gate,
            observe,
            ids: 0,
            sent: Vec::new(),
            held_back: Vec::new(),
            reached: BTreeMap::new(),
        };
        for model in 0..2 {
            walk.publish(None, model, 0);
        }
        walk
    }

    fn place(&self) -> String {
        format!("seed={} step={}", self.seed, self.step)
    }

    fn reach(&mut self, what: impl Into<String>) {
        *self.reached.entry(what.into()).or_insert(0) += 1;
    }

    fn chance(&mut self, of_thousand: u32) -> bool {
        self.rng.random_range(0..1_000) < of_thousand
    }

    fn below(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end)
    }

    fn id(&mut self) -> u128 {
        self.ids += 1;
        self.ids
    }

    fn now(&self) -> i64 {
        self.gate.now().nanos()
    }

    fn step(&mut self) {
        self.pass_time();
        let at = self.below(ORGS.len());
        match self.below(1_000) {
            0..520 => self.ask(at),
            520..580 => self.settle(at),
            580..610 => self.release(at),
            610..640 => self.renew(at),
            640..820 => self.usage(),
            820..860 => self.money(at),
            860..890 => self.limits(at),
            890..910 => self.prices(at),
            910..920 => self.scale(),
            920..935 => self.allowlist(at),
            935..945 => self.keys(at),
            945..955 => self.project_limit(at),
            955..963 => self.budgets(at),
            963..966 => self.lag(),
            966..980 => self.release_from_quarantine(),
            _ => {
                if self.chance(300) {
                    self.gate.admissions.sweep();
                }
            }
        }
        self.compare();
    }

    fn pass_time(&mut self) {
        let nanos = match self.below(1_000) {
            0..400 => 0,
            400..800 => self.rng.random_range(0..3_000_000_000),
            800..960 => self.rng.random_range(0..20_000_000_000),
            960..985 => self.rng.random_range(50_000_000_000..70_000_000_000),
            985..993 => self.rng.random_range(300_000_000_000..2_000_000_000_000),
            // Around midnight.
            993..998 => {
                let calendar = &self.orgs[0].world.calendar;
                let midnight = calendar.start_of_day(calendar.day(self.gate.now()).next()).nanos();
                (midnight - self.now() + self.rng.random_range(-3_000_000_000..3_000_000)).max(0)
            }
            _ => self.rng.random_range(40_000_000_000_000..100_000_000_000_000),
        };
        self.move_to(self.now() + nanos);
        // As the owner does, though sometimes late.
        if self.chance(700) {
            self.close();
        }
    }

    fn close(&mut self) {
        let close = Command::Partition(PartitionCommand::CloseCycles);
        if matches!(self.gate.command(&close).unwrap(), Outcome::Entry { .. }) {
            self.reach("closed");
        }
    }

    fn move_to(&mut self, nanos: i64) {
        let at = Timestamp::from_nanos(nanos);
        self.gate.until(at);
        let before: usize = self.orgs.iter().map(|org| org.gate.count()).sum();
        for org in &mut self.orgs {
            org.gate.advance(nanos);
            let today = org.world.calendar.day(at);
            org.gate.forget(nanos, today);
        }
        if self.orgs.iter().map(|org| org.gate.count()).sum::<usize>() < before {
            self.reach("expired");
        }
    }

    /// What State says and others test.
    fn look(&mut self) {
        for (org, name) in self.orgs.iter_mut().zip(ORGS) {
            let known = self.gate.ledger.state.organization(&org.id).unwrap();
            for (number, budgets) in org.world.budgets.iter_mut().enumerate() {
                let project = known.projects.get(&project(&format!("{name}{number}"))).unwrap();
                *budgets = (project.watch.clone(), project.spend.clone());
            }
            let funds = known.purse.funds();
            let (cash, vouchers) = (funds.cash.units(), funds.vouchers.units());
            org.world.available = match known.credit_limit {
                Some(credit) => vouchers + cash + credit.units(),
                None => vouchers + cash.max(0),
            };
        }
    }

    // At the gate.

    fn call(&mut self, at: usize) -> (Call, usize, usize) {
        let mut number = self.below(self.orgs[at].keys.len());
        if !self.orgs[at].world.keys[number].1 && self.chance(900) {
            number = self.below(PROJECTS);
        }
        let model = if self.chance(15) { 2 } else { self.below(2) };
        let input = match self.below(10) {
            0 => 0,
            1..8 => self.rng.random_range(0..3_000),
            _ => self.rng.random_range(0..400_000),
        };
        let output = self.rng.random_range(0..2_000);
        let mut call = Call::new(&self.orgs[at].keys[number], input, output);
        call.model = ModelName::parse(MODELS[model]).unwrap();
        if self.chance(150) {
            call.output = None;
        }
        if self.chance(80) {
            call.meters = Meters::from([(MeterName::parse("image").unwrap(), self.rng.random_range(1..4))]);
        }
        if self.chance(300) {
            let request = format!("r{}", self.rng.random_range(0..8_u32));
            self.orgs[at].requests.push(request.clone());
            call.request_id = Some(request);
        }
        if self.chance(300) {
            call.lease_seconds = Some(self.rng.random_range(1..100));
        }
        let ips: [Option<&str>; 5] =
            [None, Some("8.8.8.8"), Some("8.8.4.4"), Some("::ffff:8.8.8.8"), Some("2001:db8::1")];
        call.ip = ips[self.below(ips.len())].map(|ip| ip.parse::<IpAddr>().unwrap());
        (call, number, model)
    }

    fn ask(&mut self, at: usize) {
        let (call, number, model) = self.call(at);
        self.ask_for(at, &call, number, model);
        if self.chance(100) {
            // The same again, perhaps when it is over, and from somewhere else.
            if self.chance(300) {
                self.pass_time();
            }
            let ip = if self.chance(500) { call.ip } else { None };
            self.ask_for(at, &Call { ip, ..call }, number, model);
        }
    }

    fn ask_for(&mut self, at: usize, call: &Call, number: usize, model: usize) {
        self.look();
        let now = self.now();
        let until = naive::ends_after(now, call.lease_seconds.unwrap_or(600));
        let state = &self.gate.ledger.state;
        let known = state.organization(&self.orgs[at].id).unwrap();
        let limits = |at: i64| RateLimits::of(state.config(), known, Timestamp::from_nanos(at));
        let org = &self.orgs[at];
        let before =
            org.gate.before(call, number).map(|(lease, same)| (lease.id.clone(), lease.expires, same));
        let access = Gatekeeper::access(&org.world, call, number).map(|code| (code, Wait::Never));
        let expected = match &before {
            Some((_, _, true)) => access,
            Some((_, _, false)) => access.or(Some(("request_id_conflict", Wait::Never))),
            None => org.gate.refusal(&org.world, call, (number, model), (now, until), &limits),
        };
        let in_force = limits(now);
        let answer = self.gate.admit(call);
        let place = self.place();
        match (answer, expected) {
            (Err(refusal), Some((code, wait))) if !self.observe => self.refused(&refusal, code, wait),
            (Ok(admitted), noted) if self.observe || noted.is_none() => {
                let told = admitted.granted.noted.as_ref();
                assert_eq!(told.map(|refusal| refusal.code.as_str()), noted.map(|(code, _)| code), "{place}");
                if let (Some(refusal), Some((code, wait))) = (told, noted) {
                    self.reach("admitted: noted");
                    self.refused(&refusal.clone(), code, wait);
                }
                match before.filter(|(_, _, same)| *same) {
                    Some((id, expires, _)) => {
                        self.reach("admitted: before");
                        assert_eq!((admitted.lease, admitted.granted.before), (id, true), "{place}");
                        assert_eq!(admitted.granted.expires_at.nanos(), expires, "{place}");
                    }
                    None => self.admitted(at, call, (number, model), until, &admitted, in_force),
                }
            }
            (answer, expected) => panic!("{place}: {call:?}\n{answer:?}\nexpected {expected:?}"),
        }
    }

    fn refused(&mut self, refusal: &Refusal, code: &str, wait: Wait) {
        let told = match refusal.retry {
            Retry::After(millis) => Wait::After(millis),
            Retry::Hint(_) => Wait::Hint,
            Retry::Never => Wait::Never,
        };
        assert_eq!((refusal.code.as_str(), told), (code, wait), "{}: {refusal:?}", self.place());
        self.reach(code);
        if refusal.held.is_some() {
            self.reach(if wait == Wait::Hint { "held back by holds" } else { "strict" });
        }
        match wait {
            Wait::After(millis) if millis > 3_600_000 => self.reach("waited: over an hour"),
            Wait::After(_) => self.reach("waited"),
            Wait::Never => self.reach("never"),
            Wait::Hint => {}
        }
    }

    fn admitted(
        &mut self,
        at: usize,
        call: &Call,
        (number, model): (usize, usize),
        until: i64,
        admitted: &Admitted,
        in_force: Option<RateLimits>,
    ) {
        self.reach("admitted");
        let (now, place) = (self.now(), self.place());
        let org = &mut self.orgs[at];
        let estimate = naive::estimate_of(&org.world, call, model, now, until);
        let project = org.world.keys[number].0;
        org.gate.reserve(Lease {
            id: admitted.lease.clone(),
            call: call.clone(),
            key: number,
            project,
            model,
            tokens: estimate.map_or(0, |estimate| estimate.tokens),
            output: estimate.map_or(0, |estimate| estimate.output),
            priced: estimate.is_some(),
            hold: estimate.map_or(0, |estimate| estimate.cost),
            admitted: now,
            expires: until,
            day: org.world.calendar.day(Timestamp::from_nanos(now)),
            running: true,
            used: None,
            request: call.request_id.clone(),
            fate: Fate::Open,
        });
        assert_eq!((admitted.granted.before, admitted.granted.expires_at.nanos()), (false, until), "{place}");
        let left = org.world.available - org.gate.held();
        assert_eq!(admitted.granted.available.units(), left, "{place}");
        if self.observe {
            return;
        }
        // INV-9, INV-11: what was promised never exceeds what there is, over any 60 seconds.
        assert!(left >= 0, "{place}: holds exceed what is available");
        let limits = in_force.expect("no tier, no admission");
        assert!(limits.limits.rpm.is_none_or(|limit| org.gate.requests_of_span(now) <= limit), "{place}");
        assert!(limits.limits.concurrency.is_none_or(|limit| org.gate.running() <= limit), "{place}");
        let quotas = admitted.granted.quotas.unwrap();
        let left = |limit: Option<u64>, used: u64| limit.map(|limit| limit.saturating_sub(used));
        let remaining = (
            quotas.concurrency.map(|quota| quota.remaining),
            quotas.requests.map(|quota| quota.remaining),
            quotas.tokens.map(|quota| quota.remaining),
            quotas.tokens_today.map(|quota| quota.remaining),
        );
        let expected = (
            left(limits.limits.concurrency, org.gate.running()),
            left(limits.limits.rpm, org.gate.requests(now)),
            left(limits.limits.tpm, org.gate.tokens(now, None)),
            left(limits.limits.tpd, org.gate.today(now, &org.world.calendar)),
        );
        assert_eq!(remaining, expected, "{place}");
    }

    /// A lease, by its place where it is open.
    fn some_lease(&mut self, at: usize) -> Option<(LeaseId, Option<usize>)> {
        if self.chance(80) && !self.orgs[at].old.is_empty() {
            let which = self.below(self.orgs[at].old.len());
            return Some((self.orgs[at].old[which].clone(), None));
        }
        let leases = &self.orgs[at].gate.leases;
        let open: Vec<_> = (0..leases.len()).filter(|i| leases[*i].fate == Fate::Open).collect();
        if open.is_empty() {
            return None;
        }
        let which = open[self.below(open.len())];
        Some((self.orgs[at].gate.leases[which].id.clone(), Some(which)))
    }

    fn tokens_of(&mut self, at: usize, which: Option<usize>) -> Tokens {
        let (input, output) = match which.map(|which| &self.orgs[at].gate.leases[which]) {
            Some(lease) if self.rng.random_range(0..10) > 0 => (lease.call.input, lease.output),
            Some(lease) => (lease.call.input + 5_000, lease.output + 5_000),
            None => (1_000, 500),
        };
        let input = self.rng.random_range(0..=input);
        let output = self.rng.random_range(0..=output);
        Tokens { input, cached_input: self.rng.random_range(0..=input), output }
    }

    fn settle(&mut self, at: usize) {
        let Some((id, which)) = self.some_lease(at) else { return };
        let actual = (!self.chance(300)).then(|| self.tokens_of(at, which));
        let answer = self.gate.admissions.settle(&id, actual, None);
        let place = self.place();
        let Some(which) = which else {
            assert!(answer.is_err(), "{place}");
            return self.reach("not found");
        };
        let org = &mut self.orgs[at];
        org.gate.settle(&org.world, which, actual);
        let lease = &org.gate.leases[which];
        let ended = answer.unwrap();
        assert_eq!((ended.held.units(), ended.expires_at.nanos()), (lease.hold, lease.expires), "{place}");
        let above =
            actual.is_some_and(|actual| actual.input + actual.output > lease.call.input + lease.output);
        self.reach(if above { "settled: above the estimate" } else { "settled" });
        if actual.is_none() {
            self.reach("ended");
        }
    }

    fn release(&mut self, at: usize) {
        let Some((id, which)) = self.some_lease(at) else { return };
        let answer = self.gate.admissions.release(&id, None);
        assert_eq!(answer.is_ok(), which.is_some(), "{}", self.place());
        if let Some(which) = which {
            if self.orgs[at].gate.release(which) {
                self.orgs[at].old.push(id);
                self.reach("released");
            } else {
                self.reach("released: settled");
            }
        }
    }

    fn renew(&mut self, at: usize) {
        let Some((id, which)) = self.some_lease(at) else { return };
        let seconds = self.rng.random_range(1..2_000);
        let answer = self.gate.admissions.renew(&id, Some(seconds), None);
        let until = naive::ends_after(self.now(), seconds);
        let Some(which) = which else { return assert!(answer.is_err()) };
        assert_eq!(answer.unwrap().nanos(), until);
        let org = &mut self.orgs[at];
        org.gate.leases[which].expires = until;
        org.gate.reprice(&org.world);
        self.reach("renewed");
    }

    // Usage.

    fn usage(&mut self) {
        let mut batch = Vec::new();
        for _ in 0..self.rng.random_range(1..4) {
            let at = self.below(ORGS.len());
            if self.chance(60) && !self.sent.is_empty() {
                let which = self.below(self.sent.len());
                batch.push(self.sent[which].clone());
            } else {
                batch.push(self.record(at));
            }
        }
        let spent = self.spent();
        let effects = self.gate.usage(&batch);
        let position = self.gate.ledger.state.head().position;
        let mut unbooked = Vec::new();
        for effect in &effects {
            match effect {
                Effect::Repeated { rows, .. } => {
                    unbooked.extend(rows.iter().copied());
                    self.reach("used: again");
                }
                Effect::Quarantined(held) => {
                    unbooked.push(held.place.row);
                    self.reach("quarantined");
                    if let QuarantinedWhat::Usage(usage) = &held.what {
                        let at = ORGS.iter().position(|name| org(name) == usage.organization).unwrap();
                        self.held_back.push((at, UsagePlace { position, row: held.place.row }));
                    }
                }
                _ => {}
            }
        }
        self.look();
        let held: Vec<i128> = self.orgs.iter().map(|org| org.gate.held()).collect();
        // What is admitted only to be noted may have no price, and so no hold.
        let mut bounded = !self.observe;
        for (row, usage) in (0_u32..).zip(&batch) {
            if !unbooked.contains(&row) {
                bounded &= self.booked(usage);
            }
        }
        self.sent.extend(batch);
        if self.sent.len() > 200 {
            self.sent.drain(..100);
        }
        // Where every record was an upper bound's, its hold covered its charge.
        if bounded {
            for ((org, held), spent) in self.orgs.iter().zip(held).zip(spent) {
                let known = self.gate.ledger.state.organization(&org.id).unwrap();
                let charged = known.purse.spent().units() - spent;
                assert!(
                    charged <= held - org.gate.held(),
                    "{}: a hold was less than its charge",
                    self.place()
                );
            }
        }
    }

    fn spent(&self) -> Vec<i128> {
        let state = &self.gate.ledger.state;
        self.orgs.iter().map(|org| state.organization(&org.id).unwrap().purse.spent().units()).collect()
    }

    fn record(&mut self, at: usize) -> Usage {
        let named = self.below(10);
        let other = if self.chance(100) { 1 - at } else { at };
        let lease = self.some_lease(other).filter(|_| named < 6);
        let which = lease.as_ref().and_then(|(_, which)| *which).filter(|_| other == at);
        let over = self.orgs[at].gate.leases.iter().position(|lease| lease.fate == Fate::Over);
        let (lease, which) = match over.filter(|_| self.rng.random_range(0..4) == 0) {
            Some(which) => (Some(self.orgs[at].gate.leases[which].id.clone()), Some(which)),
            None => (lease.map(|(id, _)| id), which),
        };
        let known = which.map(|which| self.orgs[at].gate.leases[which].clone());
        let tokens = match &known {
            Some(Lease { used: Some(used), .. }) => *used,
            Some(_) | None => self.tokens_of(at, which),
        };
        let now = self.now();
        let occurred = match (&known, self.below(20)) {
            (Some(lease), 0..16) => {
                self.rng.random_range(lease.admitted..=now.min(lease.expires).max(lease.admitted))
            }
            (_, 0..16) => now - self.rng.random_range(0..60_500) * MILLI,
            (_, 16..18) => now + self.rng.random_range(0..200_000) * MILLI,
            _ => now - self.rng.random_range(0..100_000_000) * MILLI,
        };
        let request = match &known {
            Some(_) => None,
            None if (6..8).contains(&named) => Some(format!("r{}", self.rng.random_range(0..8_u32))),
            None => None,
        };
        let (model, project) = match &known {
            Some(lease) => (lease.model, if self.chance(50) { 1 - lease.project } else { lease.project }),
            None => (self.below(2), self.below(PROJECTS)),
        };
        let model = if self.chance(30) { 2 } else { model };
        let meters = known.as_ref().map(|lease| lease.call.meters.clone()).unwrap_or_default();
        let extras = Extras {
            lease: lease.map(|id| id.as_str().to_owned()),
            request_id: request,
            meters,
            ..Extras::default()
        };
        let id = self.id();
        Usage {
            organization: self.orgs[at].id.clone(),
            charged: Charged::Project(tollbook_tests::script::project(&format!("{}{project}", ORGS[at]))),
            model: ModelName::parse(MODELS[model]).unwrap(),
            source: SourceName::parse("gw").unwrap(),
            id: format!("u{id}"),
            occurred: Occurred::Given(Timestamp::from_nanos(occurred)),
            producerseq: None,
            tokens,
            extras: (!extras.is_empty()).then(|| Box::new(extras)),
        }
    }

    /// Counts a record that was booked; whether it stayed within what was promised for its lease.
    fn booked(&mut self, usage: &Usage) -> bool {
        let at = self.orgs.iter().position(|org| org.id == usage.organization).unwrap();
        let extras = usage.extras.as_deref().cloned().unwrap_or_default();
        let org = &self.orgs[at];
        let mine = org.gate.leases.iter().any(|lease| Some(lease.id.as_str()) == extras.lease.as_deref())
            || org.old.iter().any(|id| Some(id.as_str()) == extras.lease.as_deref());
        let lease = org.gate.named(extras.lease.as_deref(), extras.request_id.as_deref(), mine);
        let found = lease.map(|lease| org.gate.leases[lease].clone());
        self.reach(match (&found, &extras.lease) {
            (Some(lease), _) if lease.fate == Fate::Over => "used: a lease that was over",
            (Some(lease), _) if lease.used.is_some() => "used: a lease that was settled",
            (Some(_), None) => "used: a request",
            (Some(_), Some(_)) => "used: a lease",
            (None, Some(_)) if !mine => "used: another organization's lease",
            (None, _) => "used: nothing",
        });
        let Charged::Project(charged) = &usage.charged else { panic!("usage names projects here") };
        let number =
            (0..PROJECTS).find(|number| project(&format!("{}{number}", ORGS[at])) == *charged).unwrap();
        let (now, occurred) = (self.now(), usage.occurred.at().nanos());
        let tokens = usage.tokens.input + usage.tokens.output;
        let org = &mut self.orgs[at];
        org.gate.used(&org.world.calendar, lease, (number, occurred, tokens), now);
        if let Some(lease) = &found {
            org.old.push(lease.id.clone());
        }
        found.is_some_and(|lease| {
            let kept = match lease.used {
                Some(used) => used == usage.tokens,
                None => usage.tokens.input <= lease.call.input && usage.tokens.output <= lease.output,
            };
            let priced = usage.model.as_str() == MODELS[lease.model];
            let at = (lease.admitted..=lease.expires).contains(&occurred);
            kept && priced && at && lease.fate == Fate::Open && extras.meters == lease.call.meters
        })
    }

    fn release_from_quarantine(&mut self) {
        let Some((at, place)) = self.held_back.pop() else { return };
        let held = self.gate.ledger.quarantine.iter().find(|held| held.place == place).unwrap();
        let QuarantinedWhat::Usage(usage) = held.what.clone() else { return };
        let mended = Usage { model: ModelName::parse("m").unwrap(), ..usage };
        let release = OrganizationCommand::ReleaseUsage { place, usage: Some(Box::new(mended.clone())) };
        if self.gate.order(ORGS[at], release).is_ok() && self.gate.ledger.settled.contains_key(&place) {
            self.look();
            self.booked(&mended);
            self.reach("taken out of quarantine");
        }
    }

    // What changes around it.

    fn money(&mut self, at: usize) {
        let id = self.id();
        match self.below(8) {
            0..4 => {
                let amount = Amount::whole([1, 3, 10, 20][self.below(4)]);
                let command = recharge(self.orgs[at].id.clone(), amount, &format!("ref{id}"), id);
                self.gate.command(&command).unwrap();
            }
            4..6 => {
                let amount = Amount::whole(u32::try_from(self.below(8)).unwrap() + 1).negated();
                let adjust = OrganizationCommand::Adjust {
                    adjustment: MovementId::from_bits(id),
                    amount,
                    reference: Reference::parse(&format!("adj{id}")).unwrap(),
                    reason: Reason::parse("a walk").unwrap(),
                    corrects: None,
                };
                self.gate.order(ORGS[at], adjust).unwrap();
            }
            _ => {
                let limit = [None, Some(Amount::whole(2)), Some(Amount::whole(5))][self.below(3)];
                self.gate.order(ORGS[at], OrganizationCommand::SetCreditLimit(limit)).unwrap();
            }
        }
        self.look();
    }

    fn limits(&mut self, at: usize) {
        let mut change = |of: &[u64]| match self.rng.random_range(0..4) {
            0 => Change::Keep,
            1 => Change::Remove,
            _ => Change::Set(of[self.rng.random_range(0..of.len())]),
        };
        let rates = RateOverride {
            concurrency: change(&[1, 2, 5, 40]),
            rpm: change(&[1, 3, 10, 30]),
            tpm: change(&[3_000, 20_000, 300_000]),
            tpd: change(&[10_000, 200_000, 900_000]),
        };
        let command = OrganizationCommand::OverrideLimits { quantities: QuantityOverride::default(), rates };
        self.gate.order(ORGS[at], command).unwrap();
    }

    fn project_limit(&mut self, at: usize) {
        let which = self.below(PROJECTS);
        let limit = [None, Some(2_000), Some(10_000), Some(90_000_000)][self.below(4)];
        let id = project(&format!("{}{which}", ORGS[at]));
        self.gate.order(ORGS[at], OrganizationCommand::SetTpmLimit { project: id, limit }).unwrap();
        self.orgs[at].world.projects[which].1 = limit;
    }

    fn budgets(&mut self, at: usize) {
        let which = self.below(PROJECTS);
        let mut any = || {
            let of = [None, None, Some("0"), Some("0.05"), Some("0.3"), Some("2"), Some("2"), Some("9")];
            of[self.rng.random_range(0..of.len())].map(|text| text.parse::<Amount>().unwrap())
        };
        let (daily, monthly) = (any(), any());
        let enforcement = [None, Some(Enforcement::Settled), Some(Enforcement::Strict)][self.below(3)];
        let id = project(&format!("{}{which}", ORGS[at]));
        let command = OrganizationCommand::SetBudgets { project: id, daily, monthly, enforcement };
        self.gate.order(ORGS[at], command).unwrap();
    }

    fn lag(&mut self) {
        let (cycle_seconds, delay_seconds) = ([0, 60, 600][self.below(3)], [0, 0, 20, 400][self.below(4)]);
        let lag = LagModel { cycle_seconds, delay_seconds };
        self.gate.command(&Command::Config(ConfigCommand::SetLagModel(lag))).unwrap();
    }

    fn prices(&mut self, at: usize) {
        let own = self.chance(300).then_some(at);
        let model = self.below(2);
        let later = if self.chance(500) { self.rng.random_range(1..900_000_000_000) } else { 0 };
        self.publish(own, model, later);
    }

    fn publish(&mut self, own: Option<usize>, model: usize, later: i64) {
        let from = self.now() + later;
        let any = |rng: &mut StdRng| rng.random_range(0..20_000_000);
        let row = Row {
            own: own.is_some(),
            model,
            from,
            input: any(&mut self.rng),
            cached: any(&mut self.rng),
            output: any(&mut self.rng),
            image: self.chance(700).then_some(30_000_000),
            max_output: self.chance(500).then_some(1_000),
        };
        let list = NewPrices {
            effective_from: Some(Timestamp::from_nanos(from)),
            models: [(ModelName::parse(MODELS[model]).unwrap(), model_price(&row))].into(),
        };
        let currency = "USD".to_owned();
        let held: i128 = self.orgs.iter().map(|org| org.gate.held()).sum();
        match own {
            Some(at) => {
                let command = OrganizationCommand::PublishPrices { currency, list };
                self.gate.order(ORGS[at], command).unwrap();
                self.orgs[at]
                    .world
                    .prices
                    .retain(|known| !(known.own && known.model == model && known.from == from));
                self.orgs[at].world.prices.push(row);
            }
            None => {
                self.gate.command(&Command::Config(ConfigCommand::PublishPrices { currency, list })).unwrap();
                for org in &mut self.orgs {
                    org.world.prices.retain(|known| known.own || known.model != model || known.from != from);
                    org.world.prices.push(row);
                }
            }
        }
        for org in &mut self.orgs {
            org.gate.reprice(&org.world);
        }
        if self.orgs.iter().map(|org| org.gate.held()).sum::<i128>() > held {
            self.reach("dearer");
        }
    }

    fn scale(&mut self) {
        let scale = (!self.chance(300)).then(|| NewRateScale {
            factor: ["0.5", "0.1", "0.75"][self.below(3)].parse().unwrap(),
            until: self.gate.now().plus_nanos(self.rng.random_range(1_000_000..120_000_000_000)),
            reason: Reason::parse("a walk").unwrap(),
            tiers: Vec::new(),
        });
        let until = scale.as_ref().map(|scale| scale.until.nanos());
        self.gate.command(&Command::Config(ConfigCommand::SetRateScale(scale))).unwrap();
        for org in &mut self.orgs {
            org.world.scale_until = until;
        }
        self.reach("scaled");
    }

    fn allowlist(&mut self, at: usize) {
        let lists: [&[(&str, u8)]; 6] =
            [&[], &[], &[], &[], &[("8.8.8.8", 32)], &[("8.8.4.0", 24), ("1.1.1.1", 32)]];
        let list = lists[self.below(lists.len())];
        let nets = list.iter().map(|(net, bits)| format!("{net}/{bits}").parse().unwrap()).collect();
        self.gate.order(ORGS[at], OrganizationCommand::SaveAllowlist(nets)).unwrap();
        self.orgs[at].world.allowed = list.iter().map(|(net, bits)| (net.parse().unwrap(), *bits)).collect();
    }

    fn keys(&mut self, at: usize) {
        let id = self.id();
        if self.chance(500) {
            let which = self.below(self.orgs[at].keys.len());
            // One key of each project stays.
            if which < PROJECTS {
                return;
            }
            let name = key(&self.orgs[at].keys[which]);
            let of = project(&format!("{}{}", ORGS[at], self.orgs[at].world.keys[which].0));
            self.gate.order(ORGS[at], OrganizationCommand::RevokeKey { project: of, key: name }).unwrap();
            self.orgs[at].world.keys[which].1 = false;
        } else {
            let which = self.below(PROJECTS);
            let name = format!("{}x{id}", ORGS[at]);
            let of = project(&format!("{}{which}", ORGS[at]));
            self.gate.command(&issue_key(self.orgs[at].id.clone(), of, key(&name), None)).unwrap();
            self.orgs[at].keys.push(name);
            self.orgs[at].world.keys.push((which, true));
        }
    }

    // Comparing.

    fn compare(&mut self) {
        let (now, place) = (self.now(), self.place());
        for (at, name) in ORGS.into_iter().enumerate() {
            let org = &self.orgs[at];
            // Holds follow prices when something is asked next.
            let call = Call::new(&org.keys[0], 0, 0);
            let _asked = self.gate.admissions.compare(&call.ask()).is_ok();
            let seen = self.gate.in_flight(&org.id);
            assert_eq!(seen.concurrency, org.gate.running(), "{place}: concurrency");
            assert_eq!(seen.requests, org.gate.requests(now), "{place}: requests");
            assert_eq!(seen.tokens, org.gate.tokens(now, None), "{place}: tokens");
            assert_eq!(seen.tokens_today, org.gate.today(now, &org.world.calendar), "{place}: tokens today");
            assert_eq!(seen.leases, org.gate.count(), "{place}: leases");
            assert_eq!(seen.held.units(), org.gate.held(), "{place}: held");
            let by_project: BTreeMap<usize, u64> = seen
                .projects
                .iter()
                .map(|(id, tokens)| {
                    let of = |number: &usize| project(&format!("{name}{number}")) == *id;
                    ((0..PROJECTS).find(of).unwrap(), *tokens)
                })
                .collect();
            assert_eq!(by_project, org.gate.by_project(now, PROJECTS), "{place}: tokens by project");
            for number in 0..PROJECTS {
                let id = project(&format!("{name}{number}"));
                let held = self.gate.admissions.held_for(PARTITION, &org.id, &id).unwrap();
                assert_eq!(held.units(), org.gate.held_for(number, now), "{place}: held for {name}{number}");
            }
            if seen.leases == 0 {
                self.reach("empty");
            }
        }
    }

    /// After everything is over nothing is left: no slot, no token, no cent (INV-10).
    fn end(&mut self) {
        self.compare();
        self.move_to(self.now() + 3 * 86_400_000 * MILLI);
        self.gate.admissions.sweep();
        self.compare();
        for org in &self.orgs {
            let left = self.gate.in_flight(&org.id);
            let counts = (left.concurrency, left.requests, left.tokens, left.tokens_today, left.leases);
            assert_eq!((counts, left.held), ((0, 0, 0, 0, 0), Amount::ZERO), "{}", self.place());
            assert!(left.projects.iter().all(|(_, tokens)| *tokens == 0), "{}", self.place());
        }
    }
}
