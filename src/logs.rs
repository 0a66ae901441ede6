//! Log lines: where they go, in which form, and what a panic may say. All of them go to stderr. What is logged at which
//! level is told in `docs/logging.md`; no line holds a key, a token, a contract, a reason or a signature, and a test
//! reads the lines of whole runs for it.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::{self, Display, Formatter, Write};
use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use tokio::task::JoinError;
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use crate::limits::FOREIGN_TEXT_MAX;

/// Which lines are written; the first that is set counts.
const FILTERS: [&str; 2] = ["QUITTANCE_LOG", "RUST_LOG"];

/// Writes log lines from here on, and has panics written as such.
///
/// # Panics
/// Called twice.
pub fn start(format: LogFormat) {
    let (filter, wrong) = filter();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_target(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).init(),
    }
    std::panic::set_hook(Box::new(panicked));
    if let Some((variable, error)) = wrong {
        tracing::warn!(variable, %error, "the log filter is not understood; `info` is used");
    }
}

/// The filter to use, and what is wrong with the one that was asked for.
fn filter() -> (EnvFilter, Option<(&'static str, String)>) {
    let set = FILTERS.into_iter().find_map(|variable| {
        let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
        Some((variable, text))
    });
    let normal = || EnvFilter::new("info");
    match set {
        None => (normal(), None),
        Some((variable, text)) => match EnvFilter::try_new(text) {
            Ok(filter) => (filter, None),
            Err(error) => (normal(), Some((variable, error.to_string()))),
        },
    }
}

/// Says where a panic was. Of its message only one that stands in the source word for word: a message that was put
/// together may quote what was being worked on.
fn panicked(info: &PanicHookInfo<'_>) {
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let words = info.payload().downcast_ref::<&'static str>().copied();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or_default();
    tracing::error!(location, thread, words, "a panic");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        eprintln!("{backtrace}");
    }
}

/// How a task ended that did not end well: its own words would quote a panic's message.
#[must_use]
pub fn ended(error: &JoinError) -> &'static str {
    if error.is_panic() {
        "it ended in a panic, of which a line before tells"
    } else {
        "it was cancelled"
    }
}

/// A text from outside as a line may hold it: short, and without anything that would begin another line.
pub(crate) struct Foreign<'a>(pub(crate) &'a str);

impl Display for Foreign<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for character in self.0.chars().take(FOREIGN_TEXT_MAX) {
            // Quotes stand for themselves: a message's own must stay readable.
            match character {
                '"' | '\'' => f.write_char(character)?,
                character => write!(f, "{}", character.escape_debug())?,
            }
        }
        if self.0.chars().nth(FOREIGN_TEXT_MAX).is_some() {
            f.write_str(" …")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_text_begins_no_line_and_is_cut() {
        let text = "no \"such\" log\n2026-11-21 ERROR forged\u{1b}[31m\\";
        let expected = "no \"such\" log\\n2026-11-21 ERROR forged\\u{1b}[31m\\\\";
        assert_eq!(Foreign(text).to_string(), expected);
        let long = "ä".repeat(FOREIGN_TEXT_MAX);
        assert_eq!(Foreign(&long).to_string(), long);
        assert_eq!(Foreign(&format!("{long}b")).to_string(), format!("{long} …"));
    }
}
