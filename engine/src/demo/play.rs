//! Plays the hour: gateways publish over HTTP, organizations pay, cycles close, and the demo counts along.

use futures_util::future::try_join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tollbook_projections::organization::UsageCounts;
use tollbook_schemas::cloudevent;
use tollbook_schemas::id::{ModelName, SourceName};
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::{Charged, Occurred, Usage};

use super::DemoError;
use super::alerts::Told;
use super::books::{Books, money};
use super::budget::{Course, Plan};
use super::cast::{Cast, text};
use super::script::{self, Call, GATEWAYS, GatewayId, Hour, Moment, UNPRICED};
use super::show::{Settling, Stage, grouped};
use super::traffic::Traffic;
use crate::cli::client::Caller;
use crate::clock::Clock;
use crate::node::Node;
use crate::server::{Ready, ServerError};

/// Records of one request: half of what a request may hold.
const BATCH: usize = 500;
/// Records that a gateway sends again when it had no answer.
const REPEATED: usize = 200;
/// Calls to the model that has no price.
const UNPRICED_CALLS: u64 = 24;

/// Plays one hour.
pub(super) struct Player<'a> {
    pub(super) stage: &'a Stage,
    pub(super) node: Node,
    clock: Clock,
    pub(super) hour: Hour,
    pub(super) admin: Caller,
    publisher: Caller,
    pub(super) gateway: Caller,
    pub(super) cast: Cast,
    /// Calls that were not made yet, the next one last.
    calls: Vec<Call>,
    gateways: Vec<Gateway>,
    tiers: Vec<Option<String>>,
    quarantined: usize,
    /// How many vouchers were granted, and how often a tier changed, as recharges said.
    pub(super) vouchers: u64,
    pub(super) tier_changes: u64,
    pub(super) plan: Option<Plan>,
    pub(super) course: Course,
    pub(super) told: Told,
    pub(super) books: Books,
    pub(super) server: String,
    pub(super) token_file: String,
}

/// What reports usage for both organizations.
struct Gateway {
    name: &'static str,
    /// Whether it numbers its records.
    counts: bool,
    /// Records so far.
    records: u64,
    /// The number of its last record, by organization.
    numbers: Vec<u64>,
    offline: bool,
    /// What it has gathered and not sent.
    gathered: Vec<Usage>,
    /// What it sent last, at most [`REPEATED`] records.
    last: Vec<Usage>,
}

impl<'a> Player<'a> {
    /// Waits until the server decides, and sets everybody up.
    pub(super) async fn enter(
        stage: &'a Stage,
        ready: &Ready,
        clock: Clock,
        hour: Hour,
        traffic: &Traffic,
        place: &str,
    ) -> Result<Self, DemoError> {
        let node = ready.node.clone();
        for owner in node.owners() {
            owner.wait_owner().await?;
            // Somebody may have been quicker than our look at the log.
            if owner.read(|state| state.organizations().next().is_some()).await? {
                return Err(DemoError::HoldsLedger(place.to_owned(), "give the demo a log of its own"));
            }
        }
        let server = format!("http://{}", ready.address);
        let file = &ready.admin_token;
        let secret = std::fs::read_to_string(file)
            .map_err(|source| ServerError::AdminToken { path: file.clone(), source })?;
        let admin = Caller::new(&server, secret.trim());
        stage.open(&hour, node.ledger(), place, &server, traffic);
        let cast = Cast::hire(&admin, hour.start).await?;
        stage.cast(&cast);
        let mut calls = script::calls(&hour, traffic, &cast);
        let plan = Plan::of(&hour, &calls, &cast);
        calls.reverse();
        let gateways = GATEWAYS.iter().map(|(name, counts)| Gateway {
            name,
            counts: *counts,
            records: 0,
            numbers: vec![0; cast.organizations.len()],
            offline: false,
            gathered: Vec::new(),
            last: Vec::new(),
        });
        Ok(Self {
            stage,
            node,
            clock,
            hour,
            publisher: Caller::new(&server, &cast.publisher),
            gateway: Caller::new(&server, &cast.gateway),
            admin,
            calls,
            gateways: gateways.collect(),
            tiers: vec![None; cast.organizations.len()],
            quarantined: 0,
            vouchers: 0,
            tier_changes: 0,
            plan,
            course: Course::default(),
            told: Told::default(),
            books: Books::default(),
            cast,
            server,
            token_file: file.display().to_string(),
        })
    }

