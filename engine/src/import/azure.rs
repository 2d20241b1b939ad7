//! Traces of the Azure Public Dataset: `TIMESTAMP,ContextTokens,GeneratedTokens`, times in UTC.

use std::io::{self, Read};

use sha2::{Digest, Sha256};
use tollbook_schemas::id::{KeyId, ModelName, NameError, OrgId, SourceName};
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::{AHEAD_MAX_SECONDS, Charged, Occurred, QUANTITY_MAX, Tokens, Usage};

use super::{OpenError, csv};

const COLUMNS: [&str; 3] = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"];

/// Whose trace it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The organization of the key.
    pub organization: OrgId,
    /// The key that every row is charged to.
    pub key: KeyId,
    /// The model that every row used.
    pub model: ModelName,
    /// What [`file_digest`] says of the file.
    pub digest: [u8; 32],
}

impl Trace {
    /// `trace:` and 32 hexadecimal digits of the SHA-256 of file digest, key and model: the same file for another key
    /// or model is another source.
    pub fn source(&self) -> Result<SourceName, NameError> {
        let mut hash = Sha256::new();
        hash.update(self.digest);
        hash.update(self.key.as_str());
        // Neither identifiers nor names hold a zero byte, so no two pairs are written alike.
        hash.update([0]);
        hash.update(self.model.as_str());
        let digits: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        SourceName::parse(&format!("trace:{digits}"))
    }
}

/// SHA-256 of a file's bytes, read in pieces.
pub fn file_digest(mut file: impl Read) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut piece = [0; 16 * 1024];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(length) => hash.update(piece.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads rows below a header.
#[derive(Debug)]
pub(super) struct Reader {
    trace: Trace,
    source: SourceName,
    row: u64,
}

impl Reader {
    /// Errors: other columns.
    pub(super) fn open(trace: Trace, header: &[String]) -> Result<Self, OpenError> {
        if header != COLUMNS {
            return Err(OpenError::Header(format!("the columns must be {}", COLUMNS.join(","))));
        }
        let source = trace.source().map_err(|error| OpenError::Header(error.to_string()))?;
        Ok(Self { trace, source, row: 0 })
    }

    /// The record of one row. A bad row has a number too: numbers are places in the file.
    pub(super) fn row(&mut self, text: &str, arrived: Timestamp) -> Result<Usage, String> {
        self.row = self.row.saturating_add(1);
        let cells = csv::fields(text)?;
        let [time, input, output] = cells.as_slice() else {
            return Err(format!("has {} cells; there should be 3", cells.len()));
        };
        let tokens = |name: &str, cell: &str| {
            let digits = !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit());
            let number = cell.parse().ok().filter(|number| digits && *number <= QUANTITY_MAX);
            number.ok_or_else(|| format!("{name} must be a whole number from 0 to {QUANTITY_MAX}"))
        };
        Ok(Usage {
            organization: self.trace.organization.clone(),
            charged: Charged::Key(self.trace.key.clone()),
            model: self.trace.model.clone(),
            source: self.source.clone(),
            id: format!("row-{}", self.row),
            occurred: Occurred::Given(instant(time.trim(), arrived)?),
            producerseq: Some(self.row),
            tokens: Tokens {
                input: tokens("ContextTokens", input.trim())?,
                cached_input: 0,
                output: tokens("GeneratedTokens", output.trim())?,
            },
            extras: None,
        })
    }
}

/// `2023-11-16 18:17:03.9799600` is UTC; later traces of the dataset write the offset too.
fn instant(text: &str, arrived: Timestamp) -> Result<Timestamp, String> {
    let shape = || "TIMESTAMP must be a time such as 2023-11-16 18:17:03.97996".to_owned();
    let (date, time) = text.split_once([' ', 'T']).ok_or_else(shape)?;
    let zone = if time.contains(['Z', '+', '-']) { "" } else { "Z" };
    let at: Timestamp = format!("{date}T{time}{zone}").parse().map_err(|_| shape())?;
    if at < Timestamp::EPOCH {
        return Err("TIMESTAMP must not be before 1970".into());
    }
    if at > arrived.plus_seconds(AHEAD_MAX_SECONDS) {
        return Err("TIMESTAMP is more than 5 minutes ahead of now".into());
    }
    Ok(at)
}
