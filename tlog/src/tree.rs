//! The Merkle tree of RFC 6962, section 2.1: hashes of leaves and nodes, and the root of a tree that grows.
//!
//! It keeps the right edge of the tree only, so it can append and give the root, and remembers no leaf; proofs are
//! made in [`crate::proof`] from the hashes that somebody stored.

use sha2::{Digest, Sha256};
use std::fmt;

/// Bytes of a hash, fixed by SHA-256.
const HASH_BYTES: usize = 32;

/// The largest size a [`Frontier`] can be restored to. No log gets there; it leaves 2^63 further pushes before the
/// counter could overflow, so a forged size cannot turn an append into a wrong one.
pub const MAX_RESTORED_SIZE: u64 = (1 << 63) - 1;

/// A SHA-256 hash: of a leaf, of an inner node, or the root of a tree.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(
    /// The hash's bytes.
    pub [u8; 32],
);

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A complete subtree of a tree: the one over the 2^level leaves from number index * 2^level on. Its hash never
/// changes again once all those leaves are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    /// How many levels of nodes lie under it: 0 is a leaf. At most 63 in any tree.
    pub level: u8,
    /// How many nodes of the same level lie to its left.
    pub index: u64,
}

impl Node {
    /// Whether a tree of this size holds the whole subtree.
    #[must_use]
    pub fn is_in(self, size: u64) -> bool {
        self.index < size.checked_shr(u32::from(self.level)).unwrap_or(0)
    }
}

/// Why a stored frontier cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrontierError {
    /// A tree of this size has another number of complete subtrees.
    #[error("a tree of size {size} has {expected} subtree hashes of 32 bytes, not {found} bytes")]
    Length {
        /// The size that was claimed.
        size: u64,
        /// How many hashes a tree of that size has.
        expected: u32,
        /// How many bytes there were.
        found: usize,
    },
    /// The size is beyond [`MAX_RESTORED_SIZE`].
    #[error("a tree of size {0} is larger than any log")]
    Size(u64),
}

/// The hash of a leaf: SHA-256 over 0x00 and the entry's bytes.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Hash(
        Sha256::new()
            .chain_update([0x00])
            .chain_update(entry)
            .finalize()
            .into(),
    )
}

/// The hash of an inner node: SHA-256 over 0x01 and both children.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Hash(
        Sha256::new()
            .chain_update([0x01])
            .chain_update(left.0)
            .chain_update(right.0)
            .finalize()
            .into(),
    )
}

/// The root of the tree over these leaf hashes, word for word as RFC 6962 defines it.
///
/// It costs a pass over all leaves; a log that grows uses [`Frontier`] and tests compare the two.
#[must_use]
pub fn root_of(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            // The largest power of two below the number of leaves.
            let split = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(split);
            node_hash(&root_of(left), &root_of(right))
        }
    }
}

/// RFC 6962 gives the empty tree the hash of nothing.
pub(crate) fn empty_root() -> Hash {
    Hash(Sha256::digest([]).into())
}

/// The right edge of a growing tree: the roots of its complete subtrees, largest first, one for each bit set in
/// the size. At most 64 hashes, whatever the size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    subtrees: Vec<Hash>,
}

impl Frontier {
    /// How many leaves the tree has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf, given as its [`leaf_hash`]. Amortised one node hash.
    pub fn push(&mut self, leaf: Hash) {
        self.push_with(leaf, |_, _| {});
    }

