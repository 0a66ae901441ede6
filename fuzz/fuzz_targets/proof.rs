//! Proofs: an offline proof has one text; an inclusion or consistency proof that passes is the one that the tree gives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quittance_fuzz::{bounded, text};
use quittance_tlog::proof::{consistency_proof, inclusion_proof, verify_consistency, verify_inclusion};
use quittance_tlog::{Hash, Node, TlogProof, leaf_hash, root_of};

/// Largest tree that is made here.
const LEAVES: u64 = 64;

fn leaf(index: u64) -> Hash {
    leaf_hash(&index.to_be_bytes())
}

/// A node of the tree whose leaves are numbers, computed from its leaves.
fn node(node: Node) -> Result<Hash, std::convert::Infallible> {
    let leaves: Vec<Hash> = (node.index << node.level..(node.index + 1) << node.level)
        .map(leaf)
        .collect();
    Ok(root_of(&leaves))
}

fn tree(size: u64) -> Hash {
    root_of(&(0..size).map(leaf).collect::<Vec<_>>())
}

fn hashes(bytes: &[u8]) -> Vec<Hash> {
    bytes.as_chunks::<32>().0.iter().copied().map(Hash).collect()
}

fuzz_target!(|data: &[u8]| {
    bounded(data.len(), 64, || {
        if let Some(proof) = text(data).and_then(|given| given.parse::<TlogProof>().ok()) {
            assert_eq!(Some(proof.to_string().as_str()), text(data));
        }
        let Some((head, rest)) = data.split_first_chunk::<16>() else {
            return;
        };
        let (a, b) = head.split_at(8);
        let a = u64::from_be_bytes(a.try_into().expect("8 bytes"));
        let b = u64::from_be_bytes(b.try_into().expect("8 bytes"));
        // Any claim at all: it is refused, for no tree of that size has these roots.
        let claimed = hashes(rest);
        if let [root, proof @ ..] = &claimed[..] {
            let _ = verify_inclusion(&leaf(a), a, b, proof, root);
            let _ = verify_consistency(a, root, b, root, proof);
        }
        // A claim about a tree that we know.
        let (size, index) = (a % LEAVES + 1, b % (a % LEAVES + 1));
        let real = inclusion_proof(index, size, node).expect("no read fails");
        let root = tree(size);
        assert_eq!(verify_inclusion(&leaf(index), index, size, &real, &root), Ok(()));
        assert_eq!(
            verify_inclusion(&leaf(index), index, size, &claimed, &root).is_ok(),
            claimed == real
        );
        let real = consistency_proof(index, size, node).expect("no read fails");
        assert_eq!(
            verify_consistency(index, &tree(index), size, &root, &real),
            Ok(())
        );
        if index > 0 {
            let passes = verify_consistency(index, &tree(index), size, &root, &claimed).is_ok();
            assert_eq!(passes, claimed == real);
        }
    });
});
