//! A letter in HTML that every mail program shows: tables and inline styles, nothing loaded from anywhere.

use super::{About, Letter, Tone};
use crate::delivery::told::Told;

const FONT: &str = "font-family:-apple-system,BlinkMacSystemFont,'Segoe UI',Roboto,Helvetica,Arial,sans-serif";

pub(super) fn render(letter: &Letter, told: &Told, about: &About) -> String {
    let mut out = Html(String::new());
    out.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    out.raw("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>");
    out.text(&letter.subject);
    out.raw("</title></head>\n<body style=\"margin:0;padding:0;background:#f3f4f6\">\n");
    // What inboxes show beside the subject.
    out.raw("<div style=\"display:none;max-height:0;overflow:hidden\">");
    out.text(&letter.happened);
    out.raw("</div>\n<table role=\"presentation\" width=\"100%\" cellpadding=\"0\" cellspacing=\"0\" ");
    out.raw("style=\"background:#f3f4f6\"><tr><td align=\"center\" style=\"padding:32px 16px\">\n");
    out.raw("<table role=\"presentation\" width=\"100%\" cellpadding=\"0\" cellspacing=\"0\" ");
    out.raw("style=\"max-width:560px;background:#ffffff;border:1px solid #e5e7eb;border-radius:8px;");
    out.raw("border-top:4px solid ");
    out.raw(match letter.tone {
        Tone::Plain => "#2563eb",
        Tone::Warning => "#d97706",
        Tone::Stopped => "#dc2626",
    });
    out.raw(";");
    out.raw(FONT);
    out.raw("\"><tr><td style=\"padding:32px\">\n");
    out.block("h1", "margin:0 0 16px;font-size:20px;line-height:28px;color:#111827;font-weight:600", &letter.headline);
    out.block("p", PARAGRAPH, &letter.happened);
    figures(&mut out, letter);
    out.block("p", PARAGRAPH, &letter.advice);
    if let Some(console) = &about.console_url {
        button(&mut out, console);
    }
    out.raw("</td></tr></table>\n");
    footer(&mut out, letter, told, about);
    out.raw("</td></tr></table>\n</body></html>\n");
    out.0
}

const PARAGRAPH: &str = "margin:0 0 20px;font-size:15px;line-height:24px;color:#374151";

fn figures(out: &mut Html, letter: &Letter) {
    out.raw("<table role=\"presentation\" width=\"100%\" cellpadding=\"0\" cellspacing=\"0\" ");
    out.raw("style=\"margin:0 0 20px;border-top:1px solid #e5e7eb\">\n");
    for (name, value) in &letter.figures {
        out.raw("<tr>");
        out.block(
            "td",
            "padding:10px 16px 10px 0;border-bottom:1px solid #e5e7eb;font-size:14px;line-height:20px;color:#6b7280;\
             vertical-align:top;white-space:nowrap",
            name,
        );
        out.block(
            "td",
            "padding:10px 0;border-bottom:1px solid #e5e7eb;font-size:14px;line-height:20px;color:#111827;\
             font-weight:600;text-align:right;word-break:break-word",
            value,
        );
        out.raw("</tr>\n");
    }
    out.raw("</table>\n");
}

fn button(out: &mut Html, console: &str) {
    out.raw("<p style=\"margin:0\"><a href=\"");
    out.text(console);
    out.raw("\" style=\"display:inline-block;padding:10px 18px;background:#111827;color:#ffffff;border-radius:6px;");
    out.raw("font-size:14px;font-weight:600;text-decoration:none\">Open the console</a></p>\n");
}

fn footer(out: &mut Html, letter: &Letter, told: &Told, about: &About) {
    out.raw("<table role=\"presentation\" width=\"100%\" cellpadding=\"0\" cellspacing=\"0\" style=\"max-width:560px;");
    out.raw(FONT);
    out.raw("\"><tr><td style=\"padding:20px 32px\">\n");
    const SMALL: &str = "margin:0 0 8px;font-size:12px;line-height:18px;color:#6b7280";
    out.block("p", SMALL, &letter.why);
    if let Some((id, name)) = &about.organization {
        out.block("p", SMALL, &format!("Organization: {name} ({id})"));
    }
    out.block("p", SMALL, &format!("Alert: {}", told.id));
    out.raw("</td></tr></table>\n");
}

/// HTML that is being written: only [`Html::raw`] takes markup.
struct Html(String);

impl Html {
    fn raw(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    fn text(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c => self.0.push(c),
            }
        }
    }

    /// An element with nothing but text in it.
    fn block(&mut self, tag: &'static str, style: &'static str, text: &str) {
        for part in ["<", tag, " style=\"", style, "\">"] {
            self.raw(part);
        }
        self.text(text);
        self.raw("</");
        self.raw(tag);
        self.raw(">\n");
    }
}
