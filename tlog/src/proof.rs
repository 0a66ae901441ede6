//! Inclusion and consistency proofs after RFC 6962, section 2.1, checked with the algorithms of RFC 9162, sections
//! 2.1.3.2 and 2.1.4.2.
//!
//! Making a proof needs the hashes of complete subtrees ([`Node`]) from wherever they are stored; checking one needs
//! nothing but the proof. Making and checking share no code, so that a mistake in one shows in the other.
//!
//! A proof binds a leaf to a *root*. Trees of several sizes have paths of the same shape, so a size is proven only
//! together with its root: take both from one signed checkpoint, never the size from elsewhere.

use crate::tree::{Frontier, Hash, empty_root, node_hash};
use std::collections::HashMap;

pub use crate::tree::Node;

/// Why a proof proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// There is no such leaf in the tree.
    #[error("a tree of size {size} has no leaf {index}")]
    Index {
        /// The leaf's index.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// The older tree is the larger one.
    #[error("a tree of size {new} cannot continue one of size {old}")]
    Shrunk {
        /// The older tree's size.
        old: u64,
        /// The newer tree's size.
        new: u64,
    },
    /// A proof between these places has another number of hashes.
    #[error("the proof has too many or too few hashes: {0}")]
    Length(usize),
    /// The hashes lead to another root than the one given: of the tree, or of the newer one.
    #[error("the proof leads to another root")]
    Root,
    /// The hashes lead to another root of the older tree than the one given.
    #[error("the proof leads to another root of the older tree")]
    OldRoot,
    /// A [`ProofCollector`] was given another number of leaves than it was made for.
    #[error("{expected} leaves were announced, {found} came")]
    Leaves {
        /// The size that was announced.
        expected: u64,
        /// How many leaves came; one more than announced if there were more.
        found: u64,
    },
}

/// Leaves `from..to` of a tree whose hash is one node of that tree, complete or at its right edge.
#[derive(Clone, Copy)]
struct Span {
    from: u64,
    to: u64,
}

impl Span {
    /// Where RFC 6962 splits a span of two leaves or more: after the largest power of two below its length.
    fn split(self) -> (Self, Self) {
        let middle = self.from + (1 << (self.to - self.from - 1).ilog2());
        let (from, to) = (self.from, self.to);
        (Self { from, to: middle }, Self { from: middle, to })
    }

    /// The complete subtrees that make it up, from left to right, each smaller than the one before.
    fn nodes(self) -> impl Iterator<Item = Node> {
        let mut from = self.from;
        std::iter::from_fn(move || {
            let level = (self.to - from).checked_ilog2()?;
            let index = from >> level;
            from += 1 << level;
            let level = u8::try_from(level).expect("a logarithm of 64 bits is below 64");
            Some(Node { level, index })
        })
    }

    fn hash<E>(self, read: &mut impl FnMut(Node) -> Result<Hash, E>) -> Result<Hash, E> {
        let hashes: Vec<Hash> = self.nodes().map(read).collect::<Result<_, E>>()?;
        let joined = hashes
            .into_iter()
            .rev()
            .reduce(|right, left| node_hash(&left, &right));
        Ok(joined.unwrap_or_else(empty_root))
    }
}

/// The siblings on the way from a leaf up to the root.
fn inclusion_spans(index: u64, size: u64) -> Vec<Span> {
    let mut siblings = Vec::new();
    let mut span = Span { from: 0, to: size };
    while span.to - span.from > 1 {
        let (left, right) = span.split();
        let sibling;
        (span, sibling) = if index < left.to {
            (left, right)
        } else {
            (right, left)
        };
        siblings.push(sibling);
    }
    siblings.reverse();
    siblings
}

/// The root of the tree of that size. Reads one node for each bit set in the size.
pub fn root<E>(size: u64, mut read: impl FnMut(Node) -> Result<Hash, E>) -> Result<Hash, E> {
    Span { from: 0, to: size }.hash(&mut read)
}

