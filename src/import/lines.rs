//! The lines of an import: read one by one however long they are, understood as the intake understands its two
//! requests, and handed on in rounds. It decides nothing and knows no ledger.

use std::borrow::Cow;
use std::io::{self, BufRead};
use std::sync::mpsc::SyncSender;

use quittance_events::{InstanceId, OrderId, OrderKey};
use quittance_taler::json::read_object;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::reason;
use crate::decide::deposits::DepositsRequest;
use crate::decide::order::OrderRequest;
use crate::limits::{IMPORT_BYTES, IMPORT_LINE_MAX, IMPORT_LINES};

/// One line with something on it.
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    /// What it tells, or why it cannot be read.
    pub(super) told: Result<Told, Unread>,
}

/// What a line tells of an order.
pub(super) struct Told {
    pub(super) key: OrderKey,
    pub(super) order: OrderRequest,
    pub(super) deposits: DepositsRequest,
}

/// A line that tells nothing.
pub(super) struct Unread {
    /// The order's id, as far as it can be made out.
    pub(super) order: Option<String>,
    pub(super) reason: String,
}

/// Lines that are dealt with together.
#[derive(Default)]
pub(super) struct Round {
    pub(super) lines: Vec<Line>,
    /// Of the input, since the round before.
    pub(super) bytes: u64,
    /// How the input ended before its end.
    pub(super) failed: Option<io::Error>,
}

#[derive(Deserialize)]
struct Of<'a> {
    #[serde(borrow)]
    instance: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    contract_terms: NamedTerms<'a>,
}

#[derive(Deserialize)]
struct NamedTerms<'a> {
    #[serde(borrow)]
    order_id: Cow<'a, str>,
}

/// What is asked of the whole line first: whether it is JSON at all.
#[derive(Deserialize)]
struct Json<'a>(#[serde(borrow)] &'a RawValue);

fn understand(line: &[u8]) -> Result<Told, String> {
    let Json(_whole) = serde_json::from_slice(line).map_err(|e| format!("it is no JSON: {e}"))?;
    let Of { instance } = read_object(line).map_err(|e| e.to_string())?;
    let instance = match instance.as_deref() {
        None | Some("default" | "admin") => InstanceId::root(),
        Some(id) => id.parse().map_err(|e| format!("instance: {e}"))?,
    };
    let told = read_object(line).map_err(|e| e.to_string())?;
    let (order, request): (OrderId, _) = OrderRequest::read(&told).map_err(|e| reason(&e))?;
    let deposits = read_object(line).map_err(|e| e.to_string())?;
    Ok(Told {
        key: OrderKey { instance, order },
        order: request,
        deposits,
    })
}

impl Line {
    pub(super) fn read(number: u64, bytes: &[u8]) -> Line {
        let told = understand(bytes).map_err(|reason| {
            let named = serde_json::from_slice::<Named<'_>>(bytes);
            Unread {
                order: named.ok().map(|named| named.contract_terms.order_id.into_owned()),
                reason,
            }
        });
        Line { number, told }
    }
}

/// The next line without its end, in `line`; how many bytes it took, none where the input has ended. Of a line that is
/// too long the beginning is kept, one byte more than there may be.
fn next_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<u64> {
    line.clear();
    let mut taken: u64 = 0;
    loop {
        let bytes = match input.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let part = &bytes[..end.unwrap_or(bytes.len())];
        let room = (IMPORT_LINE_MAX + 1).saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        let length = end.map_or(bytes.len(), |end| end + 1);
        let ended = end.is_some() || bytes.is_empty();
        input.consume(length);
        taken += u64::try_from(length).unwrap_or(u64::MAX);
        if ended {
            return Ok(taken);
        }
    }
}

/// Reads all lines and hands them on, until the input ends or nobody takes them any more.
pub(super) fn read_all(mut input: impl BufRead, rounds: &SyncSender<Round>) {
    let mut bytes = Vec::new();
    let (mut number, mut held) = (0, 0);
    let mut round = Round::default();
    loop {
        let taken = match next_line(&mut input, &mut bytes) {
            Ok(taken) => taken,
            Err(error) => {
                round.failed = Some(error);
                0
            }
        };
        if taken == 0 {
            // Who takes them has gone where this fails; he knows why.
            let _ = rounds.send(round);
            return;
        }
        number += 1;
        round.bytes += taken;
        if bytes.len() > IMPORT_LINE_MAX {
            let reason = format!("it is longer than {IMPORT_LINE_MAX} bytes");
            let told = Err(Unread { order: None, reason });
            round.lines.push(Line { number, told });
        } else if !bytes.trim_ascii().is_empty() {
            held += bytes.len();
            round.lines.push(Line::read(number, &bytes));
        }
        if round.lines.len() >= IMPORT_LINES || held >= IMPORT_BYTES {
            held = 0;
            if rounds.send(std::mem::take(&mut round)).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::io::{BufReader, Read};
    use std::sync::mpsc;

    use super::*;

    fn rounds(input: impl Read + Send + 'static) -> Vec<Round> {
        let (sender, receiver) = mpsc::sync_channel(1);
        std::thread::spawn(move || read_all(BufReader::with_capacity(7, input), &sender));
        receiver.iter().collect()
    }

    #[test]
    fn lines_are_counted_with_those_that_are_empty_and_the_last_needs_no_end() {
        let rounds = rounds(&b"\n{}\r\n  \n[]"[..]);
        let numbers: Vec<u64> = rounds[0].lines.iter().map(|line| line.number).collect();
        assert_eq!((numbers, rounds[0].bytes, rounds.len()), (vec![2, 4], 10, 1));
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_never_held() {
        let long = io::repeat(b'x').take(4 << 20);
        let rounds = rounds(long.chain(&b"\n{}\n"[..]));
        let [first, second] = rounds[0].lines.as_slice() else {
            panic!("two lines")
        };
        let Err(unread) = &first.told else {
            panic!("it is skipped")
        };
        assert!(
            unread.reason.contains("longer than 524288 bytes"),
            "{}",
            unread.reason
        );
        assert_eq!((first.number, second.number), (1, 2));
    }

    #[test]
    fn rounds_end_by_lines_and_by_bytes() {
        let many = rounds(io::Cursor::new(b"{}\n".repeat(2 * IMPORT_LINES + 1)));
        let lengths: Vec<usize> = many.iter().map(|round| round.lines.len()).collect();
        assert_eq!(lengths, [IMPORT_LINES, IMPORT_LINES, 1]);
        let mut line = vec![b' '; 256 * 1024];
        line.extend_from_slice(b"{}\n");
        let great = rounds(io::Cursor::new(line.repeat(40)));
        assert_eq!(great[0].lines.len(), 32);
        assert_eq!(great.iter().map(|round| round.lines.len()).sum::<usize>(), 40);
    }

    #[test]
    fn an_input_that_fails_is_told_after_what_came_before() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("gone"))
            }
        }
        let rounds = rounds((&b"{}\n"[..]).chain(Broken));
        assert_eq!(rounds[0].lines.len(), 1);
        assert_eq!(rounds[0].failed.as_ref().unwrap().to_string(), "gone");
    }
}
