//! Bytes that outlive the code: the only file that names bincode.
//!
//! ```text
//! entry    1 byte version (1)   bincode of `Entry`, standard configuration (little endian, variable-length integers)
//! row      1 byte version (1)   bincode of a view's row
//! usage    rows of a batch are packed by themselves, as `batch/rows.rs` says
//! ```
//!
//! Golden bytes of every version are in `schemas/tests/golden/`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::entry::Entry;

/// First byte of every entry that this code writes.
pub const ENTRY_VERSION: u8 = 1;
/// First byte of every view row that this code writes.
pub const ROW_VERSION: u8 = 1;

/// Most that one entry or row may claim while it is decoded, in bytes: without it a forged length of a text would be
/// allocated before anybody sees that the bytes end earlier. Far above the largest entry.
const DECODE_MAX: usize = 64 * 1024 * 1024;

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Nothing at all.
    #[error("no bytes")]
    Empty,
    /// Written by newer code, or not by us.
    #[error("version {0} is not known to this build")]
    Version(u8),
    /// Not what the version says.
    #[error("not readable: {0}")]
    Malformed(String),
    /// Readable, with something behind it.
    #[error("{0} bytes too many")]
    Trailing(usize),
}

/// What cannot be written; no value of ours is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not writable: {0}")]
pub struct EncodeError(String);

/// Bytes of an entry as they stand in the log.
pub fn encode_entry(entry: &Entry) -> Result<Vec<u8>, EncodeError> {
    encode(ENTRY_VERSION, entry)
}

/// An entry from its bytes in the log, whatever version wrote them. Indexes of a usage batch are not checked here.
pub fn decode_entry(bytes: &[u8]) -> Result<Entry, DecodeError> {
    decode(ENTRY_VERSION, bytes)
}

/// Bytes of a view's row. They are canonical: equal values have equal bytes, which digests rely on.
pub fn encode_row<T: Serialize>(row: &T) -> Result<Vec<u8>, EncodeError> {
    encode(ROW_VERSION, row)
}

/// A view's row from its bytes.
pub fn decode_row<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    decode(ROW_VERSION, bytes)
}

fn encode<T: Serialize>(version: u8, value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = vec![version];
    bincode::serde::encode_into_std_write(value, &mut bytes, bincode::config::standard())
        .map_err(|error| EncodeError(error.to_string()))?;
    Ok(bytes)
}

fn decode<T: DeserializeOwned>(known: u8, bytes: &[u8]) -> Result<T, DecodeError> {
    let (version, rest) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if *version != known {
        return Err(DecodeError::Version(*version));
    }
    let (value, read) =
        bincode::serde::decode_from_slice(rest, bincode::config::standard().with_limit::<DECODE_MAX>())
            .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    match rest.len().checked_sub(read) {
        Some(0) => Ok(value),
        Some(more) => Err(DecodeError::Trailing(more)),
        None => Err(DecodeError::Malformed("read past the end".into())),
    }
}
