//! Tiles: a tree and its entries cut into files that never change, after c2sp.org/tlog-tiles.
//!
//! It knows which files there are, what they are called and what is in them; it reads and serves none. What comes
//! out of a tile is as trustworthy as who sent it: check the proofs made from it against a checkpoint's root.

use crate::tree::{Hash, Node, node_hash};
use std::{fmt, ops::Range, str::FromStr};

/// How many levels of the tree one tile covers.
pub const TILE_HEIGHT: u8 = 8;

/// How many hashes, or entries, a full tile or bundle has.
pub const TILE_WIDTH: u16 = 1 << TILE_HEIGHT;

/// The highest level that a tile can have. The format counts on to 63, but a size has 64 bits: no tree reaches a
/// level above 7.
pub const MAX_TILE_LEVEL: u8 = 7;

/// Bytes of one hash in a tile.
const HASH_BYTES: usize = 32;

/// Bytes in front of an entry in a bundle, for its length.
const LENGTH_BYTES: usize = 2;

/// Why a path or the contents of a tile or bundle are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// The text is not the one way to write the path of a tile or a bundle.
    #[error("not the path of a tile or an entry bundle")]
    Path,
    /// The level is above [`MAX_TILE_LEVEL`], the width is 0 or above [`TILE_WIDTH`], or no tree is large enough.
    #[error("there is no such tile")]
    Coordinates,
    /// The tile has another number of bytes.
    #[error("a tile of {width} hashes does not have {found} bytes")]
    Size {
        /// The tile's width.
        width: u16,
        /// How many bytes there were.
        found: usize,
    },
    /// The node is not one that this tile covers, or its hashes are not yet all in it.
    #[error("node {} of level {} is not in this tile", .0.index, .0.level)]
    NotInTile(Node),
    /// An entry is longer than its length prefix can say.
    #[error("an entry in a bundle has at most 65535 bytes, not {0}")]
    EntryLength(usize),
    /// The bundle does not hold exactly as many entries as its width says.
    #[error("the bundle does not hold exactly {0} entries")]
    Entries(u16),
}

/// Hashes of one level of the tree: up to 256 neighbours at tree level 8 * level, beginning with a multiple of 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tile {
    level: u8,
    index: u64,
    width: u16,
}

/// The entries under one tile of level 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bundle {
    index: u64,
    width: u16,
}

/// What a path below a log's prefix names.
///
/// ```
/// # use quittance_tlog::tile::{Tile, TilePath};
/// let path: TilePath = "tile/0/x001/067.p/8".parse()?;
/// assert_eq!(path, TilePath::Hashes(Tile::new(0, 1067, 8)?));
/// assert_eq!(path.to_string(), "tile/0/x001/067.p/8");
/// assert!("tile/0/x000/067".parse::<TilePath>().is_err());
/// # Ok::<(), quittance_tlog::tile::TileError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TilePath {
    /// `tile/<L>/<N>[.p/<W>]`
    Hashes(Tile),
    /// `tile/entries/<N>[.p/<W>]`
    Entries(Bundle),
}

/// How many complete subtrees of a tile's bottom row a tree of that size has.
fn row_length(level: u8, size: u64) -> u64 {
    size >> (level * TILE_HEIGHT)
}

/// Whether 256 hashes from this place on can be counted in 64 bits; every tile of a tree of up to 2^64 - 1 leaves
/// starts below that.
fn checked(index: u64, width: u16) -> Result<(), TileError> {
    let possible = (1..=TILE_WIDTH).contains(&width) && index <= u64::MAX >> TILE_HEIGHT;
    if possible {
        Ok(())
    } else {
        Err(TileError::Coordinates)
    }
}

/// Index and width of the tiles of a row that has grown: all that hold a hash which was not there before.
fn grown(old: u64, new: u64) -> impl Iterator<Item = (u64, u16)> {
    let width = u64::from(TILE_WIDTH);
    let first = if new > old {
        old / width
    } else {
        new.div_ceil(width)
    };
    (first..new.div_ceil(width)).map(move |index| {
        let hashes = (new - index * width).min(width);
        (
            index,
            u16::try_from(hashes).expect("a tile has at most 256 hashes"),
        )
    })
}

/// The tiles that the tree of size `new` has and the tree of size `old` has not: from the bottom level up, each
/// level from left to right. From 0 on: all tiles of a tree, the partial ones included.
pub fn new_tiles(old: u64, new: u64) -> impl Iterator<Item = Tile> {
    (0..=MAX_TILE_LEVEL).flat_map(move |level| {
        grown(row_length(level, old), row_length(level, new)).map(move |(index, width)| Tile {
            level,
            index,
            width,
        })
    })
}

