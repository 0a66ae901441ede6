//! Bodies that a client packs, as shop plugins do with long ones.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::json;

use crate::support::Shop;

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(body).unwrap();
    packer.finish().unwrap()
}

fn zlib(body: &[u8]) -> Vec<u8> {
    let mut packer = ZlibEncoder::new(Vec::new(), Compression::default());
    packer.write_all(body).unwrap();
    packer.finish().unwrap()
}

#[tokio::test]
async fn a_packed_body_is_read_as_if_it_were_not() {
    let mut shop = Shop::open_selling().await;
    let order = |id: &str| {
        let products: Vec<_> = (0..50)
            .map(|n| json!({"description": format!("boot {n}")}))
            .collect();
        let order = json!({"order_id": id, "amount": "KUDOS:7", "summary": "boots", "products": products,
                           "fulfillment_message": "thanks"});
        json!({ "order": order }).to_string().into_bytes()
    };
    let bearer = format!("Bearer {}", shop.token);
    let send = async |encoding: &str, body: &[u8]| {
        let headers = [("authorization", bearer.as_str()), ("content-encoding", encoding)];
        let (status, _, body) = shop.raw("POST", "private/orders", &headers, body).await;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        (status, body["code"].as_u64())
    };
    assert_eq!(send("gzip", &gzip(&order("a"))).await, (200, None));
    assert_eq!(send("deflate", &zlib(&order("b"))).await, (200, None));
    assert_eq!(send("Identity", &order("c")).await, (200, None));
    let halves = order("d");
    let (first, second) = halves.split_at(40);
    assert_eq!(
        send("x-gzip", &[gzip(first), gzip(second)].concat()).await,
        (200, None)
    );
    for id in ["a", "b", "c", "d"] {
        shop.get_private(&format!("private/orders/{id}"))
            .await
            .expect(200);
    }

    assert_eq!(send("br", &order("e")).await, (400, Some(28)));
    assert_eq!(send("gzip, gzip", &order("e")).await, (400, Some(28)));
    assert_eq!(send("gzip", &order("e")).await, (400, Some(28)));
    let packed = gzip(&order("e"));
    assert_eq!(send("gzip", &packed[..packed.len() - 9]).await, (400, Some(28)));
    // 300 KB of spaces, and a bomb.
    for length in [300_000, 20_000_000] {
        let bomb = gzip(&vec![b' '; length]);
        assert!(bomb.len() < 200_000);
        assert_eq!(send("gzip", &bomb).await, (413, Some(32)));
    }
    shop.audit().await;
}
