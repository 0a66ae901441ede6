//! Dispute files for the targets: packed from their entries as the service's own are, and told by their events.

use std::collections::BTreeSet;
use std::io::{Cursor, Read, Write};
use std::sync::LazyLock;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, System, ZipArchive, ZipWriter};

/// Bytes of memory for a byte of a dispute file: contents, the story told anew as a page and as JSON, and the whole
/// file packed anew for comparison.
pub const TIMES: usize = 512;

const SEPARATOR: &[u8] = b"\n=== ";

static SEEDS: [&[u8]; 2] = [
    include_bytes!("../seeds/dispute_zip/late.zip"),
    include_bytes!("../seeds/dispute_zip/sold.zip"),
];

static KNOWN: LazyLock<[BTreeSet<Vec<u8>>; 2]> =
    LazyLock::new(|| SEEDS.map(|seed| events(seed).expect("the seed is a zip")));

fn events(file: &[u8]) -> Option<BTreeSet<Vec<u8>>> {
    let mut archive = ZipArchive::new(Cursor::new(file)).ok()?;
    let mut events = BTreeSet::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).ok()?;
        let name = entry.name().ok()?.into_owned();
        if name.starts_with("events/") && name.ends_with(".json") {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).ok()?;
            events.insert(content);
        }
    }
    Some(events)
}

/// Whether a file holds exactly the events of a seed, byte for byte.
pub fn is_known(file: &[u8]) -> bool {
    events(file).is_some_and(|events| KNOWN.contains(&events))
}

/// A zip of entries that are each begun by a line `=== NAME`.
pub fn packed(data: &[u8]) -> Option<Vec<u8>> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .system(System::Unix)
        .unix_permissions(0o644);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let mut rest = data.strip_prefix(&SEPARATOR[1..])?;
    loop {
        let end = rest
            .windows(SEPARATOR.len())
            .position(|window| window == SEPARATOR);
        let entry = &rest[..end.unwrap_or(rest.len())];
        let line = entry.iter().position(|byte| *byte == b'\n')?;
        let (name, content) = (std::str::from_utf8(&entry[..line]).ok()?, &entry[line + 1..]);
        zip.start_file(name, options).ok()?;
        zip.write_all(content).ok()?;
        match end {
            Some(end) => rest = &rest[end + SEPARATOR.len()..],
            None => break,
        }
    }
    Some(zip.finish().ok()?.into_inner())
}
