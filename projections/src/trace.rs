//! Finding a usage record again in the entries of the log, by what its publisher called it.

use tollbook_schemas::batch::UsageBatch;
use tollbook_schemas::entry::Body;
use tollbook_schemas::id::{OrgId, SourceName};
use tollbook_schemas::usage::{Usage, UsagePlace};

use crate::record::{Content, Record};

/// Which record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Whose.
    pub organization: OrgId,
    /// Who published it.
    pub source: SourceName,
    /// What it is called there.
    pub by: By,
}

/// What a publisher calls a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// Its id.
    Id(String),
    /// Its `producerseq`.
    Count(u64),
}

impl Wanted {
    /// Every occurrence in one entry of the log, in order. Entries of others cost next to nothing.
    pub fn find(&self, record: &Record) -> Vec<(UsagePlace, Usage)> {
        let Content::Entry(_, entry) = &record.content else { return Vec::new() };
        let Body::Usage(batch) = &entry.body else { return Vec::new() };
        if !self.published_in(batch) {
            return Vec::new();
        }
        let all = (0_u32..).zip(batch.unpack());
        let wanted = all.filter(|(_, usage)| self.is(usage));
        wanted.map(|(row, usage)| (UsagePlace { position: record.position, row }, usage)).collect()
    }

    /// Whether a batch holds a row of the source that could be it.
    fn published_in(&self, batch: &UsageBatch) -> bool {
        let whose = |index: u32| batch.organizations.get(usize::try_from(index).ok()?);
        let is_source = |(organization, source): &(u32, SourceName)| {
            *source == self.source && whose(*organization) == Some(&self.organization)
        };
        let Some(source) = batch.sources.iter().position(is_source) else { return false };
        let mut of_source = batch.rows.iter().filter(|row| usize::try_from(row.source) == Ok(source));
        match &self.by {
            By::Id(id) => of_source.any(|row| usize::try_from(row.id_length) == Ok(id.len())),
            By::Count(count) => of_source.any(|row| row.producerseq == Some(*count)),
        }
    }

    fn is(&self, usage: &Usage) -> bool {
        let named = match &self.by {
            By::Id(id) => usage.id == *id,
            By::Count(count) => usage.producerseq == Some(*count),
        };
        named && usage.source == self.source && usage.organization == self.organization
    }
}
