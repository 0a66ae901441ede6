//! Stored hash tiles against the tree that the walk over all events hashed itself. No answer and no finding rests on a
//! tile, but outsiders fetch them, and proofs are made from them.

use std::collections::BTreeMap;

use quittance_events::copy::{Copy, CopyError};
use quittance_events::tiles::StoredTile;
use quittance_tlog::tile::TILE_HEIGHT;
use quittance_tlog::{Hash, Node, Tile};

use crate::findings::{Draft, Findings};
use crate::rules;

/// The hash over each full tile of the tree, by level and index: it commits to all hashes in the tile. 48 bytes for
/// every 256 events.
#[derive(Default)]
pub(crate) struct FullTiles(BTreeMap<(u8, u64), Hash>);

impl FullTiles {
    /// Takes a subtree that an event completed.
    pub(crate) fn completed(&mut self, node: Node, hash: &Hash) {
        if let Some(level) = (node.level / TILE_HEIGHT).checked_sub(1)
            && node.level.is_multiple_of(TILE_HEIGHT)
        {
            self.0.insert((level, node.index), *hash);
        }
    }
}

/// Number of the last event under a tile.
fn last_event(level: u8, n: u64) -> u64 {
    let events = 1_u64.checked_shl((u32::from(level) + 1) * u32::from(TILE_HEIGHT));
    events
        .and_then(|events| events.checked_mul(n.checked_add(1)?))
        .unwrap_or(u64::MAX)
}

/// Compares all of them.
pub(crate) fn check(copy: &Copy, tree: &FullTiles, findings: &mut Findings) -> Result<(), CopyError> {
    let mut root = None;
    let mut tell = |last: u64, text: String| {
        // Where an event under the tile is in doubt, so is the tile.
        root = root.or(findings.place_up_to(last));
        root = Some(findings.add(Draft::of_file(&rules::LOG_TILES, text), root));
    };
    let missing = |level, n| (last_event(level, n), format!("hash tile {level}/{n} is missing"));
    let mut expected = tree.0.iter().peekable();
    copy.walk_tiles(|StoredTile { level, n, hashes }| {
        let place = u8::try_from(level).ok().zip(u64::try_from(n).ok());
        let wanted = place.and_then(|place| {
            while let Some(((level, n), _)) = expected.next_if(|(wanted, _)| **wanted < place) {
                let (last, text) = missing(*level, *n);
                tell(last, text);
            }
            expected.next_if(|(wanted, _)| **wanted == place)
        });
        match wanted {
            None => tell(
                u64::MAX,
                format!("hash tile {level}/{n} is stored, and the events do not fill it"),
            ),
            Some((place, hash)) if hash_over(*place, &hashes) != Some(*hash) => tell(
                last_event(place.0, place.1),
                format!("hash tile {level}/{n} does not hold the hashes of the tree"),
            ),
            Some(_) => {}
        }
    })?;
    for ((level, n), _) in expected {
        let (last, text) = missing(*level, *n);
        tell(last, text);
    }
    Ok(())
}

/// The hash over a stored tile; `None` if it is no full tile.
fn hash_over((level, n): (u8, u64), hashes: &[u8]) -> Option<Hash> {
    let tile = Tile::new(level, n, quittance_tlog::tile::TILE_WIDTH).ok()?;
    let node = Node {
        level: (level + 1) * TILE_HEIGHT,
        index: n,
    };
    tile.node_hash(node, hashes).ok()
}
