//! Which partition an organization lives in. Fixed for ever: entries stand where this put them.

use sha2::{Digest, Sha256};
use tollbook_schemas::id::OrgId;
use tollbook_schemas::position::PartitionId;

/// The partition of an organization in a ledger of `partitions`: the first eight bytes of the SHA-256 of its id, as a
/// big-endian number, modulo the number of partitions.
pub fn partition_of(organization: &OrgId, partitions: u16) -> PartitionId {
    if partitions <= 1 {
        return PartitionId(0);
    }
    let hash = Sha256::digest(organization.as_str());
    let number = hash.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
    let partition = number.checked_rem(u64::from(partitions)).unwrap_or(0);
    PartitionId(u16::try_from(partition).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_of_an_organization_never_changes() {
        let of = |bits: u128, partitions| partition_of(&OrgId::from_bits(bits), partitions).0;
        // printf %s org_00000000000000000000000001 | sha256sum | cut -c1-16, modulo the number of partitions.
        assert_eq!([of(1, 1), of(1, 2), of(1, 7), of(1, 64)], EXPECTED);
    }

    const EXPECTED: [u16; 4] = [0, 1, 6, 57];

    #[test]
    fn organizations_spread_evenly() {
        let mut counts = [0u32; 8];
        for bits in 0..8_000 {
            counts[usize::from(partition_of(&OrgId::from_bits(bits), 8).0)] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
