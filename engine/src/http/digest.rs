//! The digest of State: equal wherever the log is equal.

use tollbook_schemas::position::LogPosition;

use super::answer::Json;
use super::document::{Routes, Says};
use super::problem::Problem;
use super::reading::{PartitionNumber, Reading};
use super::shape::{answer, request};

pub(super) fn routes(routes: &mut Routes) {
    routes.family("Audit", "For whoever checks the ledger.");
    let says = Says {
        id: "getDigest",
        summary: "See position and state digest of a partition",
        more: "Two servers that have applied the same log have the same digest.",
    };
    routes.read("/v1/digest", says, show);
}

request! {
    /// Whose digest.
    pub(super) struct DigestQuery {
        /// Which partition; 0 unless said otherwise.
        partition: Option<PartitionNumber>,
    }
}

answer! {
    /// A partition's state, as a digest.
    pub(super) struct StateDigest {
        /// Which partition.
        partition: u16,
        /// The last entry applied.
        position: LogPosition,
        /// SHA-256 in hexadecimal digits.
        digest: String,
    }
}

async fn show(Reading { query, at, .. }: Reading<(), DigestQuery>) -> Result<Json<StateDigest>, Problem> {
    let partition = PartitionNumber::of_ledger(&at.node, query.partition)?;
    let (position, digest) =
        at.node.owner(partition)?.read(|state| (state.head().position, state.digest())).await?;
    let digest = digest.map_err(|error| Problem::internal(error.to_string()))?;
    let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Json(StateDigest { partition: partition.0, position: LogPosition { partition, position }, digest }))
}
