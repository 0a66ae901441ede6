//! A shop that sells by itself: accounts, orders and claims through HTTP.

use quittance_taler::{ClaimNonce, HashCode, contract_hash};
use serde_json::{Value, json};

use super::{Reply, Shop};

pub const PAYTO: &str = "payto://x-taler-bank/bank.example/shop?receiver-name=Shop";

pub fn nonce(number: u8) -> ClaimNonce {
    ClaimNonce::from_bytes([number; 32])
}

impl Shop {
    /// A shop with an account, so that it can sell.
    pub async fn open_selling() -> Shop {
        let shop = Shop::open().await;
        shop.open_account().await;
        shop
    }

    pub async fn open_account(&self) -> Value {
        let body = json!({ "payto_uri": PAYTO });
        self.post_private("private/accounts", &body).await.expect(200)
    }

    /// `POST private/orders` with this order, and more members beside it.
    pub async fn order(&self, order: &Value, more: &Value) -> Reply {
        let mut body = json!({ "order": order });
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        self.post_private("private/orders", &body).await
    }

    /// An order of this id and amount; its claim token.
    pub async fn offer(&self, id: &str, amount: &str) -> String {
        let order = json!({"order_id": id, "amount": amount, "summary": "boots",
                           "fulfillment_url": "https://shop.example/thanks"});
        let made = self.order(&order, &json!({})).await.expect(200);
        made["token"].as_str().unwrap().to_owned()
    }

    pub async fn claim(&self, id: &str, number: u8, token: Option<&str>) -> Reply {
        let body = json!({"nonce": nonce(number), "token": token});
        self.post(&format!("orders/{id}/claim"), &body).await
    }

    /// Offers and claims: token, contract terms and their hash.
    pub async fn sold(&self, id: &str, amount: &str) -> (String, Value, HashCode) {
        let token = self.offer(id, amount).await;
        let claimed = self.claim(id, 1, Some(&token)).await.expect(200);
        let terms = claimed["contract_terms"].clone();
        let h_contract = contract_hash(&terms).unwrap();
        (token, terms, h_contract)
    }

    /// Pays these terms with fresh coins.
    pub async fn pay_terms(&self, terms: &Value, session_id: &str) -> Reply {
        // Fees are on top.
        let mut purse = self.sandbox.withdraw("KUDOS:30".parse().unwrap()).unwrap();
        let payment = purse.pay(terms).unwrap();
        let id = terms["order_id"].as_str().unwrap();
        self.post(&format!("orders/{id}/pay"), &payment.pay_request(session_id))
            .await
    }

    pub async fn delete_private(&self, path: &str) -> Reply {
        self.send("DELETE", path, Some(&self.token), Vec::new()).await
    }

    pub async fn get_private(&self, path: &str) -> Reply {
        self.send("GET", path, Some(&self.token), Vec::new()).await
    }
}
