//! How an import is shown to whoever typed it: a progress bar where standard error is a terminal, a line now and then
//! where it is not, one line for each line that was skipped, and a summary.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use super::{Summary, Watch, import};
use crate::app::StartError;
use crate::clock::Clock;
use crate::config::Config;
use crate::limits::IMPORT_TELL_EVERY;
use crate::logs::Foreign;

/// Imports a file, or standard input where it is called `-`, shows how it goes on standard error, and gives the summary.
///
/// # Errors
/// See [`import`], and the file cannot be opened.
pub fn run(config: &Config, clock: &Clock, orders: &Path, dry_run: bool) -> Result<Summary, StartError> {
    let (input, length): (Box<dyn Read + Send>, _) = if orders.as_os_str() == "-" {
        (Box::new(io::stdin()), None)
    } else {
        let fail = |error| StartError::Io(orders.display().to_string(), error);
        let file = File::open(orders).map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        // A pipe or device tells no length.
        (Box::new(file), Some(length).filter(|length| *length > 0))
    };
    let mut shown = Shown {
        bar: io::stderr().is_terminal().then(|| bar(length)),
        told: Instant::now(),
        dry_run,
        last: Summary::default(),
    };
    let done = import(config, clock, input, dry_run, &mut shown);
    if let Some(bar) = &shown.bar {
        bar.finish_and_clear();
    }
    if done.is_err() {
        eprintln!("stopped after {}", text(&shown.last, dry_run));
        if !dry_run {
            eprintln!("what is recorded stays; import all of it again once the cause is gone");
        }
    }
    done
}

/// A summary in one line.
#[must_use]
pub fn text(summary: &Summary, dry_run: bool) -> String {
    let Summary {
        lines,
        recorded,
        known,
        skipped,
        unjudged,
        orders,
        deposits,
        payments,
        refunds,
    } = summary;
    let would = if dry_run { "would be " } else { "" };
    let unjudged = match unjudged {
        0 => String::new(),
        count => format!(", {count} not judged"),
    };
    format!(
        "{lines} lines: {recorded} {would}recorded, {known} known already, {skipped} skipped{unjudged}; \
         {orders} orders, {deposits} deposits, {payments} payments and {refunds} refunds are new"
    )
}

fn bar(length: Option<u64>) -> ProgressBar {
    let (bar, template) = match length {
        Some(length) => (
            ProgressBar::new(length),
            "{wide_bar} {bytes} of {total_bytes}, {eta} left; {msg}",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}; {msg}"),
    };
    let style = ProgressStyle::with_template(template).expect("the template is a constant of this program");
    bar.with_style(style)
}

struct Shown {
    bar: Option<ProgressBar>,
    told: Instant,
    dry_run: bool,
    last: Summary,
}

impl Watch for Shown {
    fn skipped(&mut self, line: u64, order: Option<&str>, reason: &str) {
        let order = order.map_or(String::new(), |order| format!(", order {}", Foreign(order)));
        let told = format!("line {line}{order}: {}", Foreign(reason));
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{told}")),
            None => eprintln!("{told}"),
        }
    }

    fn went_on(&mut self, bytes: u64, summary: &Summary) {
        self.last = *summary;
        match &self.bar {
            Some(bar) => {
                bar.inc(bytes);
                bar.set_message(format!("{} lines, {} skipped", summary.lines, summary.skipped));
            }
            None if self.told.elapsed() >= IMPORT_TELL_EVERY => {
                self.told = Instant::now();
                eprintln!("so far {}", text(summary, self.dry_run));
            }
            None => {}
        }
    }
}
