//! Admission beside a ledger in memory: what is applied there is published as the owner does it. Virtual time.

use std::net::IpAddr;
use std::time::Duration;

use tollbook_engine::admission::refusal::Refusal;
use tollbook_engine::admission::{AdmissionSettings, Admissions, Admitted, Ask, Desk, InFlight};
use tollbook_engine::clock::Clock;
use tollbook_projections::record::Record;
use tollbook_projections::state::Effect;
use tollbook_schemas::command::{Command, OrganizationCommand};
use tollbook_schemas::id::{ModelName, OrgId};
use tollbook_schemas::policy::Meters;
use tollbook_schemas::position::Position;
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::Usage;

use crate::memory::{MemoryLedger, Outcome, PARTITION, ledger_id};
use crate::script::{check, org};

/// A ledger, and admission that knows all of it.
#[derive(Debug)]
pub struct Gate {
    /// The ledger. What is written past this harness is not published.
    pub ledger: MemoryLedger,
    /// Admission.
    pub admissions: Admissions,
    clock: Clock,
}

/// A request as tests write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The secret of its key; in scripts a key's id is its secret.
    pub api_key: String,
    /// Where it comes from.
    pub ip: Option<IpAddr>,
    /// The model.
    pub model: ModelName,
    /// Input tokens.
    pub input: u64,
    /// Most output tokens.
    pub output: Option<u64>,
    /// Units beyond tokens.
    pub meters: Meters,
    /// Its name.
    pub request_id: Option<String>,
    /// How long its lease lives.
    pub lease_seconds: Option<i64>,
}

impl Call {
    /// A call of model `m` by a key of a script.
    pub fn new(key: &str, input: u64, output: u64) -> Self {
        Self {
            api_key: format!("ak_{key}"),
            ip: None,
            model: ModelName::parse("m").unwrap(),
            input,
            output: Some(output),
            meters: Meters::new(),
            request_id: None,
            lease_seconds: None,
        }
    }

    /// The same under a request id.
    #[must_use]
    pub fn named(self, id: &str) -> Self {
        Self { request_id: Some(id.to_owned()), ..self }
    }

    /// What admission is asked.
    pub fn ask(&self) -> Ask<'_> {
        Ask {
            api_key: &self.api_key,
            ip: self.ip,
            model: &self.model,
            input_tokens: self.input,
            max_output_tokens: self.output,
            meters: &self.meters,
            request_id: self.request_id.as_deref(),
            lease_seconds: self.lease_seconds,
            organizations: None,
        }
    }
}

/// Settings that never find State behind the log.
pub fn never_behind(settings: AdmissionSettings) -> AdmissionSettings {
    AdmissionSettings { lag_max: Duration::MAX, ..settings }
}

impl Gate {
    /// Admission as it is after a script.
    #[track_caller]
    pub fn over(script: &str) -> Self {
        Self::of(check(script), AdmissionSettings::default())
    }

    /// Admission that has all of a ledger.
    pub fn of(ledger: MemoryLedger, settings: AdmissionSettings) -> Self {
        let clock = Clock::simulated(ledger.now);
        let admissions = Admissions::new(never_behind(settings), clock.clone(), 1);
        let gate = Self { ledger, admissions, clock };
        gate.desk().load(&gate.ledger.state);
        gate.desk().own(Some(1));
        gate.desk().fresh().caught_up();
        gate
    }

    /// The only partition's accounts.
    pub fn desk(&self) -> &Desk {
        self.admissions.desk(PARTITION).unwrap()
    }

    /// The present instant.
    pub fn now(&self) -> Timestamp {
        self.ledger.now
    }

    /// Lets time pass until an instant.
    pub fn until(&mut self, at: Timestamp) {
        assert!(at >= self.ledger.now, "time goes on");
        self.ledger.now = at;
        self.clock.advance_to(at);
    }

    /// Lets so many milliseconds pass.
    pub fn wait_ms(&mut self, millis: i64) {
        self.until(self.now().plus_nanos(millis * 1_000_000));
    }

    /// Decides a command, applies its entry and publishes it.
    pub fn command(&mut self, command: &Command) -> Result<Outcome, Rejection> {
        let outcome = self.ledger.command(command, None)?;
        if let Outcome::Entry { effects, .. } = &outcome {
            self.publish(effects);
        }
        Ok(outcome)
    }

    /// The same for an organization of a script.
    pub fn order(&mut self, organization: &str, command: OrganizationCommand) -> Result<Outcome, Rejection> {
        self.command(&Command::Organization(org(organization), command))
    }

    /// Usage of one entry.
    pub fn usage(&mut self, usage: &[Usage]) -> Vec<Effect> {
        let effects = self.ledger.usage(usage);
        self.publish(&effects);
        effects
    }

    /// Publishes the last message of the log, which is applied.
    pub fn publish(&self, effects: &[Effect]) {
        self.desk().applied(&self.ledger.state, &self.last_record(), effects);
    }

    /// The last message of the log.
    pub fn last_record(&self) -> Record {
        let position = Position(u64::try_from(self.ledger.log.len()).unwrap());
        let message = self.ledger.log.last().unwrap();
        Record::read(&ledger_id(), PARTITION, position, &message.subject, &message.payload)
    }

    /// Asks whether a call may pass.
    pub fn admit(&self, call: &Call) -> Result<Admitted, Box<Refusal>> {
        self.admissions.admit(&call.ask())
    }

    /// What an organization of a script has in flight.
    pub fn in_flight(&self, organization: &OrgId) -> InFlight {
        self.admissions.in_flight(PARTITION, organization).unwrap()
    }
}