    /// Plays everything, and lets the clock run afterwards.
    pub(super) async fn play(&mut self) -> Result<(), DemoError> {
        self.set_budget().await?;
        let raise_at = self.plan.as_ref().map(Plan::raise_at);
        for (at, moment) in script::moments(&self.hour, raise_at) {
            self.hour.keep_pace(at).await;
            self.stage.progress(self.hour.seconds_to(at), at, &self.books.total);
            if moment == Moment::CycleEnd {
                self.cycle_end(at).await?;
            }
            self.clock.advance_to(at);
            match moment {
                Moment::Recharge(organization, amount) => self.recharge(at, organization, amount).await?,
                Moment::Tick => {
                    self.tick(at).await?;
                    self.watch_budget(at).await?;
                }
                Moment::CycleEnd => {
                    self.watch_budget(at).await?;
                    self.tell_alerts().await?;
                }
                Moment::RaiseBudget => self.raise_budget(at).await?,
                Moment::SendAgain(gateway) => self.send_again(at, gateway).await?,
                Moment::Offline(gateway, minutes) => self.offline(at, gateway, minutes),
                Moment::Online(gateway) => self.online(at, gateway).await?,
                Moment::Unpriced(gateway) => self.unpriced(at, gateway).await?,
                Moment::Conflict(gateway) => self.conflict(at, gateway).await?,
            }
        }
        self.folded().await?;
        self.tell_alerts().await?;
        self.clock.run();
        Ok(())
    }

    /// Gateways gather the calls made until `at`, and send what they have.
    async fn tick(&mut self, at: Timestamp) -> Result<(), DemoError> {
        while let Some(call) = self.calls.pop_if(|call| call.at < at) {
            if !self.passes(at, &call).await? {
                continue;
            }
            let Some(usage) = self.record(&call)? else { continue };
            if let Some(gateway) = self.gateways.get_mut(call.gateway) {
                gateway.gathered.push(usage);
            }
        }
        let mut batches = Vec::new();
        for gateway in self.gateways.iter_mut().filter(|gateway| !gateway.offline) {
            if !gateway.gathered.is_empty() {
                let batch = std::mem::take(&mut gateway.gathered);
                gateway.last.extend_from_slice(&batch);
                gateway.last.drain(..gateway.last.len().saturating_sub(REPEATED));
                batches.push(batch);
            }
        }
        try_join_all(batches.iter().map(|batch| self.publish(batch))).await?;
        for usage in batches.iter().flatten() {
            self.book(usage);
        }
        Ok(())
    }

    /// What the gateway of a call reports about it.
    fn record(&mut self, call: &Call) -> Result<Option<Usage>, DemoError> {
        let Some(key) = self.cast.keys.get(call.key) else { return Ok(None) };
        let Some(organization) = self.cast.organizations.get(key.organization) else { return Ok(None) };
        let Some(gateway) = self.gateways.get_mut(call.gateway) else { return Ok(None) };
        gateway.records = gateway.records.saturating_add(1);
        let number = gateway.numbers.get_mut(key.organization).map(|number| {
            *number = number.saturating_add(1);
            *number
        });
        Ok(Some(Usage {
            organization: organization.id.clone(),
            charged: Charged::Key(key.id.clone()),
            model: ModelName::parse(call.model)?,
            source: SourceName::parse(gateway.name)?,
            id: format!("req-{:06}", gateway.records),
            occurred: Occurred::Given(call.at),
            producerseq: number.filter(|_| gateway.counts),
            tokens: call.tokens,
            extras: None,
        }))
    }

    /// Sends records as CloudEvents; they are durable afterwards.
    async fn publish(&self, records: &[Usage]) -> Result<(), DemoError> {
        for part in records.chunks(BATCH) {
            let events = Value::Array(part.iter().map(cloudevent::to_event).collect()).to_string();
            let request = self.publisher.request(Method::POST, "/v1/events");
            let request = request.header("content-type", "application/cloudevents-batch+json").body(events);
            self.publisher.send(request).await?;
        }
        Ok(())
    }

