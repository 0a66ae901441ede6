//! Transparency log primitives after RFC 6962, RFC 9162 and the C2SP specifications, one module for each:
//!
//! | module | what it is | specification |
//! |---|---|---|
//! | [`tree`] | hashes and the root of a growing Merkle tree | RFC 6962, section 2.1 |
//! | [`proof`] | inclusion and consistency proofs | RFC 6962, section 2.1; RFC 9162, section 2.1 |
//! | [`tile`] | the files that a log is published as | c2sp.org/tlog-tiles |
//! | [`note`] | signed notes and their keys | c2sp.org/signed-note |
//! | [`checkpoint`] | what a log states about its tree | c2sp.org/tlog-checkpoint |
//! | [`cosignature`] | what a witness states about a checkpoint | c2sp.org/tlog-cosignature |
//! | [`witness`] | how a log asks a witness | c2sp.org/tlog-witness |
//! | [`tlog_proof`] | the proof for one entry that works offline | c2sp.org/tlog-proof |
//!
//! The crate computes and checks; it reads no file, opens no socket, knows no clock and draws no random number. It
//! reads a text only in the one form in which it writes it. A text is worth nothing before a trusted key's signature
//! was verified: [`Checkpoint::open`] and [`TlogProof::verify`] do both at once.
//!
//! ```
//! use quittance_tlog::proof::ProofCollector;
//! use quittance_tlog::{Checkpoint, Cosigner, KeyName, NoteSigner, TlogProof, leaf_hash};
//!
//! // A log of two entries, its checkpoint, and a witness who cosigns it.
//! let leaves = [leaf_hash(b"first entry"), leaf_hash(b"second entry")];
//! let mut tree = ProofCollector::new(2, [1])?;
//! tree.push(leaves[0])?;
//! tree.push(leaves[1])?;
//! let mut tree = tree.finish()?;
//!
//! let signer = NoteSigner::new(KeyName::new("example.com/log")?, &[7; 32]);
//! let checkpoint = Checkpoint { origin: "example.com/log".into(), size: 2, root: tree.root };
//! let mut note = checkpoint.sign(&signer)?;
//! let witness = Cosigner::new(KeyName::new("witness.example/w1")?, &[8; 32]);
//! note.add(witness.sign(&note, 1_700_000_000)?)?;
//!
//! // What is handed to somebody who holds the second entry and the two public keys, and what he does with it.
//! let hashes = tree.proofs.remove(&1).expect("the proof that was wanted");
//! let text = TlogProof::new(1, hashes, note, Vec::new())?.to_string();
//!
//! let proof: TlogProof = text.parse()?;
//! assert_eq!(proof.verify(&leaf_hash(b"second entry"), &[signer.verifier()])?, checkpoint);
//! assert_eq!(witness.verifier().cosigned_at(proof.note())?, 1_700_000_000);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod checkpoint;
pub mod cosignature;
pub mod note;
pub mod proof;
pub mod tile;
pub mod tlog_proof;
pub mod tree;
pub mod witness;

pub use checkpoint::{Checkpoint, CheckpointError, MAX_ORIGIN_BYTES, OriginError, check_origin};
pub use cosignature::{CosignError, Cosigner, CosignerKey};
pub use note::{KeyError, KeyName, Note, NoteError, NoteKey, NoteSignature, NoteSigner, VerifierKey};
pub use proof::{Collected, ProofCollector, ProofError};
pub use tile::{Bundle, Tile, TileError, TilePath};
pub use tlog_proof::{TlogProof, TlogProofError};
pub use tree::{Frontier, FrontierError, Hash, Node, leaf_hash, node_hash, root_of};
pub use witness::{AddCheckpoint, RequestError};
