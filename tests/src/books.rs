//! The books as a program in Python computes them from an export of the log (`tests/oracle/ledger.py`).

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use tollbook_engine::export::{Export, Wanted};
use tollbook_engine::ledger::Ledger;
use tollbook_schemas::position::Position;

use crate::memory::{MemoryLedger, PARTITION, ledger_id};
use crate::python::{interpreter, run};

/// The zones of the database that is compiled in, or days and months would differ.
const ZONES: &str = "tzdata==2026.5";

/// What the log of a ledger in memory comes to.
pub fn books_of(ledger: &MemoryLedger) -> Value {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("export.jsonl");
    fs::write(&file, export_of(ledger).join("\n")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(books(&file))
}

/// The lines of a ledger in memory.
pub fn export_of(ledger: &MemoryLedger) -> Vec<String> {
    let (identity, wanted) = (identity(), Wanted::default());
    let mut export = Export::new(&identity, PARTITION, &wanted);
    let mut lines = vec![export.head().unwrap()];
    for (position, message) in (1..).zip(&ledger.log) {
        let line = export.line(Position(position), &message.subject, &message.payload).unwrap();
        lines.push(line.expect("everything is wanted"));
    }
    lines
}

/// What an export comes to.
pub async fn books(export: &Path) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/ledger.py");
    let python = interpreter(ZONES, "tzdata").await;
    let printed = run(&python, &[&script.to_string_lossy(), &export.to_string_lossy()]).await;
    serde_json::from_str(&printed).unwrap()
}

/// As [`MemoryLedger::new`] creates it.
fn identity() -> Ledger {
    Ledger { id: ledger_id(), currency: "USD".into(), partitions: 1 }
}
