//! `GET config`: what this service is. Specification: Taler's merchant API of that name. Taler's own merchant has pages at
//! `/`; shops look there whether the instance exists, and are led here.

use std::collections::BTreeMap;

use quittance_taler::{MasterPub, RelativeTime};
use schemars::JsonSchema;
use serde::Serialize;
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

use super::{Call, reply, shape};
use crate::settings::Settings;

/// Protocol 24 is the first whose wallet refund can be 410; clients of protocol 20 on find all that is served here
/// in the form they know. Older ones expect shapes that are not served.
const VERSION: &str = "24:0:4";

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Config")]
pub(super) struct Reply<'a> {
    name: &'static str,
    version: &'static str,
    currency: &'a str,
    currencies: BTreeMap<&'a str, Looks<'a>>,
    exchanges: Vec<Listed<'a>>,
    /// Instances are opened by who runs the service.
    have_self_provisioning: bool,
    /// Nothing is known of donation authorities.
    have_donau: bool,
    /// Of an instance that is opened without saying.
    #[schemars(with = "shape::Delay")]
    default_pay_delay: RelativeTime,
    #[schemars(with = "shape::Delay")]
    default_refund_delay: RelativeTime,
    #[schemars(with = "shape::Delay")]
    default_wire_transfer_delay: RelativeTime,
}

/// How a currency is shown.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Currency")]
struct Looks<'a> {
    name: &'a str,
    currency: &'a str,
    num_fractional_input_digits: u8,
    num_fractional_normal_digits: u8,
    num_fractional_trailing_zero_digits: u8,
    alt_unit_names: BTreeMap<&'static str, &'a str>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Exchange")]
struct Listed<'a> {
    base_url: &'a str,
    currency: &'a str,
    #[schemars(with = "shape::Bytes32")]
    master_pub: MasterPub,
}

pub(super) fn get(call: &Call) -> Response {
    let currency = call.service.currency.as_str();
    let exchanges = call.service.exchange_list.iter().map(|exchange| Listed {
        base_url: exchange.base_url.as_str(),
        currency: exchange.currency.as_str(),
        master_pub: exchange.master_key,
    });
    let looks = Looks {
        name: currency,
        currency,
        num_fractional_input_digits: 2,
        num_fractional_normal_digits: 2,
        num_fractional_trailing_zero_digits: 2,
        alt_unit_names: BTreeMap::from([("0", currency)]),
    };
    let defaults = Settings::default();
    let body = Reply {
        name: "taler-merchant",
        version: VERSION,
        currency,
        currencies: BTreeMap::from([(currency, looks)]),
        exchanges: exchanges.collect(),
        have_self_provisioning: false,
        have_donau: false,
        default_pay_delay: defaults.default_pay_delay,
        default_refund_delay: defaults.default_refund_delay,
        default_wire_transfer_delay: defaults.default_wire_transfer_delay,
    };
    reply::json(StatusCode::OK, &body)
}

pub(super) fn front(call: &Call) -> Response {
    let config = call.instance().base_url.join("config");
    let config = config.expect("a base URL takes a path");
    let mut response = reply::no_content();
    *response.status_mut() = StatusCode::FOUND;
    let config = HeaderValue::from_str(config.as_str()).expect("a URL is visible ASCII");
    response.headers_mut().insert(header::LOCATION, config);
    response
}
