//! Tiles against the specification's examples and against tlog_tiles.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use proptest::prelude::*;
use quittance_tlog::proof::{inclusion_proof, verify_inclusion};
use quittance_tlog::tile::{MAX_TILE_LEVEL, TILE_WIDTH, new_bundles, new_tiles};
use quittance_tlog::{Bundle, Node, Tile, TileError, TilePath};
use std::collections::HashMap;
use support::Tree;

/// The size of the specification's example.
const EXAMPLE: u64 = 70_000;

fn tile(level: u8, index: u64, width: u16) -> Tile {
    Tile::new(level, index, width).unwrap()
}

fn bundle(index: u64, width: u16) -> Bundle {
    Bundle::new(index, width).unwrap()
}

/// The tile's path as tlog_tiles writes it: the same behind its height.
fn their_path(theirs: &tlog_tiles::Tile) -> String {
    theirs.path().replacen("tile/8/", "tile/", 1)
}

fn their_tile(tile: Tile) -> tlog_tiles::Tile {
    tlog_tiles::Tile::new(8, tile.level(), tile.index(), u32::from(tile.width()), false)
}

#[test]
fn the_trees_of_the_specification() {
    let tiles: Vec<Tile> = new_tiles(0, EXAMPLE).collect();
    assert_eq!(tiles.len(), 273 + 1 + 1 + 1 + 1);
    assert!(
        tiles[..273]
            .iter()
            .zip(0..)
            .all(|(found, index)| *found == tile(0, index, 256))
    );
    assert_eq!(
        tiles[273..],
        [tile(0, 273, 112), tile(1, 0, 256), tile(1, 1, 17), tile(2, 0, 1)]
    );
    let of_256: Vec<Tile> = new_tiles(0, 256).collect();
    assert_eq!(of_256, [tile(0, 0, 256), tile(1, 0, 1)]);
    assert_eq!(new_tiles(0, 0).count(), 0);
    assert_eq!(new_bundles(0, EXAMPLE).last(), Some(bundle(273, 112)));
    assert_eq!(
        new_bundles(EXAMPLE, EXAMPLE + 200).collect::<Vec<_>>(),
        [bundle(273, 256), bundle(274, 56)]
    );
    assert_eq!(new_bundles(512, 512).count(), 0);
}

#[test]
fn paths() {
    let written = [
        (TilePath::Hashes(tile(0, 1_234_067, 256)), "tile/0/x001/x234/067"),
        (TilePath::Hashes(tile(0, 0, 1)), "tile/0/000.p/1"),
        (TilePath::Hashes(tile(7, 0, 255)), "tile/7/000.p/255"),
        (TilePath::Hashes(tile(1, 1000, 256)), "tile/1/x001/000"),
        (TilePath::Entries(bundle(67, 256)), "tile/entries/067"),
        (
            TilePath::Entries(bundle(1_234_067, 8)),
            "tile/entries/x001/x234/067.p/8",
        ),
        (
            TilePath::Hashes(tile(0, u64::MAX >> 8, 256)),
            "tile/0/x072/x057/x594/x037/x927/935",
        ),
    ];
    for (path, text) in written {
        assert_eq!(path.to_string(), text);
        assert_eq!(text.parse(), Ok(path));
    }
    assert_eq!(tile(0, 67, 3).path(), "tile/0/067.p/3");
    assert_eq!(bundle(67, 3).path(), "tile/entries/067.p/3");
    for text in [
        "",
        "tile",
        "tile/0",
        "tile/0/",
        "/tile/0/000",
        "tile/0/000/",
        "tile//000",
        "tile/00/000",
        "tile/+0/000",
        "tile/8/000",
        "tile/63/000",
        "tile/256/000",
        "tile/-1/000",
        "tile/data/000",
        "tile/Entries/000",
        "tile/entries",
        "tile/entries/",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/x000",
        "tile/0/x000/001",
        "tile/0/001/x002",
        "tile/0/001/002",
        "tile/0/X001/002",
        "tile/0/x001/+02",
        "tile/0/x001/2",
        "tile/0/x001//002",
        "tile/0/000.p/0",
        "tile/0/000.p/00",
        "tile/0/000.p/01",
        "tile/0/000.p/+1",
        "tile/0/000.p/256",
        "tile/0/000.p/65537",
        "tile/0/000.p/",
        "tile/0/000.p",
        "tile/0/000.p/1.p/1",
        "tile/0/000.p/1/",
        "tile/0/000 ",
        "tile/0/../../000",
        "tile/0/\u{661}00",
        "tile/0/x072/x057/x594/x037/x927/936",
        "tile/0/x018/x446/x744/x073/x709/x551/616",
        "tile/0/x999/x999/x999/x999/x999/x999/x999/x999/999",
    ] {
        assert_eq!(text.parse::<TilePath>(), Err(TileError::Path), "{text:?}");
    }
    for (level, index, width) in [
        (0, 0, 0),
        (0, 0, 257),
        (MAX_TILE_LEVEL + 1, 0, 1),
        (0, 1 << 56, 1),
    ] {
        assert_eq!(Tile::new(level, index, width), Err(TileError::Coordinates));
    }
    assert_eq!(Bundle::new(0, 0), Err(TileError::Coordinates));
}

