//! Hash tiles of a ledger that grows through the real writer.

use quittance_events::copy::{Copy, CopyError};
use quittance_events::{Ledger, NewEvent};
use quittance_tlog::tile::{new_bundles, new_tiles};
use quittance_tlog::{Bundle, Checkpoint, Frontier, Node, Tile, leaf_hash};

use crate::support::{Home, append, at, deposit, keys, order_key, terms};

/// An order with this many deposits: one commit.
async fn sell(ledger: &Ledger, order: &str, deposits: usize) {
    let deposits = (1..=deposits).map(deposit);
    let events: Vec<NewEvent> = std::iter::once(terms()).chain(deposits).collect();
    append(ledger, &order_key(order), at(1), events).await;
}

fn leaves(home: &Home) -> Vec<Vec<u8>> {
    let mut leaves = Vec::new();
    let each = |event: Result<quittance_events::copy::StoredEvent, _>| {
        let event = event.unwrap();
        leaves.push([event.sealed, event.signature].concat());
        Ok::<_, CopyError>(())
    };
    Copy::open(&home.paths.ledger).unwrap().walk(each).unwrap();
    leaves
}

fn stored(home: &Home) -> Vec<(i64, i64, Vec<u8>)> {
    let mut tiles = Vec::new();
    Copy::open(&home.paths.ledger)
        .unwrap()
        .walk_tiles(|tile| tiles.push((tile.level, tile.n, tile.hashes)))
        .unwrap();
    tiles
}

fn hashes(leaves: &[Vec<u8>]) -> Vec<u8> {
    leaves.iter().flat_map(|leaf| leaf_hash(leaf).0).collect()
}

#[tokio::test]
async fn what_the_latest_checkpoint_covers_can_be_read_and_nothing_else() {
    let home = Home::new();
    for (order, deposits, size) in [("a", 253, 255), ("b", 0, 256), ("c", 299, 556)] {
        let ledger = home.open();
        sell(&ledger, order, deposits).await;
        ledger.close();
        assert_eq!(home.count(), size);
        let leaves = leaves(&home);
        let ledger = home.open();
        let note = ledger.checkpoint().unwrap().unwrap();
        let checkpoint = Checkpoint::open(&note, &keys().checkpoint.verifier()).unwrap();
        assert_eq!(checkpoint.size, size);
        let root = quittance_tlog::proof::root(size, |node| ledger.node_hash(node)).unwrap();
        assert_eq!(root, checkpoint.root);

        for tile in new_tiles(0, size).filter(|tile| tile.level() == 0) {
            let first = usize::try_from(tile.index()).unwrap() * 256;
            let wanted = hashes(&leaves[first..first + usize::from(tile.width())]);
            assert_eq!(ledger.tile(tile).unwrap().unwrap(), wanted, "{}", tile.path());
        }
        for bundle in new_bundles(0, size) {
            let bytes = ledger.entries(bundle).unwrap().unwrap();
            let first = usize::try_from(bundle.index()).unwrap() * 256;
            let wanted: Vec<&[u8]> = leaves[first..first + usize::from(bundle.width())]
                .iter()
                .map(Vec::as_slice)
                .collect();
            assert_eq!(bundle.decode(&bytes).unwrap(), wanted, "{}", bundle.path());
        }
        let (index, width) = (size / 256, u16::try_from(size % 256 + 1).unwrap());
        assert_eq!(ledger.tile(Tile::new(0, index, width).unwrap()).unwrap(), None);
        assert_eq!(ledger.entries(Bundle::new(index, width).unwrap()).unwrap(), None);
        assert_eq!(ledger.tile(Tile::new(2, 0, 1).unwrap()).unwrap(), None);
    }
    // Two full tiles by now; on level 1 stands what they come to.
    let tiles = stored(&home);
    let places: Vec<_> = tiles.iter().map(|(level, n, _)| (*level, *n)).collect();
    assert_eq!(places, [(0, 0), (0, 1)]);
    let ledger = home.open();
    let second = Node { level: 8, index: 1 };
    let level_1 = ledger.tile(Tile::new(1, 0, 2).unwrap()).unwrap().unwrap();
    assert_eq!(level_1[32..], ledger.node_hash(second).unwrap().0);
}

#[tokio::test]
async fn events_beyond_the_latest_checkpoint_are_not_shown_yet() {
    let home = Home::new();
    let ledger = home.open();
    sell(&ledger, "a", 260).await;
    ledger.close();
    let ledger = home.open();
    let (full, first) = (Tile::new(0, 0, 256).unwrap(), Tile::new(0, 0, 1).unwrap());
    let (entries, one) = (Bundle::new(0, 256).unwrap(), Bundle::new(0, 1).unwrap());
    assert!(ledger.tile(full).unwrap().is_some() && ledger.entries(entries).unwrap().is_some());
    // As in the moment between a commit and its checkpoint.
    home.stranger()
        .execute_batch("DROP TRIGGER checkpoint_delete; DELETE FROM checkpoint WHERE size > 1")
        .unwrap();
    assert!(ledger.tile(full).unwrap().is_none() && ledger.entries(entries).unwrap().is_none());
    let hash = leaf_hash(
        &one.decode(&ledger.entries(one).unwrap().unwrap())
            .unwrap()
            .concat(),
    );
    assert_eq!(ledger.tile(first).unwrap().unwrap(), hash.0);
    // Proofs for a witness are made before anybody else sees the checkpoint.
    assert_eq!(ledger.node_hash(Node { level: 0, index: 0 }).unwrap(), hash);
    assert!(ledger.node_hash(Node { level: 8, index: 0 }).is_ok());
}

#[tokio::test]
async fn a_copy_gives_the_hash_of_every_subtree() {
    let home = Home::new();
    let ledger = home.open();
    sell(&ledger, "a", 520).await;
    ledger.close();
    assert_eq!(stored(&home).len(), 2);
    let copy = Copy::open(&home.paths.ledger).unwrap();
    let mut frontier = Frontier::default();
    for leaf in leaves(&home) {
        frontier.push_with(leaf_hash(&leaf), |node, hash| {
            assert_eq!(copy.node_hash(node).unwrap(), *hash);
        });
    }
    assert!(copy.node_hash(Node { level: 9, index: 1 }).is_err());
}
