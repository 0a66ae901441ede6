//! Backup and takeover as the operator types them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

fn config(folder: &Path, name: &str) -> PathBuf {
    let file = folder.join(format!("{name}.conf"));
    let text = format!(
        "[taler]\nCURRENCY = KUDOS\n[merchant]\nSERVE = tcp\nPORT = 0\nBASE_URL = https://shop.example/\n\
         [quittance]\nLEDGER = {name}/ledger.sqlite3\nANCHOR = {name}-anchor/ledger.anchor\n\
         KEYS = {name}-keys/\nORIGIN = shop.example/{name}\n"
    );
    std::fs::write(&file, text).unwrap();
    file
}

fn run(folder: &Path, name: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quittance"))
        .args(arguments)
        .arg("-c")
        .arg(config(folder, name))
        .current_dir(folder)
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

#[test]
fn from_a_backup_to_a_successor() {
    let home = TempDir::new().unwrap();
    let folder = home.path();
    let ok = |name, arguments: &[&str]| {
        let output = run(folder, name, arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    };
    ok("old", &["init"]);
    ok("old", &["instance", "add", "--id", "default"]);
    let (out, _) = ok("old", &["backup", "--out", "kept.sqlite3"]);
    assert_eq!(
        out,
        "kept.sqlite3: 2 events\nkept.sqlite3.checkpoint: checkpoint of 2 events; 0 events lie behind it\n"
    );
    assert_eq!(
        run(folder, "old", &["backup", "--out", "kept.sqlite3"])
            .status
            .code(),
        Some(1)
    );
    // Lost after the backup, as the anchor tells.
    ok("old", &["instance", "add", "--id", "second"]);
    let anchor = ["--anchor", "old-anchor/ledger.anchor"];
    let take_over = [
        &["init", "--continues", "kept.sqlite3"][..],
        &anchor,
        &["--old-keys", "old-keys"],
    ]
    .concat();
    let same = run(folder, "old", &take_over);
    assert_eq!(same.status.code(), Some(1), "its ledger is there already");
    let missing = run(folder, "new", &[&take_over[..3], &anchor].concat());
    let said = String::from_utf8(missing.stderr).unwrap();
    assert_eq!(missing.status.code(), Some(1), "{said}");
    assert!(
        said.contains("instance default has no key") && said.contains("--old-keys"),
        "{said}"
    );
    assert_eq!(
        run(folder, "new", &take_over[..3]).status.code(),
        Some(2),
        "without an anchor"
    );
    let (out, told) = ok("new", &take_over);
    assert!(
        out.starts_with("shop.example/new+") && out.lines().count() == 1,
        "{out}"
    );
    for words in [
        "it continues shop.example/old after 2 events; 0 orders are carried in, 0 stay behind",
        "1 events are lost, as far as the old anchor tells",
        "generation 1: ids of refunds begin at 1048576",
        "instance default is open",
    ] {
        assert!(told.contains(words), "{words:?} is not in {told}");
    }
    // Opened again, and its token with it.
    ok("new", &["instance", "close", "--id", "default"]);
    // Nothing lost that the anchor shows, and yet the operator knows better.
    let after_loss = [
        "init",
        "--continues",
        "new/ledger.sqlite3",
        "--anchor",
        "new-anchor/ledger.anchor",
        "--after-loss",
    ];
    let (_, told) = ok("third", &after_loss);
    assert!(
        told.contains("generation 2: ids of refunds begin at 2097152"),
        "{told}"
    );
}
