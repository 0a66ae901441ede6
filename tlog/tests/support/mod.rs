//! A tree that keeps everything, as a log would store it, and the same tree as tlog_tiles wants to read it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "not every test file uses every helper")]

use quittance_tlog::proof::{consistency_proof, inclusion_proof};
use quittance_tlog::{Frontier, Hash, Node, leaf_hash};
use std::collections::HashMap;
use std::convert::Infallible;

pub(crate) struct Tree {
    pub(crate) leaves: Vec<Hash>,
    roots: Vec<Hash>,
    pub(crate) nodes: HashMap<Node, Hash>,
}

impl Tree {
    pub(crate) fn of(leaves: Vec<Hash>) -> Self {
        let mut frontier = Frontier::default();
        let mut roots = vec![frontier.root()];
        let mut nodes = HashMap::new();
        for leaf in &leaves {
            frontier.push_with(*leaf, |node, hash| {
                assert!(nodes.insert(node, *hash).is_none(), "{node:?} was told twice");
            });
            roots.push(frontier.root());
        }
        Self { leaves, roots, nodes }
    }

    /// Leaf number n is the eight bytes of n.
    pub(crate) fn numbered(size: u64) -> Self {
        Self::of((0..size).map(|number| leaf_hash(&number.to_be_bytes())).collect())
    }

    /// Refuses what a log of that size does not have.
    pub(crate) fn read(&self, size: u64) -> impl FnMut(Node) -> Result<Hash, Infallible> {
        move |node| {
            assert!(node.is_in(size), "{node:?} is not complete at size {size}");
            Ok(self.nodes[&node])
        }
    }

    pub(crate) fn inclusion(&self, index: u64, size: u64) -> Vec<Hash> {
        inclusion_proof(index, size, self.read(size)).unwrap()
    }

    pub(crate) fn consistency(&self, old: u64, new: u64) -> Vec<Hash> {
        consistency_proof(old, new, self.read(new)).unwrap()
    }

    pub(crate) fn root(&self, size: u64) -> Hash {
        self.roots[usize::try_from(size).unwrap()]
    }

    pub(crate) fn leaf(&self, index: u64) -> Hash {
        self.leaves[usize::try_from(index).unwrap()]
    }
}

impl tlog_tiles::HashReader for Tree {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
        let node = |&index| {
            let (level, index) = tlog_tiles::split_stored_hash_index(index);
            theirs(&self.nodes[&Node { level, index }])
        };
        Ok(indexes.iter().map(node).collect())
    }
}

pub(crate) fn theirs(hash: &Hash) -> tlog_tiles::Hash {
    tlog_tiles::Hash(hash.0)
}

/// The same hash with one bit changed.
pub(crate) fn flipped(hash: &Hash, bit: usize) -> Hash {
    let mut bytes = hash.0;
    bytes[bit / 8 % 32] ^= 1 << (bit % 8);
    Hash(bytes)
}

pub(crate) fn hash(hex: &str) -> Hash {
    let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
    Hash(std::array::from_fn(byte))
}