/// The entry bundles that the tree of size `new` has and the tree of size `old` has not, in order.
pub fn new_bundles(old: u64, new: u64) -> impl Iterator<Item = Bundle> {
    grown(old, new).map(|(index, width)| Bundle { index, width })
}

impl Tile {
    /// The tile of that level, index and width.
    pub fn new(level: u8, index: u64, width: u16) -> Result<Self, TileError> {
        checked(index, width)?;
        if level > MAX_TILE_LEVEL {
            return Err(TileError::Coordinates);
        }
        Ok(Self { level, index, width })
    }

    /// The tile that holds a node's hash, or the hashes that it is made of, in a tree of that size, and their places
    /// in the tile. `None` if the tree does not hold the whole node.
    #[must_use]
    pub fn holding(node: Node, size: u64) -> Option<(Self, Range<u16>)> {
        if !node.is_in(size) {
            return None;
        }
        let level = node.level / TILE_HEIGHT;
        let first = node.index << (node.level % TILE_HEIGHT);
        let index = first / u64::from(TILE_WIDTH);
        let rest = row_length(level, size) - index * u64::from(TILE_WIDTH);
        let width = u16::try_from(rest).map_or(TILE_WIDTH, |rest| rest.min(TILE_WIDTH));
        let tile = Self { level, index, width };
        tile.slots(node).map(|slots| (tile, slots))
    }

    /// The tile's level: its hashes are those of tree level 8 * level.
    #[must_use]
    pub fn level(self) -> u8 {
        self.level
    }

    /// How many tiles of the same level are to its left.
    #[must_use]
    pub fn index(self) -> u64 {
        self.index
    }

    /// How many hashes it has, 1 to 256.
    #[must_use]
    pub fn width(self) -> u16 {
        self.width
    }

    /// Whether it is narrower than a full tile.
    #[must_use]
    pub fn is_partial(self) -> bool {
        self.width < TILE_WIDTH
    }

    /// The full tile at its place: what a log may have instead once it has grown.
    #[must_use]
    pub fn full(self) -> Self {
        Self {
            width: TILE_WIDTH,
            ..self
        }
    }

    /// Whether all its hashes are final in a tree of that size. A log has to serve partial tiles only of sizes that
    /// it signed a checkpoint for.
    #[must_use]
    pub fn is_in(self, size: u64) -> bool {
        is_in_row(self.index, self.width, row_length(self.level, size))
    }

    /// Its path below the log's prefix, without a slash in front.
    #[must_use]
    pub fn path(self) -> String {
        TilePath::Hashes(self).to_string()
    }

    /// The nodes whose hashes it holds, in order. Concatenated, 32 bytes each, they are the tile.
    pub fn nodes(self) -> impl Iterator<Item = Node> {
        let level = self.level * TILE_HEIGHT;
        let first = self.index * u64::from(TILE_WIDTH);
        (0..u64::from(self.width)).map(move |slot| Node {
            level,
            index: first + slot,
        })
    }

    /// The tile's bytes, from the hashes of its [`nodes`](Self::nodes).
    pub fn bytes<E>(self, read: impl FnMut(Node) -> Result<Hash, E>) -> Result<Vec<u8>, E> {
        let hashes: Vec<Hash> = self.nodes().map(read).collect::<Result<_, E>>()?;
        Ok(hashes.iter().flat_map(|hash| hash.0).collect())
    }

    /// A node's hash from the tile's bytes: of the tile's bottom row, or one of the up to 8 levels above, as far as
    /// the tile holds all that it is made of.
    pub fn node_hash(self, node: Node, bytes: &[u8]) -> Result<Hash, TileError> {
        let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
        if !rest.is_empty() || hashes.len() != usize::from(self.width) {
            return Err(TileError::Size {
                width: self.width,
                found: bytes.len(),
            });
        }
        let slots = self.slots(node).ok_or(TileError::NotInTile(node))?;
        let mut row: Vec<Hash> = hashes[usize::from(slots.start)..usize::from(slots.end)]
            .iter()
            .copied()
            .map(Hash)
            .collect();
        while let [_, _, ..] = row[..] {
            let (pairs, _) = row.as_chunks::<2>();
            row = pairs.iter().map(|[left, right]| node_hash(left, right)).collect();
        }
        row.first().copied().ok_or(TileError::NotInTile(node))
    }

    /// Where in the tile the hashes are that a node is made of.
    fn slots(self, node: Node) -> Option<Range<u16>> {
        let height = node.level.checked_sub(self.level * TILE_HEIGHT)?;
        if height > TILE_HEIGHT {
            return None;
        }
        let length = 1_u64 << height;
        let first = node.index.checked_mul(length)?;
        let start = first.checked_sub(self.index * u64::from(TILE_WIDTH))?;
        let end = start.checked_add(length)?;
        (end <= u64::from(self.width))
            .then(|| Some(u16::try_from(start).ok()?..u16::try_from(end).ok()?))
            .flatten()
    }
}

