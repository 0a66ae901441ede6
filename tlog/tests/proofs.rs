//! Proofs against the vectors of others, against tlog_tiles, and with one bit wrong.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use proptest::prelude::*;
use quittance_tlog::proof::{consistency_proof, inclusion_proof, root, verify_consistency, verify_inclusion};
use quittance_tlog::{Hash, Node, ProofCollector, ProofError, leaf_hash, node_hash, root_of};
use std::convert::Infallible;
use std::sync::LazyLock;
use support::{Tree, flipped, hash, theirs};

/// Sizes up to this one are tried in full.
const SIZES: u64 = 300;

/// One tree for all tests: every smaller one begins it.
static TREE: LazyLock<Tree> = LazyLock::new(|| Tree::numbered(SIZES));

/// The entries of Google's reference tree, whose roots the unit tests of the tree check.
const REFERENCE: [&[u8]; 8] = [
    b"",
    b"\x00",
    b"\x10",
    b"\x20\x21",
    b"\x30\x31",
    b"\x40\x41\x42\x43",
    b"\x50\x51\x52\x53\x54\x55\x56\x57",
    b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
];

fn reference() -> Tree {
    Tree::of(REFERENCE.iter().map(|entry| leaf_hash(entry)).collect())
}

fn hashes(hex: &[&str]) -> Vec<Hash> {
    hex.iter().map(|hex| hash(hex)).collect()
}