    /// Notes in our own books what the ledger is to book.
    fn book(&mut self, usage: &Usage) {
        let Charged::Key(id) = &usage.charged else { return };
        let key = self.cast.keys.iter().find(|key| key.id == *id);
        let project = key.and_then(|key| {
            let organization = self.cast.organizations.get(key.organization)?;
            organization.projects.get(key.project).map(|(project, _)| project.to_string())
        });
        let Some(project) = project else { return };
        let cell = [usage.organization.to_string(), project, usage.model.to_string(), id.to_string()];
        self.books.book(cell, usage.model.as_str(), usage.tokens);
    }

    async fn recharge(&mut self, at: Timestamp, place: usize, amount: &str) -> Result<(), DemoError> {
        let Some(organization) = self.cast.organizations.get(place) else { return Ok(()) };
        let path = format!("/v1/organizations/{}/recharges", organization.id);
        let reference = format!("demo-{place}-{}", self.hour.seconds_to(at));
        let body = json!({ "amount": amount, "reference": reference });
        let answer = self.admin.write(Method::POST, &path, &body).await?;
        let paid = text(&answer, "amount")?;
        let all = text(&answer, "balance/cumulative_recharge")?;
        let line = format!("{} pays {paid} USD, {all} in all", organization.name);
        self.stage.tell(at, "recharge", &line);
        self.books.pay_in(place, money(&answer, "amount")?);
        if answer.get("voucher").is_some() {
            let granted = money(&answer, "voucher/amount")?;
            let line = format!("{} is granted {granted} USD, spent before its cash", organization.name);
            self.stage.tell(at, "voucher", &line);
            self.books.pay_in(place, granted);
            self.vouchers = self.vouchers.saturating_add(1);
        }
        let tier = text(&answer, "balance/tier").ok().map(str::to_owned);
        if let Some(before) = self.tiers.get_mut(place)
            && *before != tier
        {
            let from = before.as_deref().unwrap_or("no tier");
            let to = tier.as_deref().unwrap_or("no tier");
            self.stage.tell(at, "tier", &format!("{}: {from} → {to}", organization.name));
            *before = tier;
            self.tier_changes = self.tier_changes.saturating_add(1);
        }
        Ok(())
    }

    /// Shows what is pending, lets the cycle end, and shows what is settled.
    async fn cycle_end(&self, at: Timestamp) -> Result<(), DemoError> {
        self.folded().await?;
        let before = self.settling().await?;
        self.clock.advance_to(at);
        for owner in self.node.owners() {
            loop {
                let head =
                    owner.read(|state| (state.head().closed_through, state.head().position.next())).await?;
                if head.0 >= at {
                    break;
                }
                owner.wait_applied(head.1).await?;
            }
        }
        let after = self.settling().await?;
        self.stage.cycle(at, &self.cast, &before, &after);
        Ok(())
    }

    /// What budgets compare, of every project in order.
    async fn settling(&self) -> Result<Vec<Settling>, DemoError> {
        let projects =
            self.cast.organizations.iter().flat_map(|of| of.projects.iter().map(move |p| (of, &p.0)));
        let reads = projects.map(|(organization, project)| async move {
            let path = format!("/v1/organizations/{}/projects/{project}/budgets", organization.id);
            let answer = self.admin.get(&path, &[]).await?;
            Ok(Settling {
                settled: money(&answer, "monthly/settled")?,
                pending: money(&answer, "monthly/pending")?,
            })
        });
        try_join_all(reads).await
    }

    /// Waits until everything that is in the log is applied.
    pub(super) async fn folded(&self) -> Result<(), DemoError> {
        for owner in self.node.owners() {
            let last = self.node.log().last(owner.partition()).await?;
            owner.wait_applied(last).await?;
        }
        Ok(())
    }

    /// What became of everything that was sent so far.
    pub(super) async fn counts(&self) -> Result<UsageCounts, DemoError> {
        self.folded().await?;
        let mut all = UsageCounts::default();
        for organization in &self.cast.organizations {
            let id = organization.id.clone();
            let read =
                self.node.owner_of(&id)?.read(move |state| state.organization(&id).map(|of| of.counts));
            let counts = read.await?.unwrap_or_default();
            all.booked = all.booked.saturating_add(counts.booked);
            all.duplicates = all.duplicates.saturating_add(counts.duplicates);
            all.quarantined = all.quarantined.saturating_add(counts.quarantined);
        }
        Ok(all)
    }

