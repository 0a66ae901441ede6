//! Proofs against the vectors of others, against tlog_tiles, and with one bit wrong.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use quittance_tlog::proof::{consistency_proof, inclusion_proof, root, verify_consistency, verify_inclusion};
use quittance_tlog::{Frontier, Hash, Node, ProofCollector, ProofError, leaf_hash, root_of};
use std::collections::HashMap;
use std::convert::Infallible;

/// Sizes up to this one are tried in full.
const SIZES: u64 = 300;

/// A tree with all its complete subtrees, as a log would store it.
struct Tree {
    leaves: Vec<Hash>,
    roots: Vec<Hash>,
    nodes: HashMap<Node, Hash>,
}

impl Tree {
    fn of(leaves: Vec<Hash>) -> Self {
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

    fn numbered(size: u64) -> Self {
        Self::of((0..size).map(|number| leaf_hash(&number.to_be_bytes())).collect())
    }

    fn read(&self, size: u64) -> impl FnMut(Node) -> Result<Hash, Infallible> {
        move |node| {
            assert!(node.is_in(size), "{node:?} is not complete at size {size}");
            Ok(self.nodes[&node])
        }
    }

    fn inclusion(&self, index: u64, size: u64) -> Vec<Hash> {
        inclusion_proof(index, size, self.read(size)).unwrap()
    }

    fn consistency(&self, old: u64, new: u64) -> Vec<Hash> {
        consistency_proof(old, new, self.read(new)).unwrap()
    }

    fn root(&self, size: u64) -> Hash {
        self.roots[usize::try_from(size).unwrap()]
    }

    fn leaf(&self, index: u64) -> Hash {
        self.leaves[usize::try_from(index).unwrap()]
    }
}

#[test]
fn every_leaf_of_every_size() {
    let tree = Tree::numbered(SIZES);
    for size in 0..=SIZES {
        assert_eq!(root(size, tree.read(size)), Ok(tree.root(size)));
        for index in 0..size {
            let proof = tree.inclusion(index, size);
            assert_eq!(
                verify_inclusion(&tree.leaf(index), index, size, &proof, &tree.root(size)),
                Ok(()),
                "leaf {index} of {size}"
            );
        }
    }
    assert_eq!(tree.root(300), root_of(&tree.leaves));
}

#[test]
fn every_pair_of_sizes() {
    let tree = Tree::numbered(SIZES);
    for new in 0..=SIZES {
        for old in 0..=new {
            let proof = tree.consistency(old, new);
            assert_eq!(
                verify_consistency(old, &tree.root(old), new, &tree.root(new), &proof),
                Ok(()),
                "{old} to {new}"
            );
        }
    }
}

#[test]
fn one_pass_collects_the_same_proofs() {
    let tree = Tree::numbered(SIZES);
    for size in (0..20).chain([127, 128, 129, 255, 256, 257, 299, 300]) {
        let mut collector = ProofCollector::new(size, (0..size).rev().chain(0..size / 2)).unwrap();
        for index in 0..size {
            collector.push(tree.leaf(index)).unwrap();
        }
        let collected = collector.finish().unwrap();
        assert_eq!(collected.root, tree.root(size));
        assert_eq!(collected.proofs.len(), usize::try_from(size).unwrap());
        for index in 0..size {
            assert_eq!(collected.proofs[&index], tree.inclusion(index, size));
        }
    }
}

#[test]
fn a_collector_wants_exactly_the_leaves_that_were_announced() {
    let leaf = leaf_hash(b"");
    assert_eq!(
        ProofCollector::new(3, [3]).err(),
        Some(ProofError::Index { index: 3, size: 3 })
    );
    let mut collector = ProofCollector::new(2, [1]).unwrap();
    collector.push(leaf).unwrap();
    collector.push(leaf).unwrap();
    let beyond = ProofError::Leaves {
        expected: 2,
        found: 3,
    };
    assert_eq!(collector.push(leaf), Err(beyond));
    assert!(collector.finish().is_ok());
    let mut collector = ProofCollector::new(2, []).unwrap();
    collector.push(leaf).unwrap();
    let short = ProofError::Leaves {
        expected: 2,
        found: 1,
    };
    assert_eq!(collector.finish().err(), Some(short));
}
