//! The zip around a dispute file: stored entries in a fixed order with a fixed time, so that equal contents are equal
//! bytes. Reading trusts nothing: sizes, number and names of entries are bounded before anything is unpacked, and
//! nothing is ever unpacked to disk. Knows nothing of what the entries mean.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, System, ZipArchive, ZipWriter};

use super::limits::{BUNDLE_MAX, ENTRIES_MAX, NAME_MAX};

/// Entries by name.
pub(crate) type Entries = BTreeMap<String, Vec<u8>>;

/// Entries that stand first, in this order: what a reader opens first. The rest follows by name, numbers as numbers.
const FIRST: [&str; 5] = [
    "README.txt",
    "report.html",
    "report.json",
    "refunds.csv",
    "checkpoint",
];

/// Why bytes are no zip that is looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContainerError {
    #[error("no zip: {0}")]
    NoZip(#[from] zip::result::ZipError),
    #[error("an entry cannot be read: {0}")]
    Entry(#[from] std::io::Error),
    #[error("the file is larger than {BUNDLE_MAX} bytes")]
    TooLarge,
    #[error("more than {ENTRIES_MAX} entries")]
    TooMany,
    #[error("an entry's name is none that a dispute file has: {0:?}")]
    Name(String),
    #[error("{0} is compressed or encrypted, which entries of a dispute file never are")]
    NotStored(String),
}

/// Where an entry stands.
fn place(name: &str) -> (usize, &str, u64, &str) {
    let first = FIRST
        .iter()
        .position(|known| *known == name)
        .unwrap_or(FIRST.len());
    let (folder, file) = name.split_once('/').unwrap_or(("", name));
    let digits = file.bytes().take_while(u8::is_ascii_digit).count();
    let number = file[..digits].parse().unwrap_or(u64::MAX);
    (first, folder, number, file)
}

/// Packs entries.
pub(crate) fn pack(entries: &Entries) -> Result<Vec<u8>, ContainerError> {
    if entries.len() > ENTRIES_MAX {
        return Err(ContainerError::TooMany);
    }
    let mut names: Vec<&String> = entries.keys().collect();
    names.sort_by_key(|name| place(name));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .system(System::Unix)
        .unix_permissions(0o644);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for name in names {
        zip.start_file(name.as_str(), options)?;
        zip.write_all(&entries[name])?;
    }
    let bytes = zip.finish()?.into_inner();
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= BUNDLE_MAX) {
        Ok(bytes)
    } else {
        Err(ContainerError::TooLarge)
    }
}

/// Unpacks entries. Two entries of one name come back as one: only packing them again shows that.
pub(crate) fn unpack(bytes: &[u8]) -> Result<Entries, ContainerError> {
    if u64::try_from(bytes.len()).is_ok_and(|length| length > BUNDLE_MAX) {
        return Err(ContainerError::TooLarge);
    }
    let mut archive = ZipArchive::new(Cursor::new(bytes))?;
    if archive.len() > ENTRIES_MAX {
        return Err(ContainerError::TooMany);
    }
    let mut entries = Entries::new();
    // Entries may overlap, so that small files claim great ones; together they are no more than the file.
    let mut left = BUNDLE_MAX;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index)?;
        let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        if !is_plain(&name) {
            return Err(ContainerError::Name(name));
        }
        if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
            return Err(ContainerError::NotStored(name));
        }
        drop(entry);
        // Not the raw reader: this one compares the checksum.
        let entry = archive.by_index(index)?;
        let mut content = Vec::new();
        entry.take(left + 1).read_to_end(&mut content)?;
        left = u64::try_from(content.len())
            .ok()
            .and_then(|length| left.checked_sub(length))
            .ok_or(ContainerError::TooLarge)?;
        entries.insert(name, content);
    }
    Ok(entries)
}

/// At most one folder, and neither `.` nor `..` nor anything that a file system could take for more than a name.
fn is_plain(name: &str) -> bool {
    let word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphanumeric())
            && word
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    };
    name.len() <= NAME_MAX && name.split('/').count() <= 2 && name.split('/').all(word)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn entries() -> Entries {
        [
            "events/10.json",
            "events/9.json",
            "checkpoint",
            "README.txt",
            "events/9.sig",
        ]
        .into_iter()
        .map(|name| (name.to_owned(), name.as_bytes().to_vec()))
        .collect()
    }

    #[test]
    fn entries_stand_in_one_order_and_come_back() {
        let packed = pack(&entries()).unwrap();
        assert_eq!(packed, pack(&entries()).unwrap());
        assert_eq!(unpack(&packed).unwrap(), entries());
        let mut archive = ZipArchive::new(Cursor::new(&packed)).unwrap();
        let names: Vec<String> = (0..archive.len())
            .map(|i| archive.by_index(i).unwrap().name().unwrap().into_owned())
            .collect();
        let expected = [
            "README.txt",
            "checkpoint",
            "events/9.json",
            "events/9.sig",
            "events/10.json",
        ];
        assert_eq!(names, expected);
    }

    fn zip_of(name: &str, method: CompressionMethod) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file(name, SimpleFileOptions::default().compression_method(method))
            .unwrap();
        zip.write_all(b"content").unwrap();
        zip.finish().unwrap().into_inner()
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for bad in [
            "../checkpoint",
            "/etc/passwd",
            "a/b/c",
            "a\\b",
            "events/..",
            "C:x",
            ".hidden",
            "ä",
            "a//b",
        ] {
            let found = unpack(&zip_of(bad, CompressionMethod::Stored));
            assert!(matches!(found, Err(ContainerError::Name(_))), "{bad}: {found:?}");
        }
        assert!(matches!(
            unpack(&zip_of(&"x".repeat(NAME_MAX + 1), CompressionMethod::Stored)),
            Err(ContainerError::Name(_))
        ));
    }

    #[test]
    fn what_is_cut_off_or_no_zip_is_refused() {
        let packed = pack(&entries()).unwrap();
        for end in 0..packed.len() {
            assert!(unpack(&packed[..end]).is_err(), "cut to {end} bytes");
        }
        assert!(unpack(b"").is_err());
    }

    #[test]
    fn what_is_beyond_the_limits_is_refused() {
        let longer = usize::try_from(BUNDLE_MAX).unwrap() + 1;
        assert!(matches!(unpack(&vec![0; longer]), Err(ContainerError::TooLarge)));
        let many: Entries = (0..=ENTRIES_MAX).map(|n| (format!("x{n}"), Vec::new())).collect();
        assert!(matches!(pack(&many), Err(ContainerError::TooMany)));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for name in many.keys() {
            zip.start_file(name.as_str(), options).unwrap();
        }
        let packed = zip.finish().unwrap().into_inner();
        assert!(matches!(unpack(&packed), Err(ContainerError::TooMany)));
    }

    /// Many directory entries may claim the same bytes; together they are no more than a file may have.
    #[test]
    fn entries_that_overlap_are_bounded() {
        const LONG: usize = 8 * 1024 * 1024;
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file("long", options).unwrap();
        zip.write_all(&vec![7; LONG]).unwrap();
        for n in 0..40 {
            zip.shallow_copy_file("long", &format!("copy{n}")).unwrap();
        }
        let packed = zip.finish().unwrap().into_inner();
        assert!(packed.len() < 2 * LONG);
        let found = unpack(&packed);
        assert!(found.is_err(), "{:?}", found.map(|entries| entries.len()));
    }
}