/// The proof that leaf `index` is in the tree of that size: the siblings from the leaf up. Reads complete subtrees
/// only and hashes those together that make up a sibling at the tree's right edge.
///
/// # Panics
///
/// If there is no such leaf: index >= size.
pub fn inclusion_proof<E>(
    index: u64,
    size: u64,
    mut read: impl FnMut(Node) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    assert!(index < size, "a tree of size {size} has no leaf {index}");
    inclusion_spans(index, size)
        .into_iter()
        .map(|span| span.hash(&mut read))
        .collect()
}

/// The proof that the tree of size `new` begins with all leaves of the tree of size `old`, in their order. Empty if
/// `old` is 0 or equals `new`, as witnesses ask for it.
///
/// # Panics
///
/// If the older tree is the larger one: old > new.
pub fn consistency_proof<E>(
    old: u64,
    new: u64,
    mut read: impl FnMut(Node) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    assert!(
        old <= new,
        "a tree of size {new} cannot continue one of size {old}"
    );
    if old == 0 {
        return Ok(Vec::new());
    }
    let mut spans = Vec::new();
    let mut span = Span { from: 0, to: new };
    // Down to the node at which the older tree ends.
    while span.to != old {
        let (left, right) = span.split();
        let sibling;
        (span, sibling) = if old <= left.to {
            (left, right)
        } else {
            (right, left)
        };
        spans.push(sibling);
    }
    // Who checks knows the hash over the whole older tree, but not one of its right edge.
    if span.from != 0 {
        spans.push(span);
    }
    spans.into_iter().rev().map(|span| span.hash(&mut read)).collect()
}