#[test]
fn tlog_tiles_has_the_same_tiles_of_every_tree() {
    for (old, new) in
        (0..600)
            .map(|new| (new / 2, new))
            .chain([(0, EXAMPLE), (65_535, 65_536), (1 << 40, (1 << 40) + 1)])
    {
        let ours: Vec<String> = new_tiles(old, new).map(Tile::path).collect();
        let theirs: Vec<String> = tlog_tiles::Tile::new_tiles(8, old, new)
            .iter()
            .map(their_path)
            .collect();
        assert_eq!(ours, theirs, "{old} to {new}");
    }
}

#[test]
fn tiles_hold_what_tlog_tiles_puts_there_and_every_node_is_found_again() {
    let tree = Tree::numbered(EXAMPLE);
    let stored: HashMap<Tile, Vec<u8>> = new_tiles(0, EXAMPLE)
        .map(|tile| (tile, tile.bytes(tree.read(EXAMPLE)).unwrap()))
        .collect();
    for (tile, bytes) in &stored {
        assert!(tile.is_in(EXAMPLE));
        assert!(bytes == &their_tile(*tile).read_data(&tree).unwrap(), "{tile:?}");
    }
    let mut read = |node| {
        let (tile, _) = Tile::holding(node, EXAMPLE).unwrap();
        tile.node_hash(node, &stored[&tile])
    };
    for (&node, hash) in tree
        .nodes
        .iter()
        .filter(|(node, _)| node.level > 5 || node.index % 41 == 0)
    {
        assert_eq!(read(node).unwrap(), *hash);
        let index = tlog_tiles::stored_hash_index(node.level, node.index);
        let (tile, slots) = Tile::holding(node, EXAMPLE).unwrap();
        let theirs = tlog_tiles::Tile::from_index(8, index);
        assert_eq!(
            (tile.level(), tile.index()),
            (theirs.level(), theirs.level_index())
        );
        // Theirs is cut behind the node.
        assert_eq!(u32::from(slots.end), theirs.width());
        assert_eq!(
            their_tile(tile).hash_at_index(&stored[&tile], index).unwrap().0,
            hash.0
        );
    }
    for index in (0..EXAMPLE).step_by(6_999) {
        let proof = inclusion_proof(index, EXAMPLE, &mut read).unwrap();
        assert_eq!(
            verify_inclusion(&tree.leaf(index), index, EXAMPLE, &proof, &tree.root(EXAMPLE)),
            Ok(())
        );
    }
}

