//! The end of the hour: what the ledger says, held against what was sent.

use std::collections::BTreeMap;

use serde_json::Value;
use tollbook_projections::organization::UsageCounts;

use super::DemoError;
use super::books::{Cell, Sums, money};
use super::cast::{Organization, text};
use super::play::Player;
use super::show::Account;

impl Player<'_> {
    /// Shows what the ledger says, and holds it against what was sent. Errors: they differ.
    pub(super) async fn close_the_books(&mut self) -> Result<(), DemoError> {
        let counts = self.counts().await?;
        self.stage.clear();
        let mut booked = BTreeMap::new();
        for (place, organization) in self.cast.organizations.iter().enumerate() {
            let of_it = self.spend(organization).await?;
            let balance =
                self.admin.get(&format!("/v1/organizations/{}/balance", organization.id), &[]).await?;
            let paid_in = self.books.paid_in.get(&place).copied().unwrap_or_default();
            let left = paid_in - self.books.cost_of(organization.id.as_str());
            if money(&balance, "available")? != left.normalize() {
                let line = format!("{} should have {left} left: {balance}", organization.id);
                return Err(DemoError::Differs(line));
            }
            self.stage.account(&Account { organization, balance: &balance, spend: &of_it });
            booked.extend(of_it);
        }
        if let Some(difference) = self.books.difference(&booked) {
            return Err(DemoError::Differs(difference));
        }
        let expected = UsageCounts {
            booked: self.books.total.requests,
            duplicates: self.books.repeated,
            quarantined: self.books.unbookable,
            settled: 0,
        };
        if counts != expected {
            return Err(DemoError::Differs(format!("counted {counts:?}, expected {expected:?}")));
        }
        self.check_alerts()?;
        let mut total = Sums::default();
        booked.values().for_each(|sums| total.add(sums));
        self.stage.equal(&self.books, &total, booked.len());
        self.stage.told_once(self.told.all());
        let digest = self.admin.get("/v1/digest", &[]).await?;
        self.stage.digest(text(&digest, "position")?, text(&digest, "digest")?);
        self.stage.next(&self.server, &self.token_file, &self.cast);
        Ok(())
    }

    /// What an organization consumed in the hour, by the finest cells that the API tells apart.
    async fn spend(&self, organization: &Organization) -> Result<BTreeMap<Cell, Sums>, DemoError> {
        let path = format!("/v1/organizations/{}/spend", organization.id);
        let query = [
            ("from", Some(self.hour.start.to_string())),
            ("to", Some(self.hour.end.to_string())),
            ("group_by", Some("project,model,api_key".to_owned())),
        ];
        let answer = self.admin.get(&path, &query).await?;
        let buckets = answer.get("buckets").and_then(Value::as_array).into_iter().flatten();
        let results = buckets.filter_map(|bucket| bucket.get("results")?.as_array()).flatten();
        let mut cells: BTreeMap<Cell, Sums> = BTreeMap::new();
        for result in results {
            let name = |member| text(result, member).map(str::to_owned);
            let cell = [organization.id.to_string(), name("project")?, name("model")?, name("api_key")?];
            cells.entry(cell).or_default().add(&Sums::of_answer(result)?);
        }
        Ok(cells)
    }
}
