//! Configuration: up to four files, parted by NUL bytes, that may inline each other. What is read is read again as the
//! same from the form in which every value is quoted; the service's own reading of it never panics.
#![no_main]

use std::fmt::Write as _;
use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use quittance::config::Config;
use quittance::config::taler_conf::TalerConf;
use quittance_fuzz::bounded;
use tempfile::TempDir;

const NAMES: [&str; 4] = ["main.conf", "a.conf", "b.conf", "c.conf"];

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| TempDir::new().expect("a folder"));

/// Files elsewhere on this machine are no part of the input.
fn leads_away(data: &[u8]) -> bool {
    data.split(|byte| *byte == b'\n')
        .any(|line| line.trim_ascii_start().starts_with(b"@") && line.contains(&b'/'))
}

fuzz_target!(|data: &[u8]| {
    if leads_away(data) {
        return;
    }
    let mut parts = data.split(|byte| *byte == 0);
    for name in NAMES {
        fs::write(FOLDER.path().join(name), parts.next().unwrap_or_default()).expect("a file");
    }
    let main = FOLDER.path().join(NAMES[0]);
    // At most 128 files are read, whatever inlines what.
    bounded(data.len(), 128 * 64, || {
        let _ = Config::load(&main);
        let Ok(read) = TalerConf::load(&main) else { return };
        let mut text = String::new();
        for name in read.section_names() {
            let section = read.section(name).expect("a name of its own");
            writeln!(text, "[{name}]").expect("a string");
            for (key, value) in &section.options {
                writeln!(text, "{key} = \"{}\"", value.text).expect("a string");
            }
        }
        fs::write(&main, &text).expect("a file");
        let again = TalerConf::load(&main).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert!(again.section_names().eq(read.section_names()));
        for name in read.section_names() {
            let options = |conf: &TalerConf| -> Vec<(String, String)> {
                let section = conf.section(name).expect("the same sections");
                section
                    .options
                    .iter()
                    .map(|(key, value)| (key.clone(), value.text.clone()))
                    .collect()
            };
            assert_eq!(options(&again), options(&read));
        }
    });
});
