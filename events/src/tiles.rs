//! Hash tiles: the rows of the Merkle tree that outsiders fetch and proofs are made from, after c2sp.org/tlog-tiles.
//!
//! Full tiles are stored, a projection like any index: the writer adds them in the transaction whose events complete
//! them, from the rows that stand in the file then, and keeps nothing in memory for it. What no stored tile holds is
//! computed when asked for: from the events behind the last full tile, or from the tiles below. Nothing here judges:
//! a hash is worth what it proves against a checkpoint.

use std::ops::Range;
use std::sync::Mutex;

use lru::LruCache;
use quittance_tlog::tile::{TILE_HEIGHT, TILE_WIDTH, new_tiles};
use quittance_tlog::{Bundle, Hash, Node, Tile, root_of};
use rusqlite::{Connection, OptionalExtension, params};

use crate::cache::lock;
use crate::copy::{Copy, CopyError};
use crate::ledger::Ledger;
use crate::store::{self, StoreError};

/// Bytes of a full tile.
const FULL_BYTES: usize = 8192;

/// Roots of full tiles, by level and index. They never change.
pub(crate) type Roots = Mutex<LruCache<(u8, u64), Hash>>;

/// The tree of a ledger file.
struct Tree<'a> {
    conn: &'a Connection,
    roots: Option<&'a Roots>,
}

impl Tree<'_> {
    /// The events that are these leaves, in order; leaf n is event n + 1.
    fn leaves<T>(
        &self,
        range: Range<u64>,
        mut each: impl FnMut(&[u8], &[u8]) -> T,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT seq, sealed, signature FROM event WHERE seq > ?1 AND seq <= ?2 ORDER BY seq",
        )?;
        let mut rows = statement.query([sql(range.start)?, sql(range.end)?])?;
        let mut leaves = Vec::new();
        for index in range {
            match rows.next()? {
                Some(row) if u64::try_from(row.get::<_, i64>(0)?) == Ok(index + 1) => {
                    let sealed = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
                    let signature = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
                    leaves.push(each(sealed, signature));
                }
                _ => return Err(StoreError::Damaged(format!("event {} is not there", index + 1))),
            }
        }
        Ok(leaves)
    }

    /// Hashes of the bottom row of tiles of this level.
    fn row(&self, level: u8, range: Range<u64>) -> Result<Vec<Hash>, StoreError> {
        match level.checked_sub(1) {
            None => self.leaves(range, |sealed, signature| {
                quittance_tlog::leaf_hash(&[sealed, signature].concat())
            }),
            Some(below) => range.map(|index| self.root(below, index)).collect(),
        }
    }

    /// The hash over a full tile.
    fn root(&self, level: u8, index: u64) -> Result<Hash, StoreError> {
        if let Some(root) = self
            .roots
            .and_then(|roots| lock(roots).get(&(level, index)).copied())
        {
            return Ok(root);
        }
        let hashes = match self.stored(level, index)? {
            Some(bytes) => bytes.as_chunks().0.iter().copied().map(Hash).collect(),
            None => self.row(level, of_tile(index, TILE_WIDTH))?,
        };
        let root = root_of(&hashes);
        if let Some(roots) = self.roots {
            lock(roots).put((level, index), root);
        }
        Ok(root)
    }

    fn stored(&self, level: u8, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let bytes: Option<Vec<u8>> = self
            .conn
            .prepare_cached("SELECT hashes FROM tile WHERE level = ?1 AND n = ?2")?
            .query_row(params![level, sql(index)?], |row| row.get(0))
            .optional()?;
        match bytes {
            Some(bytes) if bytes.len() != FULL_BYTES => Err(StoreError::Damaged(format!(
                "hash tile {level}/{index} has {} bytes",
                bytes.len()
            ))),
            bytes => Ok(bytes),
        }
    }

    fn tile(&self, tile: Tile) -> Result<Vec<u8>, StoreError> {
        if let Some(mut bytes) = self.stored(tile.level(), tile.index())? {
            bytes.truncate(FULL_BYTES / usize::from(TILE_WIDTH) * usize::from(tile.width()));
            return Ok(bytes);
        }
        let row = self.row(tile.level(), of_tile(tile.index(), tile.width()))?;
        Ok(row.iter().flat_map(|hash| hash.0).collect())
    }

    fn bundle(&self, bundle: Bundle) -> Result<Vec<u8>, StoreError> {
        let entries = self.leaves(bundle.entries(), |sealed, signature| [sealed, signature].concat())?;
        bundle
            .encode(&entries)
            .map_err(|e| StoreError::Damaged(format!("entries of {}: {e}", bundle.path())))
    }

    fn node(&self, node: Node) -> Result<Hash, StoreError> {
        let last: Option<i64> = self
            .conn
            .query_row("SELECT max(seq) FROM event", [], |row| row.get(0))?;
        let size = last.and_then(|last| u64::try_from(last).ok()).unwrap_or(0);
        let Some((tile, slots)) = Tile::holding(node, size) else {
            let (level, index) = (node.level, node.index);
            return Err(StoreError::Damaged(format!(
                "{size} events do not make up subtree {index} of level {level}"
            )));
        };
        if let Some(bytes) = self.stored(tile.level(), tile.index())? {
            let full = tile.full();
            return full
                .node_hash(node, &bytes)
                .map_err(|e| StoreError::Damaged(format!("{}: {e}", full.path())));
        }
        let first = tile.index() << TILE_HEIGHT;
        let row = first + u64::from(slots.start)..first + u64::from(slots.end);
        Ok(root_of(&self.row(tile.level(), row)?))
    }
}