#[test]
fn a_node_is_only_where_it_is() {
    let tree = Tree::numbered(600);
    let full = tile(0, 1, 256);
    let bytes = full.bytes(tree.read(600)).unwrap();
    let node = |level, index| Node { level, index };
    assert_eq!(full.node_hash(node(0, 511), &bytes), Ok(tree.leaf(511)));
    // The root of a full tile is in the tile above, too; the two have to agree.
    assert_eq!(full.node_hash(node(8, 1), &bytes), Ok(tree.nodes[&node(8, 1)]));
    assert_eq!(Tile::holding(node(8, 1), 600), Some((tile(1, 0, 2), 1..2)));
    for other in [
        node(0, 255),
        node(0, 512),
        node(1, 127),
        node(8, 0),
        node(9, 0),
        node(16, 0),
        node(255, 0),
        node(3, u64::MAX),
    ] {
        assert_eq!(full.node_hash(other, &bytes), Err(TileError::NotInTile(other)));
    }
    let partial = tile(0, 2, 88);
    let cut = partial.bytes(tree.read(600)).unwrap();
    assert_eq!(partial.node_hash(node(3, 74), &cut), Ok(tree.nodes[&node(3, 74)]));
    let beyond = node(4, 37);
    assert_eq!(partial.node_hash(beyond, &cut), Err(TileError::NotInTile(beyond)));
    assert_eq!(Tile::holding(beyond, 600), None);
    assert_eq!(
        Tile::holding(node(3, 74), 600).map(|(tile, _)| tile),
        Some(partial)
    );
    assert_eq!(Tile::holding(node(64, 0), u64::MAX), None);
    assert_eq!(
        Tile::holding(node(63, 0), u64::MAX),
        Some((tile(7, 0, 255), 0..128))
    );
    for wrong in [&bytes[..bytes.len() - 1], &bytes[..bytes.len() - 32], &[], &cut] {
        let size = TileError::Size {
            width: 256,
            found: wrong.len(),
        };
        assert_eq!(full.node_hash(node(0, 256), wrong), Err(size));
    }
    // A partial tile stays what it was when the tree has grown; the full one has the same beginning.
    assert!(partial.is_in(600) && partial.is_in(10_000) && !partial.is_in(599));
    assert!(partial.is_partial() && !partial.full().is_partial());
    assert_eq!(partial.full(), tile(0, 2, 256));
    assert!(bundle(2, 88).is_in(600) && !bundle(2, 89).is_in(600));
    assert_eq!(bundle(2, 88).entries(), 512..600);
    assert!(!tile(7, (1 << 56) - 1, 256).is_in(u64::MAX));
    assert_eq!(new_tiles(u64::MAX - 1, u64::MAX).count(), 1);
}

#[test]
fn bundles() {
    let longest = vec![7; 65_535];
    let entries: [&[u8]; 3] = [b"", b"a", &longest];
    let bytes = bundle(0, 3).encode(&entries).unwrap();
    assert_eq!(bytes[..5], [0, 0, 0, 1, b'a']);
    assert_eq!(bytes[5..7], [0xff, 0xff]);
    assert_eq!(bundle(0, 3).decode(&bytes).unwrap(), entries);
    for width in [1, 2, 4, 256] {
        assert_eq!(bundle(0, width).decode(&bytes), Err(TileError::Entries(width)));
        assert_eq!(bundle(0, width).encode(&entries), Err(TileError::Entries(width)));
    }
    for wrong in [
        &bytes[1..],
        &bytes[..bytes.len() - 1],
        &[bytes.as_slice(), &[0]].concat(),
    ] {
        assert_eq!(bundle(0, 3).decode(wrong), Err(TileError::Entries(3)));
    }
    assert_eq!(
        bundle(0, 1).encode(&[vec![0; 65_536]]),
        Err(TileError::EntryLength(65_536))
    );
}

proptest! {
    #[test]
    fn only_what_is_written_is_read_as_a_path(
        text in prop_oneof![
            "tile/(entries|[0-9]{1,2})/(x?[0-9]{1,4}/){0,7}x?[0-9]{1,4}(\\.p/[0-9]{1,3})?",
            "[tilenrs0-9x./p+-]{0,24}",
            any::<String>(),
        ],
    ) {
        if let Ok(path) = text.parse::<TilePath>() {
            prop_assert_eq!(path.to_string(), text);
        }
    }

    #[test]
    fn every_path_is_read_again(level in 0..=MAX_TILE_LEVEL, index in 0_u64..1 << 56, shift in 0_u32..56, width in 1..=TILE_WIDTH) {
        let index = index >> shift;
        let hashes = TilePath::Hashes(tile(level, index, width));
        prop_assert_eq!(hashes.to_string().parse(), Ok(hashes));
        let entries = TilePath::Entries(bundle(index, width));
        prop_assert_eq!(entries.to_string().parse(), Ok(entries));
        prop_assert_eq!(hashes.to_string(), their_path(&their_tile(tile(level, index, width))));
    }

    #[test]
    fn only_what_is_written_is_read_as_a_bundle(
        bytes in prop::collection::vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..40),
        width in 1_u16..20,
    ) {
        if let Ok(entries) = bundle(0, width).decode(&bytes) {
            prop_assert_eq!(bundle(0, width).encode(&entries), Ok(bytes.clone()));
        }
    }
}