/// `inclusionProofs` of `proof/verify_test.go` in github.com/transparency-dev/merkle; leaves counted from 0 here.
#[test]
fn the_reference_inclusion_proofs() {
    let tree = reference();
    let vectors: [(u64, u64, &[&str]); 5] = [
        (0, 1, &[]),
        (
            0,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            5,
            8,
            &[
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            3,
            &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
        ),
        (
            1,
            5,
            &[
                "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ];
    for (index, size, proof) in vectors {
        let proof = hashes(proof);
        assert_eq!(tree.inclusion(index, size), proof, "leaf {index} of {size}");
        assert_eq!(
            verify_inclusion(&tree.leaf(index), index, size, &proof, &tree.root(size)),
            Ok(())
        );
    }
}

/// `consistencyProofs` of the same file.
#[test]
fn the_reference_consistency_proofs() {
    let tree = reference();
    let vectors: [(u64, u64, &[&str]); 5] = [
        (1, 1, &[]),
        (
            1,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            6,
            8,
            &[
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            5,
            &[
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
        (
            6,
            7,
            &[
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
    ];
    for (old, new, proof) in vectors {
        let proof = hashes(proof);
        assert_eq!(tree.consistency(old, new), proof, "{old} to {new}");
        assert_eq!(
            verify_consistency(old, &tree.root(old), new, &tree.root(new), &proof),
            Ok(())
        );
    }
}

#[test]
fn every_leaf_of_every_size() {
    let tree = &*TREE;
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
    let tree = &*TREE;
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
fn tlog_tiles_makes_the_same_proofs_and_accepts_ours() {
    let tree = &*TREE;
    for size in (1..=70).chain([127, 128, 129, 255, 256, 257, SIZES]) {
        let root = theirs(&tree.root(size));
        for index in 0..size {
            let ours: Vec<_> = tree.inclusion(index, size).iter().map(theirs).collect();
            assert_eq!(tlog_tiles::prove_record(size, index, tree).unwrap(), ours);
            tlog_tiles::check_record(&ours, size, root, index, theirs(&tree.leaf(index))).unwrap();
        }
        for old in 1..=size {
            let ours: Vec<_> = tree.consistency(old, size).iter().map(theirs).collect();
            assert_eq!(tlog_tiles::prove_tree(size, old, tree).unwrap(), ours);
            tlog_tiles::check_tree(&ours, size, root, old, theirs(&tree.root(old))).unwrap();
        }
    }
}

/// Sizes that no test can fill with leaves: all leaves are equal, so every level has one hash.
#[test]
fn sizes_up_to_the_largest() {
    let mut levels = vec![leaf_hash(b"")];
    while levels.len() < 64 {
        let below = levels[levels.len() - 1];
        levels.push(node_hash(&below, &below));
    }
    let sizes = (0..64)
        .flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1])
        .chain([
            u64::MAX - 1,
            u64::MAX,
            0x5555_5555_5555_5555,
            0xdead_beef_0123_4567,
        ]);
    let sizes: Vec<u64> = sizes.filter(|&size| size != 0).collect();
    for &size in &sizes {
        let read = |node: Node| {
            assert!(node.is_in(size));
            Ok::<_, Infallible>(levels[usize::from(node.level)])
        };
        let top = root(size, read).unwrap();
        for index in [0, 1, size / 3, size / 2, size.saturating_sub(2), size - 1] {
            if index < size {
                let proof = inclusion_proof(index, size, read).unwrap();
                assert!(proof.len() <= 64);
                assert_eq!(verify_inclusion(&levels[0], index, size, &proof, &top), Ok(()));
            }
        }
        for &old in sizes.iter().step_by(7).filter(|&&old| old <= size) {
            let before = root(old, read).unwrap();
            let proof = consistency_proof(old, size, read).unwrap();
            assert_eq!(verify_consistency(old, &before, size, &top, &proof), Ok(()));
        }
    }
}

#[test]
fn the_empty_tree_and_the_tree_itself() {
    let small = Tree::numbered(5);
    let [empty, three, five] = [0, 3, 5].map(|size| small.root(size));
    let other = leaf_hash(b"other");
    // Everything continues the empty tree, if it is said to have the empty root and nothing is said to prove it.
    assert_eq!(verify_consistency(0, &empty, 5, &five, &[]), Ok(()));
    assert_eq!(verify_consistency(0, &empty, 5, &other, &[]), Ok(()));
    assert_eq!(
        verify_consistency(0, &other, 5, &five, &[]),
        Err(ProofError::OldRoot)
    );
    assert_eq!(
        verify_consistency(0, &empty, 5, &five, &[five]),
        Err(ProofError::Length(1))
    );
    assert_eq!(verify_consistency(0, &empty, 0, &empty, &[]), Ok(()));
    assert_eq!(
        verify_consistency(0, &empty, 0, &five, &[]),
        Err(ProofError::Root)
    );
    assert_eq!(
        verify_consistency(0, &five, 0, &five, &[]),
        Err(ProofError::OldRoot)
    );
    // A tree continues itself.
    assert_eq!(verify_consistency(5, &five, 5, &five, &[]), Ok(()));
    assert_eq!(
        verify_consistency(5, &five, 5, &other, &[]),
        Err(ProofError::Root)
    );
    assert_eq!(
        verify_consistency(5, &five, 5, &five, &[five]),
        Err(ProofError::Length(1))
    );
    assert_eq!(
        verify_consistency(5, &five, 3, &three, &[]),
        Err(ProofError::Shrunk { old: 5, new: 3 })
    );
    assert_eq!(
        verify_consistency(3, &three, 5, &five, &[]),
        Err(ProofError::Length(0))
    );
    // No tree has a leaf beyond its size.
    for (index, size) in [(0, 0), (1, 1), (5, 5), (u64::MAX, 5)] {
        assert_eq!(
            verify_inclusion(&five, index, size, &[], &five),
            Err(ProofError::Index { index, size })
        );
    }
}

#[test]
fn one_bit_changed_in_any_place_of_a_proof() {
    let tree = &*TREE;
    let (index, old, size) = (170, 171, 299);
    let (leaf, before, top) = (tree.leaf(index), tree.root(old), tree.root(size));
    let included = tree.inclusion(index, size);
    let consistent = tree.consistency(old, size);
    assert_eq!((included.len(), consistent.len()), (9, 10));
    for bit in 0..256 {
        for place in 0..included.len() {
            let mut proof = included.clone();
            proof[place] = flipped(&proof[place], bit);
            assert_eq!(
                verify_inclusion(&leaf, index, size, &proof, &top),
                Err(ProofError::Root)
            );
        }
        for place in 0..consistent.len() {
            let mut proof = consistent.clone();
            proof[place] = flipped(&proof[place], bit);
            assert!(verify_consistency(old, &before, size, &top, &proof).is_err());
        }
    }
}

/// On which side the siblings of a leaf are, from the root down, straight from the definition of RFC 6962.
fn path(index: u64, size: u64) -> Vec<bool> {
    if size <= 1 {
        return Vec::new();
    }
    let split = size.next_power_of_two() / 2;
    let (left, rest) = if index < split {
        (false, path(index, split))
    } else {
        (true, path(index - split, size - split))
    };
    [vec![left], rest].concat()
}

/// The same for the node at which an older tree ends, and whether that node is the whole older tree.
fn seam(old: u64, new: u64, whole: bool) -> (Vec<bool>, bool) {
    if old == new {
        return (Vec::new(), whole);
    }
    let split = new.next_power_of_two() / 2;
    let (left, (rest, whole)) = if old <= split {
        (false, seam(old, split, whole))
    } else {
        (true, seam(old - split, new - split, false))
    };
    ([vec![left], rest].concat(), whole)
}

proptest! {
    #[test]
    fn a_changed_inclusion_is_refused(
        size in 1..=SIZES,
        pick in any::<prop::sample::Index>(),
        bit in 0_usize..256,
        place in any::<prop::sample::Index>(),
    ) {
        let tree = &*TREE;
        let index = u64::try_from(pick.index(usize::try_from(size).unwrap())).unwrap();
        let (leaf, top, proof) = (tree.leaf(index), tree.root(size), tree.inclusion(index, size));
        prop_assert!(verify_inclusion(&flipped(&leaf, bit), index, size, &proof, &top).is_err());
        prop_assert!(verify_inclusion(&leaf, index, size, &proof, &flipped(&top, bit)).is_err());
        prop_assert!(verify_inclusion(&leaf, index ^ (1 << (bit % 64)), size, &proof, &top).is_err());
        // A path of the same shape is the same proof: only the root says of which size.
        let other = size ^ (1 << (bit % 64));
        let same = index < other && other < 4 * SIZES && path(index, other) == path(index, size);
        prop_assert_eq!(verify_inclusion(&leaf, index, other, &proof, &top).is_ok(), same);

        let mut longer = proof.clone();
        longer.insert(place.index(proof.len() + 1), flipped(&top, bit));
        prop_assert!(verify_inclusion(&leaf, index, size, &longer, &top).is_err());
        if !proof.is_empty() {
            let mut changed = proof.clone();
            let at = place.index(proof.len());
            changed[at] = flipped(&changed[at], bit);
            prop_assert!(verify_inclusion(&leaf, index, size, &changed, &top).is_err());
            changed.remove(at);
            prop_assert!(verify_inclusion(&leaf, index, size, &changed, &top).is_err());
        }
    }

    #[test]
    fn a_changed_consistency_is_refused(
        new in 2..=SIZES,
        pick in any::<prop::sample::Index>(),
        bit in 0_usize..256,
        place in any::<prop::sample::Index>(),
    ) {
        let tree = &*TREE;
        let old = 1 + u64::try_from(pick.index(usize::try_from(new - 1).unwrap())).unwrap();
        let (before, after, proof) = (tree.root(old), tree.root(new), tree.consistency(old, new));
        prop_assert!(verify_consistency(old, &flipped(&before, bit), new, &after, &proof).is_err());
        prop_assert!(verify_consistency(old, &before, new, &flipped(&after, bit), &proof).is_err());
        prop_assert!(verify_consistency(old, &after, new, &before, &proof).is_err());
        let shape = seam(old, new, true);
        for (old, new) in [(old ^ (1 << (bit % 64)), new), (old, new ^ (1 << (bit % 64)))] {
            let same = 0 < old && old < new && new < 4 * SIZES && seam(old, new, true) == shape;
            prop_assert_eq!(verify_consistency(old, &before, new, &after, &proof).is_ok(), same);
        }

        let mut changed = proof.clone();
        changed.insert(place.index(proof.len() + 1), flipped(&after, bit));
        prop_assert!(verify_consistency(old, &before, new, &after, &changed).is_err());
        let mut changed = proof.clone();
        let at = place.index(proof.len());
        changed[at] = flipped(&changed[at], bit);
        prop_assert!(verify_consistency(old, &before, new, &after, &changed).is_err());
        changed.remove(at);
        prop_assert!(verify_consistency(old, &before, new, &after, &changed).is_err());
    }

    #[test]
    fn checking_never_panics(
        (index, old, size) in any::<(u64, u64, u64)>(),
        proof in prop::collection::vec(any::<[u8; 32]>().prop_map(Hash), 0..70),
    ) {
        let root = leaf_hash(b"");
        prop_assert!(verify_inclusion(&root, index, size, &proof, &root).is_err());
        let consistent = verify_consistency(old, &root, size, &root, &proof);
        prop_assert_eq!(consistent.is_ok(), old == size && proof.is_empty() && old != 0);
    }
}

#[test]
fn one_pass_collects_the_same_proofs() {
    let tree = &*TREE;
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
    let leaves = |found| ProofError::Leaves { expected: 2, found };
    let mut collector = ProofCollector::new(2, [1]).unwrap();
    collector.push(leaf).unwrap();
    collector.push(leaf).unwrap();
    assert_eq!(collector.push(leaf), Err(leaves(3)));
    assert!(collector.finish().is_ok());
    let mut collector = ProofCollector::new(2, []).unwrap();
    collector.push(leaf).unwrap();
    assert_eq!(collector.frontier().root(), leaf);
    assert_eq!(collector.finish().err(), Some(leaves(1)));
}