/// Places of a tile's hashes in its row.
fn of_tile(index: u64, width: u16) -> Range<u64> {
    let first = index << TILE_HEIGHT;
    first..first + u64::from(width)
}

fn sql(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Damaged(format!("no ledger has {number} events")))
}

/// Adds the tiles that the events after the first `old` complete, up to `new` events, which stand in the file.
pub(crate) fn fill(conn: &Connection, old: u64, new: u64) -> Result<(), StoreError> {
    let tree = Tree { conn, roots: None };
    // From the bottom level up, so that each finds the ones below.
    for tile in new_tiles(old, new).filter(|tile| !tile.is_partial()) {
        let row = tree.row(tile.level(), of_tile(tile.index(), TILE_WIDTH))?;
        let hashes: Vec<u8> = row.iter().flat_map(|hash| hash.0).collect();
        conn.prepare_cached("INSERT INTO tile (level, n, hashes) VALUES (?1, ?2, ?3)")?
            .execute(params![tile.level(), sql(tile.index())?, hashes])?;
    }
    Ok(())
}

impl Ledger {
    /// The latest stored checkpoint, a signed note; `None` before the first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn checkpoint(&self) -> Result<Option<String>, StoreError> {
        self.read(store::latest_checkpoint)
    }

    /// A hash tile of exactly that width; `None` where the latest stored checkpoint does not cover all of it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn tile(&self, tile: Tile) -> Result<Option<Vec<u8>>, StoreError> {
        self.covered(|size| tile.is_in(size), |tree| tree.tile(tile))
    }

    /// An entry bundle of exactly that width: sealed bytes and signature of each event behind their length; `None`
    /// where the latest stored checkpoint does not cover all of it. At most 256 leaves, 16 MiB.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn entries(&self, bundle: Bundle) -> Result<Option<Vec<u8>>, StoreError> {
        self.covered(|size| bundle.is_in(size), |tree| tree.bundle(bundle))
    }

    /// The hash of a complete subtree over recorded events, for proofs.
    ///
    /// # Errors
    /// There are not that many events, or the file cannot be read.
    pub fn node_hash(&self, node: Node) -> Result<Hash, StoreError> {
        self.in_tree(|tree| tree.node(node))
    }

    fn covered<T>(
        &self,
        is_in: impl FnOnce(u64) -> bool,
        read: impl FnOnce(&Tree) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        // Events and checkpoints are only added, so that what is covered stays as it is while it is read.
        self.in_tree(|tree| {
            if is_in(store::checkpointed_size(tree.conn)?) {
                read(tree).map(Some)
            } else {
                Ok(None)
            }
        })
    }

    fn in_tree<T>(&self, read: impl FnOnce(&Tree) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.read(|conn| {
            read(&Tree {
                conn,
                roots: Some(&self.tile_roots),
            })
        })
    }
}

/// A hash tile as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTile {
    /// Its level.
    pub level: i64,
    /// Its index.
    pub n: i64,
    /// Its hashes, one after the other.
    pub hashes: Vec<u8>,
}

impl Copy {
    /// The hash of a complete subtree over the events of the copy, for proofs: from its stored tiles, as far as it has
    /// them. It is worth what it proves against a checkpoint.
    ///
    /// # Errors
    /// There are not that many events, or the file is damaged.
    pub fn node_hash(&self, node: Node) -> Result<Hash, CopyError> {
        let tree = Tree {
            conn: &self.conn,
            roots: None,
        };
        tree.node(node).map_err(|e| CopyError::Damaged(e.to_string()))
    }

