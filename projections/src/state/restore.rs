//! State again from the rows that it gave.

use sha2::{Digest, Sha256};
use tollbook_schemas::codec::{self, DecodeError};
use tollbook_schemas::position::PartitionId;

use super::State;
use crate::organization::Organization;
use crate::record::Hash;

/// An organization as its row says: what of restoring can be done for many at the same time.
#[derive(Debug)]
pub struct Restored {
    organization: Organization,
    /// Of the row, which is its canonical bytes.
    hash: Hash,
}

impl Restored {
    /// Reads one of the rows that [`State::take_changed`] gave.
    pub fn read(row: &[u8]) -> Result<Self, DecodeError> {
        let mut organization: Organization = codec::decode_row(row)?;
        share_ids(&mut organization);
        Ok(Self { organization, hash: Sha256::digest(row).into() })
    }
}

/// Lets keys name their project and member by the organization's own copies of those ids, as before it was written:
/// less memory, and booking finds cells by the addresses of ids.
fn share_ids(organization: &mut Organization) {
    let Organization { projects, members, keys, .. } = organization;
    for key in keys.values_mut() {
        if let Some((project, _)) = projects.get_key_value(&key.project) {
            key.project = project.clone();
        }
        if let Some((member, _)) = members.get_key_value(&key.member) {
            key.member = member.clone();
        }
    }
}

impl State {
    /// State again from the bytes that [`State::common_bytes`] and [`State::take_changed`] gave.
    pub fn restore<'a>(
        partition: PartitionId,
        common: &[u8],
        organizations: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, DecodeError> {
        let mut state = Self::restore_common(partition, common)?;
        for row in organizations {
            state.put_back(Restored::read(row)?);
        }
        Ok(state)
    }

    /// State without organizations, to be put back one by one.
    pub(crate) fn restore_common(partition: PartitionId, common: &[u8]) -> Result<Self, DecodeError> {
        let mut state = Self { common: codec::decode_row(common)?, ..Self::empty(partition) };
        state.find_month_end();
        Ok(state)
    }

    /// Puts an organization back that is not there yet.
    pub(crate) fn put_back(&mut self, restored: Restored) {
        let Restored { organization, hash } = restored;
        let has_pending = organization.has_pending() || organization.is_breached();
        let slot = self.insert(organization);
        if let Some(known) = self.slots.get_mut(slot) {
            known.hash = Some(hash);
        }
        if has_pending {
            self.pending.insert(slot);
        }
        self.note_expiry(slot);
        let slots = &self.slots;
        self.secrets.note_all(slot, |slot| slots.get(slot).map(|known| &known.organization));
    }
}
