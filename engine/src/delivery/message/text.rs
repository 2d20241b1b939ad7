//! A letter in plain text.

use std::fmt::Write;

use super::{About, Letter};
use crate::delivery::told::Told;

/// Longest line of a paragraph.
const WIDTH: usize = 76;

pub(super) fn render(letter: &Letter, told: &Told, about: &About) -> String {
    let mut out = String::new();
    paragraph(&mut out, &letter.headline);
    paragraph(&mut out, &letter.happened);
    let widest = letter.figures.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in &letter.figures {
        let pad = widest.saturating_sub(name.chars().count());
        line(&mut out, format_args!("  {name}: {:pad$}{value}", ""));
    }
    out.push('\n');
    paragraph(&mut out, &letter.advice);
    if let Some(console) = &about.console_url {
        line(&mut out, format_args!("{console}\n"));
    }
    line(&mut out, format_args!("--"));
    paragraph(&mut out, &letter.why);
    if let Some((id, name)) = &about.organization {
        line(&mut out, format_args!("Organization: {name} ({id})"));
    }
    line(&mut out, format_args!("Alert: {}", told.id));
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // A string takes everything.
    if writeln!(out, "{text}").is_err() {
        tracing::debug!("a line of a message could not be written");
    }
}

/// A paragraph with an empty line behind it.
fn paragraph(out: &mut String, text: &str) {
    let mut width = 0usize;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if width > 0 && width.saturating_add(length) >= WIDTH {
            out.push('\n');
            width = 0;
        } else if width > 0 {
            out.push(' ');
            width = width.saturating_add(1);
        }
        out.push_str(word);
        width = width.saturating_add(length);
    }
    out.push_str("\n\n");
}
