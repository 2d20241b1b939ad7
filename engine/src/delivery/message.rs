//! What people read: each alert as a letter, in text and in HTML.
//!
//! ```text
//! alert + whose it is ── letters ─> Letter ─┬─ text ─> text/plain
//!                                           └─ html ─> text/html, every value escaped, nothing loaded from elsewhere
//! ```

mod html;
mod letters;
mod money;
mod text;

use tollbook_schemas::id::OrgId;
use tollbook_schemas::time::Zone;

use super::told::Told;

/// What a letter has to know beside its alert.
#[derive(Clone, Debug)]
pub(crate) struct About {
    /// Whose alert it is, and what people call it; `None`: the platform's own.
    pub(crate) organization: Option<(OrgId, String)>,
    /// The ledger's currency.
    pub(crate) currency: String,
    /// By whose clock times are told.
    pub(crate) zone: Zone,
    /// Where the platform's console is, if it is known.
    pub(crate) console_url: Option<String>,
}

/// A message as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// One line without control characters.
    pub(crate) subject: String,
    /// `text/plain`.
    pub(crate) text: String,
    /// `text/html`.
    pub(crate) html: String,
}

/// An alert in words, before they are laid out.
#[derive(Clone, Debug, Default)]
struct Letter {
    subject: String,
    /// The first thing that is read.
    headline: String,
    /// What happened, and what follows from it.
    happened: String,
    /// Names and values, in order.
    figures: Vec<(&'static str, String)>,
    /// What to do now.
    advice: String,
    /// Why this came, and how to change when it comes.
    why: String,
    /// How urgent it looks.
    tone: Tone,
}

/// How urgent a letter looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Tone {
    /// Good to know.
    #[default]
    Plain,
    /// Something will stop soon.
    Warning,
    /// Something has stopped.
    Stopped,
}

/// The message that tells somebody of an alert.
pub(crate) fn compose(told: &Told, about: &About) -> Message {
    let letter = letters::letter(told, about);
    let subject = letter.subject.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Message { subject, text: text::render(&letter, told, about), html: html::render(&letter, told, about) }
}

#[cfg(test)]
mod tests;
