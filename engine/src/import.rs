//! Usage files: rows of every format as [`Usage`], one at a time, in bounded memory.
//!
//! Reading the same file again gives the same ids and sources, so that importing it again books nothing (R8.2).

use std::io::{self, BufRead};

use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::Usage;

mod azure;
mod csv;
mod jsonl;
mod lines;

pub use azure::{Trace, file_digest};

/// Of which format a usage file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A trace of the Azure Public Dataset: `TIMESTAMP,ContextTokens,GeneratedTokens`.
    AzureLlmTrace,
    /// One CloudEvent per line.
    #[value(name = "cloudevents")]
    CloudEvents,
    /// Columns named as the members of a CloudEvent.
    Csv,
}

/// A format with what its rows do not say themselves.
#[derive(Clone, Debug)]
pub enum Layout {
    /// All rows are of one key and model.
    AzureLlmTrace(Trace),
    /// One CloudEvent per line.
    CloudEvents,
    /// Columns named as the members of a CloudEvent.
    Csv,
}

/// A row that is not usage; the rows after it are read all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct BadRow {
    /// Counted from 1, header included.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// Why a file cannot be imported, whatever its rows say.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be read.
    #[error("cannot read the file")]
    Read(#[from] io::Error),
    /// The first line names the wrong columns.
    #[error("line 1: {0}")]
    Header(String),
}

/// Why a row is missing.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// It is not usage.
    #[error(transparent)]
    Bad(#[from] BadRow),
    /// The file cannot be read any further; nothing follows.
    #[error("cannot read the file after line {line}")]
    Read {
        /// The last line that was read.
        line: u64,
        /// What the system says.
        source: io::Error,
    },
}

/// The rows of a file, in its order.
#[derive(Debug)]
pub struct Rows<R> {
    lines: lines::Lines<R>,
    reader: Reader,
    arrived: Timestamp,
}

/// What turns a line into usage.
#[derive(Debug)]
enum Reader {
    Azure(azure::Reader),
    CloudEvents,
    Csv(csv::Reader),
}

impl<R: BufRead> Rows<R> {
    /// Begins to read a file that is imported at `arrived`: rows may not be more than 5 minutes ahead of it, and rows
    /// without a time occurred then. Errors: a header that is not the format's.
    pub fn open(file: R, layout: Layout, arrived: Timestamp) -> Result<Self, OpenError> {
        let mut lines = lines::Lines::new(file);
        let reader = match layout {
            Layout::AzureLlmTrace(trace) => Reader::Azure(azure::Reader::open(trace, &header(&mut lines)?)?),
            Layout::CloudEvents => Reader::CloudEvents,
            Layout::Csv => Reader::Csv(csv::Reader::open(&header(&mut lines)?)?),
        };
        Ok(Self { lines, reader, arrived })
    }

    /// How far the file was read, in bytes.
    pub fn bytes_read(&self) -> u64 {
        self.lines.bytes_read()
    }

    /// The line that the last row stood on.
    pub fn line(&self) -> u64 {
        self.lines.number()
    }
}

/// The first line's columns.
fn header<R: BufRead>(lines: &mut lines::Lines<R>) -> Result<Vec<String>, OpenError> {
    let missing =
        || OpenError::Header("the file is empty; it should begin with the names of its columns".into());
    let line = lines.next_line()?.ok_or_else(missing)?;
    let text = line.map_err(|reason| OpenError::Header(reason.to_owned()))?;
    let columns = csv::fields(text).map_err(|reason| OpenError::Header(reason.to_owned()))?;
    Ok(columns.iter().map(|column| column.trim().to_owned()).collect())
}

impl<R: BufRead> Iterator for Rows<R> {
    type Item = Result<Usage, RowError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let line = match self.lines.next_line() {
                Ok(line) => line?,
                Err(source) => return Some(Err(RowError::Read { line: self.lines.number(), source })),
            };
            // An empty line is no row: files often end with one.
            if line.is_ok_and(|text| text.trim().is_empty()) {
                continue;
            }
            let read = line.map_err(str::to_owned).and_then(|text| match &mut self.reader {
                Reader::Azure(reader) => reader.row(text, self.arrived),
                Reader::CloudEvents => jsonl::row(text, self.arrived),
                Reader::Csv(reader) => reader.row(text, self.arrived),
            });
            let line = self.lines.number();
            return Some(read.map_err(|reason| RowError::Bad(BadRow { line, reason })));
        }
    }
}

#[cfg(test)]
mod tests;
