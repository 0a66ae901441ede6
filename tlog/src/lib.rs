//! Transparency log primitives: the Merkle tree of RFC 6962 with its proofs, tiles, signed notes and
//! checkpoints after the C2SP specifications. One module per specification.
//!
//! The crate computes and checks; it reads no file, opens no socket, knows no clock and draws no random number.
//! A text is worth nothing before a trusted key's signature was verified: [`Checkpoint::open`] does both at once.
//!
//! ```
//! use quittance_tlog::{Checkpoint, Frontier, KeyName, NoteSigner, leaf_hash};
//!
//! let mut tree = Frontier::default();
//! tree.push(leaf_hash(b"first entry"));
//! tree.push(leaf_hash(b"second entry"));
//!
//! let signer = NoteSigner::new(KeyName::new("example.com/log")?, &[7; 32]);
//! let checkpoint = Checkpoint { origin: "example.com/log".into(), size: tree.size(), root: tree.root() };
//! let note = checkpoint.sign(&signer)?.to_string();
//!
//! assert_eq!(Checkpoint::open(&note, &signer.verifier())?, checkpoint);
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