    /// Appends a leaf and tells of every subtree that it completes, the leaf itself first: who stores them all can
    /// make proofs later. Each subtree of a tree is told exactly once while it grows.
    #[expect(
        clippy::missing_panics_doc,
        reason = "a frontier always has one hash for each bit set in its size"
    )]
    pub fn push_with(&mut self, leaf: Hash, mut completed: impl FnMut(Node, &Hash)) {
        let mut hash = leaf;
        let mut node = Node {
            level: 0,
            index: self.size,
        };
        completed(node, &hash);
        // Every trailing one bit of the size is a subtree as large as the one just completed.
        for _ in 0..self.size.trailing_ones() {
            let left = self
                .subtrees
                .pop()
                .expect("one subtree for each bit set in the size");
            hash = node_hash(&left, &hash);
            node = Node {
                level: node.level + 1,
                index: node.index / 2,
            };
            completed(node, &hash);
        }
        self.subtrees.push(hash);
        self.size += 1;
    }

    /// The root of the tree as it stands; SHA-256 of nothing for the empty tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.subtrees
            .iter()
            .rev()
            .copied()
            .reduce(|right, left| node_hash(&left, &right))
            .unwrap_or_else(empty_root)
    }

    /// The subtree hashes one after the other, for [`Frontier::from_bytes`]; the size is to be kept beside them.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.subtrees.iter().flat_map(|hash| hash.0).collect()
    }

    /// Restores what [`Frontier::to_bytes`] wrote of a tree of that size.
    ///
    /// Only the number of hashes can be checked here: whether they are the right ones shows in the root.
    pub fn from_bytes(size: u64, bytes: &[u8]) -> Result<Self, FrontierError> {
        if size > MAX_RESTORED_SIZE {
            return Err(FrontierError::Size(size));
        }
        let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
        let expected = size.count_ones();
        if !rest.is_empty() || u32::try_from(hashes.len()) != Ok(expected) {
            return Err(FrontierError::Length {
                size,
                expected,
                found: bytes.len(),
            });
        }
        Ok(Self {
            size,
            subtrees: hashes.iter().copied().map(Hash).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use proptest::prelude::*;

    /// The eight leaves and the roots of sizes 0 to 8 of Google's certificate-transparency reference
    /// implementation (`merkletree/merkle_tree_test.cc`, now `testonly/constants.go` of
    /// github.com/transparency-dev/merkle).
    const LEAVES: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn numbered_leaves(count: u16) -> Vec<Hash> {
        (0..count)
            .map(|number| leaf_hash(&number.to_be_bytes()))
            .collect()
    }

    fn frontier_of(leaves: &[Hash]) -> Frontier {
        let mut frontier = Frontier::default();
        for leaf in leaves {
            frontier.push(*leaf);
        }
        frontier
    }

    #[test]
    fn certificate_transparency_reference_roots() {
        let leaves: Vec<Hash> = LEAVES.iter().map(|entry| leaf_hash(entry)).collect();
        for (size, expected) in ROOTS.iter().enumerate() {
            assert_eq!(
                format!("{:?}", root_of(&leaves[..size])),
                *expected,
                "definition, size {size}"
            );
            assert_eq!(
                format!("{:?}", frontier_of(&leaves[..size]).root()),
                *expected,
                "frontier, size {size}"
            );
        }
    }

    #[test]
    fn frontier_agrees_with_the_definition_at_every_size_and_after_every_restore() {
        let leaves = numbered_leaves(300);
        let mut frontier = Frontier::default();
        for (index, leaf) in leaves.iter().enumerate() {
            assert_eq!(frontier.root(), root_of(&leaves[..index]), "size {index}");
            frontier = Frontier::from_bytes(frontier.size(), &frontier.to_bytes()).unwrap();
            frontier.push(*leaf);
        }
        assert_eq!((frontier.size(), frontier.root()), (300, root_of(&leaves)));
    }

    #[test]
    fn a_frontier_of_the_wrong_length_is_refused() {
        let bytes = frontier_of(&numbered_leaves(5)).to_bytes();
        assert_eq!(bytes.len(), 64);
        for (size, bytes) in [
            (5_u64, &bytes[..32]),
            (5, &bytes[..63]),
            (4, &bytes[..]),
            (7, &bytes[..]),
            (5, &[]),
        ] {
            let expected = size.count_ones();
            let found = bytes.len();
            assert_eq!(
                Frontier::from_bytes(size, bytes),
                Err(FrontierError::Length {
                    size,
                    expected,
                    found
                })
            );
        }
        assert_eq!(Frontier::from_bytes(0, &[]), Ok(Frontier::default()));
    }

    #[test]
    fn the_largest_size_still_takes_leaves_and_one_more_is_refused() {
        let mut frontier = Frontier::from_bytes(MAX_RESTORED_SIZE, &[9; 63 * 32]).unwrap();
        frontier.push(leaf_hash(b"one more"));
        assert_eq!((frontier.size(), frontier.to_bytes().len()), (1 << 63, 32));
        assert_eq!(
            Frontier::from_bytes(u64::MAX, &[9; 64 * 32]),
            Err(FrontierError::Size(u64::MAX))
        );
    }

    proptest! {
        #[test]
        fn frontier_agrees_with_the_definition_for_any_leaves(
            leaves in prop::collection::vec(any::<[u8; 32]>().prop_map(Hash), 0..=300),
        ) {
            let frontier = frontier_of(&leaves);
            prop_assert_eq!(frontier.root(), root_of(&leaves));
            prop_assert_eq!(Frontier::from_bytes(frontier.size(), &frontier.to_bytes()), Ok(frontier));
        }

        #[test]
        fn another_leaf_means_another_root(size in 1_u16..=300, pick in any::<prop::sample::Index>(), bit in 0_usize..256) {
            let mut leaves = numbered_leaves(size);
            let before = root_of(&leaves);
            let changed = pick.index(leaves.len());
            leaves[changed].0[bit / 8] ^= 1 << (bit % 8);
            prop_assert_ne!(frontier_of(&leaves).root(), before);
        }
    }
}
