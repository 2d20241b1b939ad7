//! The IP allowlist (R2).

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Call, Calls, ManageError, OrgArg};

const COLUMNS: &[&str] = &["entry"];

/// The addresses that an organization's requests may come from.
#[derive(Debug, Subcommand)]
pub(in super::super) enum AllowlistCommand {
    /// Show it
    Show(OrgArg),
    /// Replace it by public IPv4 addresses and CIDR ranges, at most 20
    #[command(override_usage = "tollbook allowlist set [OPTIONS] <ORG> <ITEM>...\n       \
                                tollbook allowlist set [OPTIONS] <ORG> --file <FILE>")]
    Set(SetArgs),
    /// Empty it: every address gets in
    Clear(OrgArg),
}

/// A list to save.
#[derive(Args, Debug)]
#[group(id = "list", required = true, multiple = false, args = ["items", "file"])]
pub(in super::super) struct SetArgs {
    #[command(flatten)]
    organization: OrgArg,
    /// Addresses and ranges
    #[arg(value_name = "ITEM")]
    items: Vec<String>,
    /// A file of them, between new lines, commas or spaces; - is standard input. Lines that begin with # are comments
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Calls for AllowlistCommand {
    fn call(self) -> Result<Call, ManageError> {
        Ok(match self {
            Self::Show(organization) => Call::get(path(&organization), COLUMNS).rows(entries).note(open),
            Self::Set(args) => {
                let text = match &args.file {
                    Some(file) => without_comments(&read(file)?),
                    None => args.items.join("\n"),
                };
                if text.split(|c: char| c == ',' || c.is_whitespace()).all(str::is_empty) {
                    return Err(ManageError::Argument(
                        "the list is empty, which would let every address in; if that is meant, use \
                         `allowlist clear`",
                    ));
                }
                save(&args.organization, &text)
            }
            Self::Clear(organization) => save(&organization, ""),
        })
    }
}

fn path(organization: &OrgArg) -> String {
    organization.path("/ip-allowlist")
}

fn save(organization: &OrgArg, text: &str) -> Call {
    Call::write(Method::PUT, path(organization), json!({ "text": text }), COLUMNS)
        .rows(entries)
        .note(open)
        .bad_items()
}

fn read(file: &Path) -> Result<String, ManageError> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file)
        .map_err(|error| ManageError::File { path: file.to_owned(), reason: error.to_string() })
}

/// Without the lines that begin with `#`: the server takes none.
fn without_comments(text: &str) -> String {
    let items = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    items.collect::<Vec<_>>().join("\n")
}

fn entries(answer: Value) -> Value {
    let entries = answer.get("entries").and_then(Value::as_array).into_iter().flatten();
    json!({ "items": entries.map(|entry| json!({ "entry": entry })).collect::<Vec<_>>() })
}

fn open(answer: &Value) -> Option<String> {
    let entries = answer.get("entries").and_then(Value::as_array)?;
    entries.is_empty().then(|| "no restriction: every address gets in".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_lines_of_their_own() {
        let text = "# the office\r\n203.0.113.4\n  # 10.0.0.1\n\n198.51.100.0/24 # not one\n#";
        assert_eq!(without_comments(text), "203.0.113.4\n\n198.51.100.0/24 # not one");
    }
}