fn is_in_row(index: u64, width: u16, row: u64) -> bool {
    let end = u128::from(index) * u128::from(TILE_WIDTH) + u128::from(width);
    end <= u128::from(row)
}

impl Bundle {
    /// The bundle of that index with that many entries.
    pub fn new(index: u64, width: u16) -> Result<Self, TileError> {
        checked(index, width)?;
        Ok(Self { index, width })
    }

    /// How many bundles are to its left.
    #[must_use]
    pub fn index(self) -> u64 {
        self.index
    }

    /// How many entries it has, 1 to 256.
    #[must_use]
    pub fn width(self) -> u16 {
        self.width
    }

    /// Whether a tree of that size has all its entries.
    #[must_use]
    pub fn is_in(self, size: u64) -> bool {
        is_in_row(self.index, self.width, size)
    }

    /// The indexes of the entries in it.
    #[must_use]
    pub fn entries(self) -> Range<u64> {
        let first = self.index * u64::from(TILE_WIDTH);
        // The very last bundle of 2^64 entries would end beyond 64 bits; no tree has it.
        first..first.saturating_add(u64::from(self.width))
    }

    /// Its path below the log's prefix, without a slash in front.
    #[must_use]
    pub fn path(self) -> String {
        TilePath::Entries(self).to_string()
    }

    /// The bundle's bytes: each entry behind its length as a big-endian uint16.
    pub fn encode<T: AsRef<[u8]>>(self, entries: &[T]) -> Result<Vec<u8>, TileError> {
        if entries.len() != usize::from(self.width) {
            return Err(TileError::Entries(self.width));
        }
        let mut bytes = Vec::new();
        for entry in entries {
            let entry = entry.as_ref();
            let length = u16::try_from(entry.len()).map_err(|_| TileError::EntryLength(entry.len()))?;
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(entry);
        }
        Ok(bytes)
    }

    /// The entries in a bundle's bytes. Refuses a byte too much, a byte too few, and any other number of entries.
    pub fn decode(self, bytes: &[u8]) -> Result<Vec<&[u8]>, TileError> {
        let mut entries = Vec::with_capacity(usize::from(self.width));
        let mut rest = bytes;
        while let Some((length, behind)) = rest.split_first_chunk::<LENGTH_BYTES>() {
            let length = usize::from(u16::from_be_bytes(*length));
            let (entry, behind) = behind
                .split_at_checked(length)
                .ok_or(TileError::Entries(self.width))?;
            entries.push(entry);
            rest = behind;
            if entries.len() == usize::from(self.width) {
                break;
            }
        }
        if !rest.is_empty() || entries.len() != usize::from(self.width) {
            return Err(TileError::Entries(self.width));
        }
        Ok(entries)
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (index, width) = match self {
            Self::Hashes(tile) => {
                write!(f, "tile/{}", tile.level)?;
                (tile.index, tile.width)
            }
            Self::Entries(bundle) => {
                f.write_str("tile/entries")?;
                (bundle.index, bundle.width)
            }
        };
        let mut groups = vec![index % 1000];
        let mut rest = index / 1000;
        while rest != 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        for (place, group) in groups.iter().enumerate().rev() {
            write!(f, "/{}{group:03}", if place == 0 { "" } else { "x" })?;
        }
        if width == TILE_WIDTH {
            Ok(())
        } else {
            write!(f, ".p/{width}")
        }
    }
}

impl FromStr for TilePath {
    type Err = TileError;

    /// Reads a path as it is written: without a slash in front, a number in one way only.
    fn from_str(path: &str) -> Result<Self, TileError> {
        let read = Self::read(path).ok_or(TileError::Path)?;
        // Leading zeros, signs, groups of zeros: whatever is not how we write it.
        if read.to_string() == path {
            Ok(read)
        } else {
            Err(TileError::Path)
        }
    }
}

impl TilePath {
    /// Reads a path, some in a form that is not the canonical one.
    fn read(path: &str) -> Option<Self> {
        let (level, place) = path.strip_prefix("tile/")?.split_once('/')?;
        let (index, width) = match place.split_once(".p/") {
            Some((index, width)) => (index, width.parse().ok()?),
            None => (place, TILE_WIDTH),
        };
        let index = index.split('/').try_fold(0_u64, |index, group| {
            let group: u64 = group.strip_prefix('x').unwrap_or(group).parse().ok()?;
            index.checked_mul(1000)?.checked_add(group)
        })?;
        if level == "entries" {
            Bundle::new(index, width).ok().map(Self::Entries)
        } else {
            Tile::new(level.parse().ok()?, index, width)
                .ok()
                .map(Self::Hashes)
        }
    }
}
