//! Somebody who follows the ledger from outside: he knows the event key as `init` printed it, and fetches checkpoint,
//! tiles and entries over HTTP while the ledger grows. Whatever the service says is checked against what he held before.

use std::collections::HashMap;

use quittance_events::ledger::vkey;
use quittance_events::seal::EventPub;
use quittance_events::{Event, Facts};
use quittance_taler::{Digest32, EddsaSignature};
use quittance_tlog::proof::{consistency_proof, inclusion_proof, root, verify_consistency, verify_inclusion};
use quittance_tlog::tile::{new_bundles, new_tiles};
use quittance_tlog::{Bundle, Checkpoint, Hash, Node, Tile, VerifierKey, leaf_hash};
use tempfile::TempDir;

use crate::support::{Coin, Options, Shop, coin};
use crate::tools::{count, token_file};

const AUDITOR: &str = "secret-token:BBBBBBBBBBBBBBBBBBBBBBBBBB";

struct Follower {
    event_key: EventPub,
    checkpoint_key: VerifierKey,
    held: Checkpoint,
    /// Every entry, found to be in the tree.
    entries: Vec<Vec<u8>>,
}

async fn fetch(shop: &Shop, path: &str, token: Option<&str>, wanted: [&str; 2]) -> Vec<u8> {
    let (status, headers, body) = shop.get_file(&format!("ledger/{path}"), token).await;
    assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
    assert_eq!(headers, wanted, "{path}");
    body
}

async fn bundle(shop: &Shop, bundle: Bundle) -> Vec<Vec<u8>> {
    let headers = ["application/octet-stream", "no-store"];
    let bytes = fetch(shop, &bundle.path(), Some(AUDITOR), headers).await;
    bundle
        .decode(&bytes)
        .unwrap()
        .into_iter()
        .map(<[u8]>::to_vec)
        .collect()
}

/// The tiles that a tree of this size adds to one of that size.
async fn tiles(shop: &Shop, old: u64, new: u64) -> HashMap<Tile, Vec<u8>> {
    let mut tiles = HashMap::new();
    for tile in new_tiles(old, new) {
        let cache = if tile.is_partial() {
            "public, max-age=60, immutable"
        } else {
            "public, max-age=31536000, immutable"
        };
        let headers = ["application/octet-stream", cache];
        tiles.insert(tile, fetch(shop, &tile.path(), None, headers).await);
    }
    tiles
}

/// Sealed bytes and signature of an entry.
fn parts(entry: &[u8]) -> (&[u8], EddsaSignature) {
    let (sealed, signature) = entry.split_last_chunk::<64>().unwrap();
    (sealed, EddsaSignature::from_bytes(*signature))
}

impl Follower {
    /// Begins with nothing but the key.
    async fn new(shop: &Shop) -> Follower {
        let told: VerifierKey = shop.vkey.parse().unwrap();
        let event_key = EventPub::new(Digest32::from_bytes(*told.public_key()));
        let first = bundle(shop, Bundle::new(0, 1).unwrap()).await.remove(0);
        let (sealed, signature) = parts(&first);
        assert!(event_key.verify_event(sealed, &signature));
        let Facts::LedgerOpened(genesis) = Event::parse(sealed).unwrap().facts else {
            panic!("no genesis")
        };
        let empty = root(0, |_| Err::<Hash, _>("no node")).unwrap();
        Follower {
            event_key,
            checkpoint_key: vkey(&genesis.origin, &genesis.checkpoint_key).unwrap(),
            held: Checkpoint {
                origin: genesis.origin,
                size: 0,
                root: empty,
            },
            entries: Vec::new(),
        }
    }

    async fn checkpoint(&self, shop: &Shop) -> Checkpoint {
        let headers = ["text/plain; charset=utf-8", "public, max-age=1"];
        let note = fetch(shop, "checkpoint", None, headers).await;
        Checkpoint::open(std::str::from_utf8(&note).unwrap(), &self.checkpoint_key).unwrap()
    }

    /// Takes up all that is new, and holds it against what was.
    async fn follow(&mut self, shop: &Shop) {
        let (old, new) = (self.held.clone(), self.checkpoint(shop).await);
        assert_eq!(new.origin, old.origin);
        assert!(new.size > old.size, "{} after {}", new.size, old.size);
        // The widest tiles of the new tree; those of the old one are part of them.
        let all = tiles(shop, 0, new.size).await;
        let node = |node: Node| {
            let (tile, _) = Tile::holding(node, new.size).ok_or("beyond the tree")?;
            tile.node_hash(node, &all[&tile]).map_err(|_| "another size")
        };
        assert_eq!(root(new.size, node).unwrap(), new.root);
        let proof = consistency_proof(old.size, new.size, node).unwrap();
        verify_consistency(old.size, &old.root, new.size, &new.root, &proof).unwrap();

        self.entries
            .truncate(usize::try_from(old.size / 256 * 256).unwrap());
        for path in new_bundles(old.size, new.size) {
            self.entries.extend(bundle(shop, path).await);
        }
        for (index, entry) in (0..).zip(&self.entries) {
            let proof = inclusion_proof(index, new.size, node).unwrap();
            verify_inclusion(&leaf_hash(entry), index, new.size, &proof, &new.root).unwrap();
            let (sealed, signature) = parts(entry);
            assert_eq!(Event::parse(sealed).unwrap().seq.get(), index + 1);
            if index >= old.size {
                assert!(self.event_key.verify_event(sealed, &signature));
            }
        }
        // What belonged to the size before is still there, as it was.
        for (tile, bytes) in tiles(shop, old.size.saturating_sub(1), old.size).await {
            let (_, now) = all
                .iter()
                .find(|(now, _)| (now.level(), now.index()) == (tile.level(), tile.index()))
                .unwrap();
            assert_eq!(bytes, now[..bytes.len()], "{}", tile.path());
        }
        self.held = new;
    }
}

#[tokio::test]
async fn a_follower_checks_a_ledger_that_grows() {
    let folder = TempDir::new().unwrap();
    let file = token_file(folder.path(), "auditor.token", AUDITOR);
    let mut shop = Shop::open_with(Options {
        more_config: format!("[quittance]\nAUDITOR_TOKEN_FILE = {}\n", file.display()),
        ..Options::default()
    })
    .await;
    let mut follower = Follower::new(&shop).await;
    let coins: Vec<Coin> = (0..252).map(|n| coin(n, "KUDOS:1", "KUDOS:0.01")).collect();
    let mut sizes = Vec::new();
    let orders = [
        ("few", 3),
        ("to-256", 249),
        ("over", 2),
        ("to-512", 252),
        ("past-512", 20),
    ];
    for (id, deposits) in orders {
        shop.record_order(&shop.terms(id, "KUDOS:300", 86_400, 172_800))
            .await;
        shop.tell(id, &coins[..deposits], false).await.expect(200);
        let size = u64::try_from(count(&shop)).unwrap();
        if sizes.len() % 2 == 0 {
            // A stop signs the last checkpoint; the tree goes on from the file.
            shop.stop().await;
            shop.start().await;
        }
        let seen = &follower;
        let current = async || seen.checkpoint(&shop).await.size == size;
        shop.until("a checkpoint of all events", current).await;
        follower.follow(&shop).await;
        sizes.push(size);
    }
    // Short of the first full tile, at its end, beyond it; at the end of the second, and beyond that.
    assert_eq!(sizes, [6, 256, 259, 512, 533]);
    assert_eq!(follower.entries.len(), 533);
    shop.audit().await;
}