    async fn send_again(&mut self, at: Timestamp, gateway: GatewayId) -> Result<(), DemoError> {
        let Some((name, last)) = self.gateways.get(gateway).map(|from| (from.name, from.last.clone())) else {
            return Ok(());
        };
        if last.is_empty() {
            return Ok(());
        }
        let before = self.counts().await?;
        self.publish(&last).await?;
        let after = self.counts().await?;
        let sent = u64::try_from(last.len()).unwrap_or(u64::MAX);
        self.books.repeated = self.books.repeated.saturating_add(sent);
        let line = format!(
            "{name} had no answer and repeats its last {sent}: {} recognized, {} booked twice",
            after.duplicates.saturating_sub(before.duplicates),
            after.booked.saturating_sub(before.booked),
        );
        self.stage.tell(at, "duplicates", &line);
        Ok(())
    }

    fn offline(&mut self, at: Timestamp, gateway: GatewayId, minutes: i64) {
        if let Some(gateway) = self.gateways.get_mut(gateway) {
            gateway.offline = true;
            let line =
                format!("{} loses its connection for {minutes} minutes and keeps its records", gateway.name);
            self.stage.tell(at, "offline", &line);
        }
    }

    async fn online(&mut self, at: Timestamp, gateway: GatewayId) -> Result<(), DemoError> {
        let Some(back) = self.gateways.get_mut(gateway) else { return Ok(()) };
        back.offline = false;
        let (name, kept) = (back.name, back.gathered.len());
        let oldest = back.gathered.iter().map(|usage| usage.occurred.at()).min().unwrap_or(at);
        self.tick(at).await?;
        let late = at.seconds().saturating_sub(oldest.seconds());
        let line = format!(
            "{name} is back and sends {} records, up to {}:{:02} min late",
            grouped(u64::try_from(kept).unwrap_or(u64::MAX)),
            late.div_euclid(60),
            late.rem_euclid(60),
        );
        self.stage.tell(at, "late", &line);
        Ok(())
    }

    async fn unpriced(&mut self, at: Timestamp, gateway: GatewayId) -> Result<(), DemoError> {
        let mut records = Vec::new();
        for call in 1..=UNPRICED_CALLS {
            let tokens = tollbook_schemas::usage::Tokens { input: 100, cached_input: 0, output: call };
            let call = Call { at: at.plus_seconds(-1), gateway, key: 0, model: UNPRICED, tokens };
            records.extend(self.record(&call)?);
        }
        self.quarantine(at, &records, &format!("{} records of {UNPRICED}", records.len())).await
    }

    async fn conflict(&mut self, at: Timestamp, gateway: GatewayId) -> Result<(), DemoError> {
        let last = self.gateways.get(gateway).and_then(|from| from.last.first().cloned());
        let Some(mut usage) = last else { return Ok(()) };
        usage.tokens.output = usage.tokens.output.saturating_add(1_000);
        let what = format!("{} of {}", usage.id, usage.source);
        self.quarantine(at, &[usage], &what).await
    }

    /// Sends what cannot be booked, and shows where it went.
    async fn quarantine(&mut self, at: Timestamp, records: &[Usage], what: &str) -> Result<(), DemoError> {
        self.publish(records).await?;
        self.folded().await?;
        let answer = self.admin.get("/v1/quarantine", &[("limit", Some("1000".to_owned()))]).await?;
        let items = answer.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let new = items.get(self.quarantined..).unwrap_or_default();
        self.books.unbookable =
            self.books.unbookable.saturating_add(u64::try_from(records.len()).unwrap_or(u64::MAX));
        if new.len() != records.len() {
            let line = format!("{} of {} records {what} are in quarantine", new.len(), records.len());
            return Err(DemoError::Differs(line));
        }
        let detail = new.first().map_or(Ok("nothing"), |item| text(item, "detail"))?;
        self.stage.tell(at, "quarantine", &format!("{what}: {detail}"));
        self.quarantined = items.len();
        Ok(())
    }
}
