//! Tile paths have one form; a bundle's bytes are its entries and nothing else; a tile's hashes are where they belong.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quittance_fuzz::{bounded, text};
use quittance_tlog::{Bundle, Node, TilePath};

fuzz_target!(|data: &[u8]| {
    bounded(data.len(), 64, || {
        let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
        let (path, bytes) = (&data[..end], data.get(end + 1..).unwrap_or_default());
        let Some(path) = text(path) else { return };
        let bundle = match path.parse::<TilePath>() {
            Ok(read) => {
                assert_eq!(read.to_string(), path);
                match read {
                    TilePath::Entries(bundle) => {
                        assert!(!bundle.entries().is_empty());
                        assert!(bundle.is_in(bundle.entries().end) || bundle.entries().end == u64::MAX);
                        bundle
                    }
                    TilePath::Hashes(tile) => {
                        assert!(tile.full().width() >= tile.width());
                        assert_eq!(tile.nodes().count(), usize::from(tile.width()));
                        for node in tile.nodes().take(2) {
                            let fits = bytes.len() == usize::from(tile.width()) * 32;
                            assert_eq!(tile.node_hash(node, bytes).is_ok(), fits);
                        }
                        let far = Node {
                            level: u8::MAX,
                            index: u64::MAX,
                        };
                        assert!(tile.node_hash(far, bytes).is_err());
                        return;
                    }
                }
            }
            Err(_) => Bundle::new(0, 1 + u16::from(data.first().copied().unwrap_or(0))).expect("1 to 256"),
        };
        if let Ok(entries) = bundle.decode(bytes) {
            assert_eq!(entries.len(), usize::from(bundle.width()));
            assert_eq!(bundle.encode(&entries).as_deref(), Ok(bytes));
        }
    });
});