    /// Walks the stored tiles, by level and index.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn walk_tiles(&self, mut each: impl FnMut(StoredTile)) -> Result<(), CopyError> {
        let mut statement = self
            .conn
            .prepare("SELECT level, n, hashes FROM tile ORDER BY level, n")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            each(StoredTile {
                level: row.get(0)?,
                n: row.get(1)?,
                hashes: row.get(2)?,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::collections::HashMap;

    use quittance_tlog::Frontier;

    use super::*;
    use crate::cache::bounded;
    use crate::schema;

    /// A tree that grows in a file, and all of its nodes.
    struct Grown {
        conn: Connection,
        frontier: Frontier,
        nodes: HashMap<Node, Hash>,
    }

    impl Grown {
        fn new() -> Grown {
            let conn = Connection::open_in_memory().unwrap();
            conn.execute_batch(schema::SCHEMA).unwrap();
            Grown {
                conn,
                frontier: Frontier::default(),
                nodes: HashMap::new(),
            }
        }

        /// One commit that brings the tree to that size.
        fn grow(&mut self, size: u64) {
            let old = self.frontier.size();
            let tx = self.conn.unchecked_transaction().unwrap();
            for seq in old + 1..=size {
                let (sealed, signature) = (seq.to_be_bytes(), [7; 3]);
                tx.prepare_cached("INSERT INTO event (seq, sealed, signature) VALUES (?1, ?2, ?3)")
                    .unwrap()
                    .execute(params![sql(seq).unwrap(), sealed, signature])
                    .unwrap();
                let leaf = quittance_tlog::leaf_hash(&[sealed.as_slice(), &signature].concat());
                let nodes = &mut self.nodes;
                self.frontier.push_with(leaf, |node, hash| {
                    nodes.insert(node, *hash);
                });
            }
            fill(&tx, old, size).unwrap();
            tx.commit().unwrap();
        }

        fn tree<'a>(&'a self, roots: Option<&'a Roots>) -> Tree<'a> {
            Tree {
                conn: &self.conn,
                roots,
            }
        }

        /// A tile is what the tree that remembers all nodes says.
        fn check_tile(&self, tree: &Tree, tile: Tile) {
            let wanted = tile.bytes(|node| Ok::<_, ()>(self.nodes[&node])).unwrap();
            assert_eq!(tree.tile(tile).unwrap(), wanted, "{}", tile.path());
        }

        fn stored(&self) -> i64 {
            self.conn
                .query_row("SELECT count(*) FROM tile", [], |row| row.get(0))
                .unwrap()
        }
    }

    #[test]
    fn whatever_a_commit_holds_the_tiles_are_those_of_the_tree() {
        let mut grown = Grown::new();
        for (size, full) in [(1, 0), (255, 0), (256, 1), (257, 1), (513, 2), (1_100, 4)] {
            grown.grow(size);
            assert_eq!(grown.stored(), full, "{size}");
            let tree = grown.tree(None);
            for tile in new_tiles(0, size) {
                for width in [1, tile.width() / 2 + 1, tile.width()] {
                    let narrow = Tile::new(tile.level(), tile.index(), width).unwrap();
                    grown.check_tile(&tree, narrow);
                }
            }
            for (node, hash) in &grown.nodes {
                if node.index % 37 == 0 || node.level > 2 {
                    assert_eq!(tree.node(*node).unwrap(), *hash, "{node:?}");
                }
            }
        }
        let beyond = Node { level: 3, index: 137 };
        assert!(grown.tree(None).node(beyond).is_err());
    }

    #[test]
    fn a_second_level_is_made_of_the_tiles_below_it() {
        let mut grown = Grown::new();
        let roots: Roots = Mutex::new(bounded(100));
        for (size, full) in [(65_535, 255), (65_536, 257), (66_100, 259)] {
            grown.grow(size);
            assert_eq!(grown.stored(), full, "{size}");
            let (plain, cached) = (grown.tree(None), grown.tree(Some(&roots)));
            for tile in new_tiles(0, size).filter(|tile| tile.level() > 0 || tile.is_partial()) {
                grown.check_tile(&plain, tile);
                grown.check_tile(&cached, tile);
            }
            for (node, hash) in grown.nodes.iter().filter(|(node, _)| node.level > 10) {
                assert_eq!(plain.node(*node).unwrap(), *hash, "{node:?}");
                assert_eq!(cached.node(*node).unwrap(), *hash, "{node:?}");
            }
        }
        // Without any stored tile, from the events alone.
        let bare = Tree { ..grown.tree(None) };
        let half = Node { level: 15, index: 0 };
        assert_eq!(bare.node(half).unwrap(), grown.nodes[&half]);
    }

    #[test]
    fn a_missing_event_is_told_and_never_hashed_over() {
        let mut grown = Grown::new();
        grown.grow(300);
        grown
            .conn
            .execute_batch("DROP TRIGGER event_delete; DELETE FROM event WHERE seq IN (20, 280)")
            .unwrap();
        let tree = grown.tree(None);
        let error = tree.tile(Tile::new(0, 1, 40).unwrap()).unwrap_err().to_string();
        assert!(error.contains("event 280 is not there"), "{error}");
        grown.check_tile(&tree, Tile::new(0, 1, 20).unwrap());
        let error = tree.bundle(Bundle::new(0, 256).unwrap()).unwrap_err().to_string();
        assert!(error.contains("event 20 is not there"), "{error}");
    }
}
