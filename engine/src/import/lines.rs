//! Lines of a file, however long they are, in bounded memory.

use std::io::{self, BufRead};

/// Longest line that is read, in bytes: the largest usage record (16 KiB) with quotes and white space around it.
const LINE_MAX: usize = 64 * 1024;

/// Reads one line after the other, the ends of lines left out.
#[derive(Debug)]
pub(super) struct Lines<R> {
    file: R,
    line: Vec<u8>,
    number: u64,
    bytes_read: u64,
    failed: bool,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(file: R) -> Self {
        Self { file, line: Vec::new(), number: 0, bytes_read: 0, failed: false }
    }

    /// The number of the last line, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// The next line, or why it is none; `None` at the end and after a failure.
    pub(super) fn next_line(&mut self) -> io::Result<Option<Result<&str, &'static str>>> {
        if self.failed {
            return Ok(None);
        }
        let (length, ended) = self.read_line().inspect_err(|_| self.failed = true)?;
        if length == 0 {
            return Ok(None);
        }
        self.number = self.number.saturating_add(1);
        if length > LINE_MAX {
            return Ok(Some(Err("is longer than 64 KiB")));
        }
        let mut line = self.line.as_slice();
        if ended {
            line = line.strip_suffix(b"\n").unwrap_or(line);
            line = line.strip_suffix(b"\r").unwrap_or(line);
        }
        if self.number == 1 {
            // Spreadsheets begin their files with a byte order mark.
            line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        }
        Ok(Some(std::str::from_utf8(line).map_err(|_| "is not UTF-8")))
    }

    /// Reads to the end of a line and keeps at most [`LINE_MAX`] of it. Gives its length and whether it was ended.
    fn read_line(&mut self) -> io::Result<(usize, bool)> {
        self.line.clear();
        let mut length = 0usize;
        loop {
            let chunk = match self.file.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(chunk.len(), |end| end.saturating_add(1));
            let room = LINE_MAX.saturating_sub(self.line.len());
            self.line.extend(chunk.iter().take(used.min(room)));
            self.file.consume(used);
            length = length.saturating_add(used);
            self.bytes_read = self.bytes_read.saturating_add(u64::try_from(used).unwrap_or(u64::MAX));
            if end.is_some() || used == 0 {
                return Ok((length, end.is_some()));
            }
        }
    }
}
