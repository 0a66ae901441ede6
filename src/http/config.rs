//! `GET config`: what this service is. Specification: Taler's merchant API of that name.

use serde_json::json;
use warp::http::StatusCode;
use warp::reply::Response;

use super::{Call, reply};

/// Protocol 24 is the first whose wallet refund can be 410; clients of protocol 20 on find all that is served here
/// in the form they know. Older ones expect shapes that are not served.
const VERSION: &str = "24:0:4";

pub(super) fn get(call: &Call) -> Response {
    let currency = call.service.currency.as_str();
    let exchanges: Vec<_> = call
        .service
        .exchange_list
        .iter()
        .map(|exchange| {
            json!({
                "base_url": exchange.base_url.as_str(),
                "currency": exchange.currency.as_str(),
                "master_pub": exchange.master_key,
            })
        })
        .collect();
    let body = json!({
        "name": "taler-merchant",
        "version": VERSION,
        "currency": currency,
        "currencies": { currency: {
            "name": currency,
            "currency": currency,
            "num_fractional_input_digits": 2,
            "num_fractional_normal_digits": 2,
            "num_fractional_trailing_zero_digits": 2,
            "alt_unit_names": { "0": currency },
        }},
        "exchanges": exchanges,
    });
    reply::json(StatusCode::OK, &body)
}