/// Passes if the proof leads from this leaf hash, as leaf `index`, to the root of the tree of that size. Size and
/// root have to come from the same checkpoint.
///
/// ```
/// # use quittance_tlog::{leaf_hash, node_hash, proof::verify_inclusion};
/// let (a, b, c) = (leaf_hash(b"a"), leaf_hash(b"b"), leaf_hash(b"c"));
/// let root = node_hash(&node_hash(&a, &b), &c);
/// assert!(verify_inclusion(&b, 1, 3, &[a, c], &root).is_ok());
/// assert!(verify_inclusion(&b, 1, 3, &[c, a], &root).is_err());
/// ```
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Index { index, size });
    }
    // Place of our node and of the last node at the level reached; both 0 at the root.
    let (mut place, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(ProofError::Length(proof.len()));
        }
        if place & 1 == 1 || place == last {
            hash = node_hash(sibling, &hash);
            // A last node without a sibling stands unchanged one level higher.
            while place & 1 == 0 && place != 0 {
                (place, last) = (place >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    if last != 0 {
        return Err(ProofError::Length(proof.len()));
    }
    if hash == *root {
        Ok(())
    } else {
        Err(ProofError::Root)
    }
}

/// Passes if the proof shows that the tree of size `new` continues the tree of size `old`.
///
/// Two cases that RFC 9162 leaves out: every tree continues the empty one, whose root has to be the hash of nothing;
/// and a tree continues itself if both roots are equal. In both the proof has to be empty, and of the first one the
/// new root is not checked at all.
pub fn verify_consistency(
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if old > new {
        return Err(ProofError::Shrunk { old, new });
    }
    if old == 0 || old == new {
        if !proof.is_empty() {
            return Err(ProofError::Length(proof.len()));
        }
        if old == 0 && *old_root != empty_root() {
            return Err(ProofError::OldRoot);
        }
        return if old == new && old_root != new_root {
            Err(ProofError::Root)
        } else {
            Ok(())
        };
    }
    // The first hash is the last node of the older tree; the proof leaves it out where that is the whole tree.
    let (first, rest) = if old.is_power_of_two() {
        (old_root, proof)
    } else {
        proof.split_first().ok_or(ProofError::Length(0))?
    };
    let skipped = (old - 1).trailing_ones();
    let (mut place, mut last) = ((old - 1) >> skipped, (new - 1) >> skipped);
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return Err(ProofError::Length(proof.len()));
        }
        if place & 1 == 1 || place == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while place & 1 == 0 && place != 0 {
                (place, last) = (place >> 1, last >> 1);
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    if last != 0 {
        return Err(ProofError::Length(proof.len()));
    }
    if old_hash != *old_root {
        return Err(ProofError::OldRoot);
    }
    if new_hash == *new_root {
        Ok(())
    } else {
        Err(ProofError::Root)
    }
}

/// Makes the inclusion proofs of some leaves in one pass over all of them, for who does not keep the tree. It holds
/// about log2(size) hashes for each leaf that is wanted, however many leaves pass.
///
/// ```
/// # use quittance_tlog::{leaf_hash, proof::{ProofCollector, verify_inclusion}};
/// let leaves: Vec<_> = (0_u8..5).map(|n| leaf_hash(&[n])).collect();
/// let mut collector = ProofCollector::new(5, [3])?;
/// for leaf in &leaves {
///     collector.push(*leaf)?;
/// }
/// let collected = collector.finish()?;
/// verify_inclusion(&leaves[3], 3, 5, &collected.proofs[&3], &collected.root)?;
/// # Ok::<(), quittance_tlog::proof::ProofError>(())
/// ```
#[derive(Debug)]
pub struct ProofCollector {
    size: u64,
    wanted: Vec<u64>,
    nodes: HashMap<Node, Option<Hash>>,
    frontier: Frontier,
}

/// What a [`ProofCollector`] collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collected {
    /// The root over all leaves.
    pub root: Hash,
    /// The proof of each leaf that was wanted, by the leaf's index.
    pub proofs: HashMap<u64, Vec<Hash>>,
}

impl ProofCollector {
    /// For these leaves of a tree of that size, in any order. Refuses an index that is not below the size.
    pub fn new(size: u64, wanted: impl IntoIterator<Item = u64>) -> Result<Self, ProofError> {
        let wanted: Vec<u64> = wanted.into_iter().collect();
        if let Some(&index) = wanted.iter().find(|&&index| index >= size) {
            return Err(ProofError::Index { index, size });
        }
        let spans = wanted.iter().flat_map(|&index| inclusion_spans(index, size));
        Ok(Self {
            nodes: spans.flat_map(Span::nodes).map(|node| (node, None)).collect(),
            size,
            wanted,
            frontier: Frontier::default(),
        })
    }

    /// Takes the next leaf, given as its [`leaf_hash`](crate::leaf_hash). Refuses one beyond the announced size.
    pub fn push(&mut self, leaf: Hash) -> Result<(), ProofError> {
        if self.frontier.size() == self.size {
            return Err(ProofError::Leaves {
                expected: self.size,
                found: self.size.saturating_add(1),
            });
        }
        let nodes = &mut self.nodes;
        self.frontier.push_with(leaf, |node, hash| {
            if let Some(slot) = nodes.get_mut(&node) {
                *slot = Some(*hash);
            }
        });
        Ok(())
    }

    /// The tree over the leaves so far, to compare it with a checkpoint on the way.
    #[must_use]
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// The root and all proofs. Refuses to make them before all leaves came.
    pub fn finish(self) -> Result<Collected, ProofError> {
        let short = ProofError::Leaves {
            expected: self.size,
            found: self.frontier.size(),
        };
        if self.frontier.size() != self.size {
            return Err(short);
        }
        let read = |node: Node| self.nodes.get(&node).copied().flatten().ok_or(short.clone());
        let proofs = self
            .wanted
            .iter()
            .map(|&index| Ok((index, inclusion_proof(index, self.size, read)?)));
        Ok(Collected {
            proofs: proofs.collect::<Result<_, _>>()?,
            root: self.frontier.root(),
        })
    }
}
