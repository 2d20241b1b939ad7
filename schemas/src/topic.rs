//! What an entry is about, and the subject it stands under.

use crate::id::OrgId;
use crate::position::PartitionId;

/// What an entry is about; each is an ordered series of its own within a partition.
///
/// ```text
/// tollbook.log.<p>.usage.<org>    usage of one organization
/// tollbook.log.<p>.usage.mixed    usage of several, packed together
/// tollbook.log.<p>.org.<org>      decisions about an organization
/// tollbook.log.<p>.config         global configuration, cycle closes, ownership
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Usage of one organization.
    Usage(OrgId),
    /// Usage of several organizations.
    UsageMixed,
    /// Decisions about one organization.
    Organization(OrgId),
    /// Global configuration, billing-cycle closes, ownership.
    Config,
}

impl Topic {
    /// The subject of this topic in `partition`.
    pub fn subject(&self, partition: PartitionId) -> String {
        match self {
            Self::Usage(org) => format!("tollbook.log.{partition}.usage.{org}"),
            Self::UsageMixed => format!("tollbook.log.{partition}.usage.mixed"),
            Self::Organization(org) => format!("tollbook.log.{partition}.org.{org}"),
            Self::Config => format!("tollbook.log.{partition}.config"),
        }
    }

    /// The topic of a subject of `partition`, if it is one.
    pub fn of_subject(subject: &str, partition: PartitionId) -> Option<Self> {
        let rest = subject.strip_prefix("tollbook.log.")?;
        let (number, rest) = rest.split_once('.')?;
        if number.parse() != Ok(partition.0) {
            return None;
        }
        match rest.split_once('.') {
            None if rest == "config" => Some(Self::Config),
            Some(("usage", "mixed")) => Some(Self::UsageMixed),
            Some(("usage", org)) => OrgId::parse(org).ok().map(Self::Usage),
            Some(("org", org)) => OrgId::parse(org).ok().map(Self::Organization),
            None | Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_subjects_name_each_other() {
        let partition = PartitionId(3);
        let org = OrgId::from_bits(7);
        for topic in
            [Topic::Usage(org.clone()), Topic::UsageMixed, Topic::Organization(org.clone()), Topic::Config]
        {
            assert_eq!(Topic::of_subject(&topic.subject(partition), partition), Some(topic));
        }
        for foreign in ["tollbook.log.4.config", "tollbook.log.3.configs", "tollbook.log.3.org.acme", "other"]
        {
            assert_eq!(Topic::of_subject(foreign, partition), None, "{foreign}");
        }
    }
}
