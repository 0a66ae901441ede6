//! The shapes of bodies for `openapi.json`: of Taler's encodings, by which the requests' and replies' own types are
//! described, and of the answers that are built from recorded events. Nothing reads or checks by them; the tests hold
//! every reply that they see against them.

use std::borrow::Cow;

use crate::webhook::METHODS;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// A symbol of base32 as it is read: any case, and look-alikes.
const SYMBOL: &str = "[0-9A-Za-z]";

macro_rules! shapes {
    ($($name:ident = |$generator:ident| $schema:expr;)*) => {
        $(
            pub(crate) enum $name {}

            impl JsonSchema for $name {
                fn schema_name() -> Cow<'static, str> {
                    stringify!($name).into()
                }

                fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                    $schema
                }
            }
        )*
    };
}

fn base32(symbols: usize, what: &str) -> Schema {
    json_schema!({
        "type": "string",
        "description": what,
        "pattern": format!("^{SYMBOL}{{{symbols}}}$"),
    })
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

shapes! {
    Bytes32 = |_g| base32(52, "32 bytes in Crockford base32");
    Bytes16 = |_g| base32(26, "16 bytes in Crockford base32");
    Bytes64 = |_g| base32(103, "64 bytes in Crockford base32");
    Amount = |_g| json_schema!({
        "type": "string",
        "description": "currency, whole value up to 2^52, at most 8 decimals",
        "pattern": concat!(
            r"^[A-Z]{3,11}:([0-9]{1,15}|[1-3][0-9]{15}|4[0-4][0-9]{14}|450[0-2][0-9]{12}|4503599627370496)",
            r"(\.[0-9]{1,8})?$",
        ),
    });
    Duration = |_g| json_schema!({
        "type": "object",
        "description": "microseconds, or forever",
        "required": ["d_us"],
        "properties": {"d_us": {"anyOf": [
            {"type": "integer", "minimum": 0, "maximum": 9_007_199_254_740_991_u64},
            {"const": "forever"},
        ]}},
    });
    Payto = |_g| json_schema!({
        "type": "string",
        "description": "RFC 8905, with a receiver-name where it names a bank account",
        "pattern": "^[Pp][Aa][Yy][Tt][Oo]://",
        "maxLength": 1024,
    });
    WebhookId = |_g| json_schema!({"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"});
    WebhookEvent = |_g| json_schema!({"enum": ["pay", "refund"]});
    WebhookMethod = |_g| json_schema!({"enum": METHODS});
    WebhookUrl = |_g| json_schema!({"type": "string", "pattern": "^https?://[a-z0-9-]", "maxLength": 2048});
    Timestamp = |_g| json_schema!({
        "type": "object",
        "description": "seconds since 1970, or never",
        "required": ["t_s"],
        "properties": {"t_s": {"anyOf": [
            {"type": "integer", "minimum": 0, "maximum": 9_007_199_254_u64},
            {"const": "never"},
        ]}},
    });
    SafeId = |_g| json_schema!({"type": "integer", "minimum": 1, "maximum": 9_007_199_254_740_991_u64});
    HttpUrl = |_g| json_schema!({"type": "string", "pattern": "^https?://[a-z0-9.-]+(:[0-9]{1,4}|:[1-5][0-9]{4})?/"});
    ContractTerms = |g| json_schema!({
        "type": "object",
        "description": "Taler's contract terms, version 0, or version 1 with a choice made. Further members are kept and hashed.",
        "required": [
            "order_id", "timestamp", "refund_deadline", "wire_transfer_deadline", "merchant_pub", "exchanges",
        ],
        "properties": {
            "order_id": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"},
            "amount": of::<Amount>(g),
            "timestamp": of::<Timestamp>(g),
            "refund_deadline": of::<Timestamp>(g),
            "wire_transfer_deadline": of::<Timestamp>(g),
            "merchant_pub": of::<Bytes32>(g),
            "exchanges": {"type": "array", "items": {
                "type": "object",
                "required": ["url", "master_pub"],
                "properties": {"url": of::<HttpUrl>(g), "master_pub": of::<Bytes32>(g)},
            }},
        },
    });
    OrderRequest = |g| json_schema!({
        "type": "object",
        "required": ["order"],
        "properties": {
            "order": {
                "type": "object",
                "description": "Taler's order of version 0: what is to stand in the contract terms. What it leaves open is \
                    completed, and members that are not known are carried through.",
                "required": ["amount", "summary"],
                "properties": {
                    "amount": of::<Amount>(g),
                    "summary": {"type": "string", "minLength": 1, "maxLength": 4096},
                    "order_id": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"},
                    "fulfillment_url": {"type": "string"},
                    "fulfillment_message": {"type": "string"},
                    "timestamp": of::<Timestamp>(g),
                    "pay_deadline": of::<Timestamp>(g),
                    "refund_deadline": of::<Timestamp>(g),
                    "wire_transfer_deadline": of::<Timestamp>(g),
                },
            },
            "refund_delay": of::<Delay>(g),
            "create_token": {"type": "boolean"},
            "payment_target": {"type": "string"},
            "session_id": {"type": "string"},
        },
    });
    OrderState = |g| json_schema!({
        "type": "object",
        "description": "unpaid, claimed or paid",
        "required": ["order_status", "order_status_url"],
        "properties": {
            "order_status": {"enum": ["unpaid", "claimed", "paid"]},
            "order_status_url": {"type": "string"},
            "taler_pay_uri": {"type": "string"},
            "creation_time": of::<Timestamp>(g),
            "pay_deadline": of::<Timestamp>(g),
            "total_amount": of::<Amount>(g),
            "summary": {"type": "string"},
            "fulfillment_url": {"type": "string"},
            "already_paid_order_id": {"type": "string"},
            "already_paid_fulfillment_url": {"type": "string"},
            "contract_terms": {"type": "object"},
            "refunded": {"type": "boolean"},
            "refund_pending": {"type": "boolean"},
            "refund_amount": of::<Amount>(g),
            "refund_taken": of::<Amount>(g),
            "deposit_total": of::<Amount>(g),
            "last_payment": of::<Timestamp>(g),
            "wired": {"const": false},
            "wire_details": {"type": "array"},
            "wire_reports": {"type": "array"},
            "exchange_code": {"type": "integer"},
            "exchange_http_status": {"type": "integer"},
            "exchange_ec": {"type": "integer"},
            "exchange_hc": {"type": "integer"},
            "refund_details": {"type": "array", "items": {
                "type": "object",
                "required": ["reason", "pending", "timestamp", "amount"],
                "properties": {
                    "reason": {"type": "string"},
                    "pending": {"type": "boolean"},
                    "timestamp": of::<Timestamp>(g),
                    "amount": of::<Amount>(g),
                },
            }},
        },
    });
    Delay = |_g| json_schema!({
        "type": "object",
        "description": "microseconds, or forever",
        "required": ["d_us"],
        "properties": {"d_us": {"anyOf": [
            {"type": "integer", "minimum": 0, "maximum": 9_007_199_254_740_991_u64},
            {"const": "forever"},
        ]}},
    });
    Document = |_g| json_schema!({
        "type": "object",
        "description": "OpenAPI 3.1",
        "required": ["openapi", "info", "paths"],
    });
    Unpaid = |_g| json_schema!({
        "type": "object",
        "required": ["taler_pay_uri"],
        "properties": {
            "taler_pay_uri": {"type": "string"},
            "fulfillment_url": {"type": "string"},
            "already_paid_order_id": {"type": "string"},
        },
    });
    Elsewhere = |_g| json_schema!({
        "type": "object",
        "required": ["public_reorder_url"],
        "properties": {"public_reorder_url": {"type": "string"}},
    });
    Status = |g| json_schema!({
        "type": "object",
        "required": ["refunded", "refund_pending", "refund_amount", "refund_taken"],
        "properties": {
            "refunded": {"type": "boolean"},
            "refund_pending": {"type": "boolean"},
            "refund_amount": of::<Amount>(g),
            "refund_taken": of::<Amount>(g),
            "fulfillment_url": {"type": "string"},
        },
    });
    AbortAnswer = |g| json_schema!({
        "type": "object",
        "required": ["refunds"],
        "properties": {"refunds": {
            "type": "array",
            "description": "one for each coin of the request, in its order",
            "items": {"oneOf": [
                entry(g, "success"),
                entry(g, "failure"),
                {"type": "object", "required": ["type"], "properties": {"type": {"const": "undeposited"}}},
            ]},
        }},
    });
    RefundAnswer = |g| json_schema!({
        "type": "object",
        "required": ["refund_amount", "refunds", "merchant_pub"],
        "properties": {
            "refund_amount": of::<Amount>(g),
            "refunds": {"type": "array", "items": {
                "type": "object",
                "required": ["rtransaction_id", "coin_pub", "refund_amount", "execution_time"],
                "properties": {
                    "rtransaction_id": of::<SafeId>(g),
                    "coin_pub": of::<Bytes32>(g),
                    "refund_amount": of::<Amount>(g),
                    "execution_time": of::<Timestamp>(g),
                },
                "oneOf": [entry(g, "success"), entry(g, "failure")],
            }},
            "merchant_pub": of::<Bytes32>(g),
        },
    });
    TooLate = |_g| json_schema!({
        "type": "object",
        "required": ["code", "hint"],
        "properties": {"code": {"enum": [2169]}, "hint": {"type": "string"}},
    });
}

/// How an exchange decided, or failed to.
fn entry(generator: &mut SchemaGenerator, kind: &str) -> Schema {
    if kind == "success" {
        return json_schema!({
            "type": "object",
            "required": ["type", "exchange_status", "exchange_pub", "exchange_sig"],
            "properties": {
                "type": {"const": kind},
                "exchange_status": {"const": 200},
                "exchange_pub": of::<Bytes32>(generator),
                "exchange_sig": of::<Bytes64>(generator),
            },
        });
    }
    json_schema!({
        "type": "object",
        "required": ["type", "exchange_status", "exchange_code"],
        "properties": {
            "type": {"const": kind},
            "exchange_status": {"type": "integer", "minimum": 400, "maximum": 599},
            "exchange_code": {"type": "integer", "minimum": 0},
            "exchange_reply": {"type": "object"},
        },
    })
}
