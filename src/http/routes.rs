//! Which method of which path is which endpoint, who may call it and what it answers: one table, which the router walks
//! and of which `openapi.json` is made. So the two cannot disagree, and what no row names does not exist.

use percent_encoding::percent_decode_str;
use quittance_events::facts::TokenScope;
use quittance_taler::ErrorCode as Code;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{
    Endpoint, abort, accounts, approve, claim, config, forget, health, instances, intake, ledger, list,
    orders, pay, refund, shape, token, webhooks,
};
use crate::decide::deposits::DepositsRequest;
use crate::decide::order::ToldOrder;

/// Whom an endpoint is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// Everybody.
    Nothing,
    /// Whoever bears a token that is taken here.
    AnyToken,
    /// Whoever bears one with this scope.
    Scope(TokenScope),
    /// Whoever bears one with one of these.
    Scopes(&'static [TokenScope]),
}

impl Demand {
    /// The scopes that do; none where any token does, or none is needed.
    pub(super) fn scopes(&self) -> &[TokenScope] {
        match self {
            Demand::Nothing | Demand::AnyToken => &[],
            Demand::Scope(scope) => std::slice::from_ref(scope),
            Demand::Scopes(scopes) => scopes,
        }
    }
}

/// Who may sell: whose tokens tell of orders, and whose grant refunds, as Taler's `order-mgmt` does both.
const SELLING: &[TokenScope] = &[TokenScope::Orders, TokenScope::Refunds];

/// A body's schema.
pub(super) type Shape = fn(&mut SchemaGenerator) -> Schema;

/// What an endpoint answers where it does what it was asked to.
#[derive(Clone, Copy)]
pub(super) enum Body {
    Json(Shape),
    /// With a `Quittance-Receipt`.
    Receipted(Shape),
    Empty,
    Text,
    Bytes,
}

/// A method of a path.
pub(super) struct Route {
    pub(super) method: &'static str,
    /// `{name}` is a segment, `{name*}` all that is left.
    pub(super) path: &'static str,
    /// The endpoint, given the last of the path that no template fixes. `None`: there is none of that name.
    pub(super) endpoint: fn(&str) -> Option<Endpoint>,
    /// Whether every instance has it under `instances/{instance}/`, too.
    pub(super) of_instances: bool,
    pub(super) demand: Demand,
    pub(super) summary: &'static str,
    /// What may stand behind the question mark: name, schema, meaning.
    pub(super) query: &'static [(&'static str, Shape, &'static str)],
    pub(super) request: Option<Shape>,
    pub(super) answers: &'static [(u16, Body)],
    /// What it refuses beside what all of its sort do, with the status where it is not the code's own.
    pub(super) refusals: &'static [(u16, Code)],
    /// Whether a browser gets a page instead.
    pub(super) has_page: bool,
    /// How a `{name*}` is written in a document that knows single segments only.
    pub(super) spelt: &'static [&'static str],
}

fn shape<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// As it is written, where nobody looks at what could be read in other ways.
fn hash(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": "^[0-9A-Za-z]{103}$"})
}

fn text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string"})
}

fn count(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": 0, "maximum": 9_007_199_254_u64})
}

fn number(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": -9_007_199_254_i64, "maximum": 9_007_199_254_i64})
}

/// Who may look at orders: whoever has anything to do with them.
const LOOKING: &[TokenScope] = &[TokenScope::Read, TokenScope::Orders, TokenScope::Refunds];

/// Nothing said: a public endpoint of every instance.
const PLAIN: Route = Route {
    method: "GET",
    path: "",
    endpoint: |_| None,
    of_instances: true,
    demand: Demand::Nothing,
    summary: "",
    query: &[],
    request: None,
    answers: &[],
    refusals: &[],
    has_page: false,
    spelt: &[],
};

/// An instance as itself and its manager see it.
const INSTANCE: Route = Route {
    endpoint: |_| Some(Endpoint::Instance),
    demand: Demand::Scope(TokenScope::All),
    summary: "An instance's name and settings.",
    answers: &[(200, Body::Json(shape::<instances::Detail>))],
    refusals: &[(404, Code::MerchantGenericInstanceUnknown)],
    ..PLAIN
};

const INSTANCE_CHANGED: Route = Route {
    method: "PATCH",
    summary: "Changes the instance's name and settings.",
    request: Some(shape::<instances::About>),
    answers: &[(204, Body::Empty)],
    refusals: &[
        (400, Code::GenericParameterMalformed),
        (404, Code::MerchantGenericInstanceUnknown),
    ],
    ..INSTANCE
};

const INSTANCE_CLOSED: Route = Route {
    method: "DELETE",
    summary: "Closes the instance. What it did stays in the ledger.",
    answers: &[(204, Body::Empty)],
    ..INSTANCE
};

const INSTANCE_AUTH: Route = Route {
    method: "POST",
    endpoint: |_| Some(Endpoint::Auth),
    summary: "Sets the instance's token in the place of the one that was set before.",
    request: Some(shape::<instances::Auth>),
    answers: &[(204, Body::Empty)],
    refusals: &[
        (400, Code::MerchantPrivatePostInstanceAuthBadAuth),
        (403, Code::GenericForbidden),
        (404, Code::MerchantGenericInstanceUnknown),
        (404, Code::MerchantGenericAccessTokenUnknown),
    ],
    ..INSTANCE
};

/// Every method of every path. Of two that fit the first counts.
pub(super) static ROUTES: &[Route] = &[
    Route {
        path: "openapi.json",
        endpoint: |_| Some(Endpoint::OpenApi),
        of_instances: false,
        summary: "This document.",
        answers: &[(200, Body::Json(shape::<shape::Document>))],
        ..PLAIN
    },
    Route {
        path: "health",
        endpoint: |_| Some(Endpoint::Health),
        of_instances: false,
        summary: "Whether this service can record.",
        answers: &[(200, Body::Json(shape::<health::Reply>))],
        refusals: &[(503, Code::GenericDbStoreFailed)],
        ..PLAIN
    },
    Route {
        endpoint: |_| Some(Endpoint::Front),
        summary: "Where a client looks whether there is anything; it leads to `config`.",
        answers: &[(302, Body::Empty)],
        ..PLAIN
    },
    Route {
        method: "HEAD",
        endpoint: |_| Some(Endpoint::Front),
        summary: "As GET.",
        answers: &[(302, Body::Empty)],
        ..PLAIN
    },
    Route {
        path: "config",
        endpoint: |_| Some(Endpoint::Config),
        summary: "What this service is.",
        answers: &[(200, Body::Json(shape::<config::Reply>))],
        ..PLAIN
    },
    Route {
        path: "orders/{order_id}",
        endpoint: |_| Some(Endpoint::Status),
        summary: "What wallets and customers see of an order: to be paid, somebody else's, or paid, with its refunds.",
        query: &[
            (
                "h_contract",
                hash,
                "the contract's hash, which only customer and merchant know",
            ),
            ("token", shape::<shape::Bytes16>, "the order's claim token"),
            ("session_id", text, "the session in which it is to be paid"),
            (
                "allow_refunded_for_repurchase",
                text,
                "yes: an order that was paid before counts although something of it was refunded",
            ),
            (
                "timeout_ms",
                count,
                "how long to wait for it to be paid, or for what is said below, 30 seconds at most",
            ),
            (
                "await_refund_obtained",
                text,
                "yes: waits until no refund is left to be picked up",
            ),
            (
                "refund",
                shape::<shape::Amount>,
                "waits until more than this is refunded",
            ),
        ],
        answers: &[
            (200, Body::Json(shape::<shape::Status>)),
            (202, Body::Json(shape::<shape::Elsewhere>)),
            (302, Body::Empty),
            (402, Body::Json(shape::<shape::Unpaid>)),
        ],
        refusals: &[
            (400, Code::GenericParameterMalformed),
            (403, Code::MerchantGetOrdersIdInvalidToken),
            (403, Code::MerchantGetOrdersIdInvalidContractHash),
            (404, Code::MerchantGenericOrderUnknown),
        ],
        has_page: true,
        ..PLAIN
    },
    Route {
        method: "POST",
        path: "orders/{order_id}/claim",
        endpoint: |_| Some(Endpoint::Claim),
        summary: "A wallet takes an order for itself and gets its contract.",
        request: Some(shape::<claim::Request>),
        answers: &[(200, Body::Json(shape::<claim::Reply>))],
        refusals: &[
            (404, Code::MerchantPostOrdersIdClaimNotFound),
            (409, Code::MerchantPostOrdersIdClaimAlreadyClaimed),
            (410, Code::MerchantPostOrdersIdPayOfferExpired),
        ],
        ..PLAIN
    },
    Route {
        method: "POST",
        path: "orders/{order_id}/pay",
        endpoint: |_| Some(Endpoint::Pay),
        summary: "A wallet pays an order with coins.",
        request: Some(shape::<pay::Request>),
        answers: &[(200, Body::Json(shape::<pay::Reply>))],
        refusals: &[
            (400, Code::GenericParameterMalformed),
            (400, Code::MerchantGenericExchangeUntrusted),
            (400, Code::MerchantPostOrdersIdPayDenominationKeyNotFound),
            (400, Code::MerchantPostOrdersIdPayFeesExceedPayment),
            (400, Code::MerchantPostOrdersIdPayInsufficientDueToFees),
            (400, Code::MerchantPostOrdersIdPayPaymentInsufficient),
            (402, Code::MerchantPostOrdersIdPayRefunded),
            (403, Code::MerchantPostOrdersIdPayCoinSignatureInvalid),
            (404, Code::MerchantGenericOrderUnknown),
            (409, Code::GenericDbInvariantFailure),
            (409, Code::MerchantGenericCurrencyMismatch),
            (409, Code::MerchantPostOrdersIdPayInsufficientFunds),
            (409, Code::MerchantPostOrdersIdPayAlreadyPaid),
            (409, Code::MerchantPostOrdersIdPayReplayAfterRefund),
            (410, Code::MerchantPostOrdersIdPayOfferExpired),
            (410, Code::MerchantPostOrdersIdPayDenominationDepositExpired),
            (451, Code::MerchantPostOrdersIdPayExchangeLegallyRefused),
            (502, Code::MerchantGenericExchangeKeysFailure),
            (502, Code::MerchantGenericExchangeConnectFailure),
            (502, Code::MerchantGenericExchangeReplyMalformed),
            (502, Code::MerchantGenericExchangeUnexpectedStatus),
            (502, Code::MerchantPostOrdersIdPayExchangeFailed),
            (504, Code::MerchantGenericExchangeTimeout),
        ],
        ..PLAIN
    },
    Route {
        method: "POST",
        path: "orders/{order_id}/paid",
        endpoint: |_| Some(Endpoint::Paid),
        summary: "A wallet shows in another session that it has paid.",
        request: Some(shape::<pay::Paid>),
        answers: &[(200, Body::Json(shape::<pay::Shown>))],
        refusals: &[
            (400, Code::GenericParameterMalformed),
            (400, Code::MerchantPostOrdersIdPaidContractHashMismatch),
            (403, Code::MerchantPostOrdersIdPaidCoinSignatureInvalid),
            (404, Code::MerchantGenericOrderUnknown),
        ],
        ..PLAIN
    },
    Route {
        method: "POST",
        path: "orders/{order_id}/abort",
        endpoint: |_| Some(Endpoint::Abort),
        summary: "A wallet gives up a payment that failed half-way and gets back what was deposited.",
        request: Some(shape::<abort::Request>),
        answers: &[(200, Body::Receipted(shape::<shape::AbortAnswer>))],
        refusals: &[
            (400, Code::GenericParameterMalformed),
            (400, Code::MerchantPostOrdersIdAbortCoinsArrayEmpty),
            (403, Code::MerchantPostOrdersIdAbortContractHashMissmatch),
            (404, Code::MerchantPostOrdersIdAbortContractNotFound),
            (408, Code::MerchantGenericExchangeTimeout),
            (412, Code::MerchantPostOrdersIdAbortRefundRefusedPaymentComplete),
            (502, Code::MerchantGenericExchangeKeysFailure),
            (502, Code::MerchantGenericExchangeConnectFailure),
            (502, Code::MerchantGenericExchangeReplyMalformed),
            (502, Code::MerchantGenericExchangeUnexpectedStatus),
            (504, Code::MerchantGenericExchangeTimeout),
        ],
        ..PLAIN
    },
    Route {
        method: "POST",
        path: "orders/{order_id}/refund",
        endpoint: |_| Some(Endpoint::Refund),
        summary: "A wallet fetches the refunds that the merchant granted.",
        request: Some(shape::<refund::Request>),
        answers: &[
            (200, Body::Receipted(shape::<shape::RefundAnswer>)),
            (204, Body::Empty),
            (410, Body::Receipted(shape::<shape::TooLate>)),
        ],
        refusals: &[
            (403, Code::MerchantGenericContractHashDoesNotMatchOrder),
            (404, Code::MerchantGenericOrderUnknown),
        ],
        ..PLAIN
    },
    Route {
        method: "POST",
        path: "private/orders",
        endpoint: |_| Some(Endpoint::Orders),
        demand: Demand::Scopes(SELLING),
        summary: "The merchant offers something.",
        request: Some(shape::<shape::OrderRequest>),
        answers: &[(200, Body::Json(shape::<orders::Made>))],
        refusals: &[
            (400, Code::MerchantPrivatePostOrdersProposalParseError),
            (400, Code::MerchantPrivatePostOrdersRefundAfterWireDeadline),
            (400, Code::MerchantPrivatePostOrdersDeliveryDateInPast),
            (400, Code::MerchantPrivatePostOrdersWireDeadlineIsNever),
            (400, Code::MerchantPrivatePostOrdersPayDeadlineInPast),
            (400, Code::MerchantPrivatePostOrdersRefundDeadlineInPast),
            (404, Code::MerchantPrivatePostOrdersInstanceConfigurationLacksWire),
            (409, Code::MerchantGenericCurrencyMismatch),
            (409, Code::MerchantPrivatePostOrdersAlreadyExists),
            (409, Code::MerchantPrivatePostOrdersNoExchangesForWireMethod),
            (501, Code::GenericFeatureNotImplemented),
        ],
        ..PLAIN
    },
    Route {
        path: "private/orders",
        endpoint: |_| Some(Endpoint::Orders),
        demand: Demand::Scopes(LOOKING),
        summary: "The instance's orders.",
        query: &[
            ("paid", text, "YES or NO: only orders that are or are not; ALL"),
            (
                "refunded",
                text,
                "YES or NO: only orders of which something was or nothing was; ALL",
            ),
            (
                "wired",
                text,
                "NO or ALL: what an exchange has wired is not known",
            ),
            (
                "session_id",
                text,
                "only orders that were shown to be paid in this session last",
            ),
            ("fulfillment_url", text, "only orders with this fulfillment URL"),
            (
                "summary_filter",
                text,
                "only orders with this in their summary, in either case",
            ),
            (
                "date_s",
                count,
                "only orders from before or, oldest first, from after this second",
            ),
            (
                "limit",
                number,
                "at most so many orders beyond the offset, from the oldest; negative: from the newest",
            ),
            ("offset", count, "a row_id"),
            ("delta", number, "limit, as it was called before"),
            ("start", count, "offset, as it was called before"),
            (
                "timeout_ms",
                count,
                "oldest first: how long to wait for an order, 30 seconds at most",
            ),
        ],
        answers: &[(200, Body::Json(shape::<list::List>))],
        refusals: &[
            (400, Code::GenericParameterMalformed),
            (501, Code::GenericFeatureNotImplemented),
        ],
        ..PLAIN
    },
    Route {
        path: "private/orders/{order_id}",
        endpoint: |_| Some(Endpoint::Order),
        demand: Demand::Scopes(LOOKING),
        summary: "How an order stands.",
        query: &[
            ("session_id", text, "the session in which it is to be paid"),
            (
                "allow_refunded_for_repurchase",
                text,
                "yes: an order that was paid before counts although something of it was refunded",
            ),
            (
                "lp_not_etag",
                text,
                "the ETag of a reply that is known: wait for another one, or for 304",
            ),
            (
                "timeout_ms",
                count,
                "how long to wait for its payment, or for another reply, 30 seconds at most",
            ),
        ],
        answers: &[(200, Body::Json(shape::<shape::OrderState>)), (304, Body::Empty)],
        refusals: &[
            (400, Code::GenericParameterMalformed),
            (404, Code::MerchantGenericOrderUnknown),
        ],
        ..PLAIN
    },
    Route {
        method: "DELETE",
        path: "private/orders/{order_id}",
        endpoint: |_| Some(Endpoint::Order),
        demand: Demand::Scopes(SELLING),
        summary: "Takes an order back that nobody has paid.",
        query: &[(
            "force",
            text,
            "yes: although a wallet has claimed it and may still pay it",
        )],
        answers: &[(204, Body::Empty)],
        refusals: &[
            (400, Code::GenericParameterMalformed),
            (404, Code::MerchantGenericOrderUnknown),
            (409, Code::MerchantPrivateDeleteOrdersAwaitingPayment),
            (409, Code::MerchantPrivateDeleteOrdersAlreadyPaid),
        ],
        ..PLAIN
    },
    Route {
        method: "PATCH",
        path: "private/orders/{order_id}/forget",
        endpoint: |_| Some(Endpoint::Forget),
        demand: Demand::Scopes(SELLING),
        summary: "Forgets members of a contract that it marks as forgettable. Its hash stays.",
        request: Some(shape::<forget::Request>),
        answers: &[(200, Body::Json(shape::<forget::Reply>)), (204, Body::Empty)],
        refusals: &[
            (400, Code::MerchantPrivatePatchOrdersIdForgetPathSyntaxIncorrect),
            (404, Code::MerchantGenericOrderUnknown),
            (408, Code::MerchantGenericExchangeTimeout),
            (409, Code::MerchantPrivatePatchOrdersIdForgetPathNotForgettable),
        ],
        ..PLAIN
    },
    Route {
        method: "POST",
        path: "private/orders/{order_id}/refund",
        endpoint: |_| Some(Endpoint::Approve),
        demand: Demand::Scope(TokenScope::Refunds),
        summary: "The merchant grants a refund; the amount is the order's new total.",
        request: Some(shape::<approve::Request>),
        answers: &[(200, Body::Json(shape::<approve::Reply>))],
        refusals: &[
            (403, Code::MerchantPrivatePostOrdersIdRefundNotAllowedByContract),
            (404, Code::MerchantGenericOrderUnknown),
            (409, Code::MerchantGenericCurrencyMismatch),
            (409, Code::MerchantPrivatePostOrdersIdRefundInconsistentAmount),
            (409, Code::MerchantPrivatePostOrdersIdRefundOrderUnpaid),
            (410, Code::MerchantPrivatePostRefundAfterWireDeadline),
        ],
        ..PLAIN
    },
    Route {
        method: "POST",
        path: "private/ledger/orders",
        endpoint: |_| Some(Endpoint::RecordOrder),
        demand: Demand::Scope(TokenScope::Orders),
        summary: "A shop tells an order's contract terms.",
        request: Some(shape::<ToldOrder>),
        answers: &[(200, Body::Json(shape::<intake::OrderReply>))],
        refusals: &[
            (400, Code::MerchantPrivatePostOrdersProposalParseError),
            (409, Code::MerchantGenericCurrencyMismatch),
            (409, Code::MerchantPrivatePostOrdersAlreadyExists),
        ],
        ..PLAIN
    },
    Route {
        method: "POST",
        path: "private/ledger/orders/{order_id}/deposits",
        endpoint: |_| Some(Endpoint::RecordDeposits),
        demand: Demand::Scope(TokenScope::Orders),
        summary: "A shop tells an order's deposits, its payment, and refunds made before a takeover.",
        request: Some(shape::<DepositsRequest>),
        answers: &[(200, Body::Json(shape::<intake::DepositsReply>))],
        refusals: &[
            (400, Code::GenericParameterMalformed),
            (400, Code::MerchantGenericExchangeUntrusted),
            (400, Code::MerchantPostOrdersIdPayPaymentInsufficient),
            (404, Code::MerchantGenericOrderUnknown),
            (409, Code::GenericDbInvariantFailure),
            (409, Code::MerchantGenericCurrencyMismatch),
        ],
        ..PLAIN
    },
    Route {
        method: "POST",
        path: "private/token",
        endpoint: |_| Some(Endpoint::Token),
        demand: Demand::AnyToken,
        summary: "Makes a token.",
        request: Some(shape::<token::Request>),
        answers: &[(200, Body::Json(shape::<token::Made>))],
        refusals: &[
            (400, Code::GenericParameterMalformed),
            (403, Code::GenericForbidden),
            (403, Code::GenericTokenPermissionInsufficient),
        ],
        ..PLAIN
    },
    Route {
        method: "DELETE",
        path: "private/token",
        endpoint: |_| Some(Endpoint::Token),
        demand: Demand::AnyToken,
        summary: "Revokes the token that the request bears.",
        answers: &[(204, Body::Empty)],
        refusals: &[
            (403, Code::GenericForbidden),
            (404, Code::MerchantGenericAccessTokenUnknown),
        ],
        ..PLAIN
    },
    Route {
        path: "private/tokens",
        endpoint: |_| Some(Endpoint::Tokens),
        demand: Demand::Scope(TokenScope::Read),
        summary: "The instance's tokens.",
        answers: &[(200, Body::Json(shape::<token::List>)), (204, Body::Empty)],
        ..PLAIN
    },
    Route {
        method: "DELETE",
        path: "private/tokens/{serial}",
        endpoint: |serial| serial.parse().ok().map(Endpoint::TokenOf),
        demand: Demand::Scope(TokenScope::All),
        summary: "Revokes a token.",
        answers: &[(204, Body::Empty)],
        refusals: &[
            (404, Code::GenericEndpointUnknown),
            (404, Code::MerchantGenericAccessTokenUnknown),
        ],
        ..PLAIN
    },
    Route {
        path: "private",
        demand: Demand::Scope(TokenScope::Read),
        summary: "The instance's name and settings.",
        ..INSTANCE
    },
    Route {
        path: "private",
        ..INSTANCE_CHANGED
    },
    Route {
        path: "private",
        ..INSTANCE_CLOSED
    },
    Route {
        path: "private/auth",
        ..INSTANCE_AUTH
    },
    Route {
        path: "management/instances",
        endpoint: |_| Some(Endpoint::Instances),
        of_instances: false,
        summary: "All open instances.",
        answers: &[(200, Body::Json(shape::<instances::List>))],
        ..INSTANCE
    },
    Route {
        method: "POST",
        path: "management/instances",
        endpoint: |_| Some(Endpoint::Instances),
        of_instances: false,
        summary: "Opens an instance.",
        request: Some(shape::<instances::New>),
        answers: &[(204, Body::Empty)],
        refusals: &[
            (400, Code::GenericParameterMalformed),
            (400, Code::MerchantPrivatePostInstancesBadAuth),
            (403, Code::GenericForbidden),
            (409, Code::MerchantPrivatePostInstancesAlreadyExists),
        ],
        ..INSTANCE
    },
    Route {
        path: "management/instances/{id}",
        of_instances: false,
        ..INSTANCE
    },
    Route {
        path: "management/instances/{id}",
        of_instances: false,
        ..INSTANCE_CHANGED
    },
    Route {
        path: "management/instances/{id}",
        of_instances: false,
        ..INSTANCE_CLOSED
    },
    Route {
        path: "management/instances/{id}/auth",
        of_instances: false,
        ..INSTANCE_AUTH
    },
    Route {
        path: "private/accounts",
        endpoint: |_| Some(Endpoint::Accounts),
        demand: Demand::Scope(TokenScope::Read),
        summary: "The instance's accounts.",
        answers: &[(200, Body::Json(shape::<accounts::List>))],
        ..PLAIN
    },
    Route {
        method: "POST",
        path: "private/accounts",
        endpoint: |_| Some(Endpoint::Accounts),
        demand: Demand::Scope(TokenScope::All),
        summary: "Opens an account that exchanges wire to.",
        request: Some(shape::<accounts::Request>),
        answers: &[(200, Body::Json(shape::<accounts::Added>))],
        refusals: &[
            (400, Code::GenericPaytoUriMalformed),
            (403, Code::GenericForbidden),
        ],
        ..PLAIN
    },
    Route {
        path: "private/accounts/{h_wire}",
        endpoint: |h_wire| Some(Endpoint::Account(decoded(h_wire))),
        demand: Demand::Scope(TokenScope::Read),
        summary: "One of them.",
        answers: &[(200, Body::Json(shape::<accounts::Detail>))],
        refusals: &[(404, Code::MerchantGenericAccountUnknown)],
        ..PLAIN
    },
    Route {
        method: "PATCH",
        path: "private/accounts/{h_wire}",
        endpoint: |h_wire| Some(Endpoint::Account(decoded(h_wire))),
        demand: Demand::Scope(TokenScope::All),
        summary: "Changes nothing: what Taler's merchant would change of an account is not kept.",
        request: Some(shape::<accounts::Change>),
        answers: &[(204, Body::Empty)],
        refusals: &[(404, Code::MerchantGenericAccountUnknown)],
        ..PLAIN
    },
    Route {
        method: "DELETE",
        path: "private/accounts/{h_wire}",
        endpoint: |h_wire| Some(Endpoint::Account(decoded(h_wire))),
        demand: Demand::Scope(TokenScope::All),
        summary: "Closes an account: no new order names it.",
        answers: &[(204, Body::Empty)],
        refusals: &[(404, Code::MerchantGenericAccountUnknown)],
        ..PLAIN
    },
    Route {
        path: "private/webhooks",
        endpoint: |_| Some(Endpoint::Webhooks),
        demand: Demand::Scope(TokenScope::Read),
        summary: "The instance's webhooks.",
        answers: &[(200, Body::Json(shape::<webhooks::List>))],
        ..PLAIN
    },
    Route {
        method: "POST",
        path: "private/webhooks",
        endpoint: |_| Some(Endpoint::Webhooks),
        demand: Demand::Scope(TokenScope::All),
        summary: "Has a server of the shop told of payments or refunds. `Quittance-Webhook-Secret` is told once.",
        request: Some(shape::<webhooks::Request>),
        answers: &[(204, Body::Empty)],
        refusals: &[
            (400, Code::GenericParameterMalformed),
            (403, Code::GenericForbidden),
            (409, Code::MerchantPrivatePostWebhooksConflictWebhookExists),
        ],
        ..PLAIN
    },
    Route {
        path: "private/webhooks/{webhook_id}",
        endpoint: |_| Some(Endpoint::Webhook),
        demand: Demand::Scope(TokenScope::All),
        summary: "One of them. Its templates may hold the shop's own secrets.",
        answers: &[(200, Body::Json(shape::<webhooks::Detail>))],
        refusals: &[(404, Code::MerchantGenericWebhookUnknown)],
        ..PLAIN
    },
    Route {
        method: "PATCH",
        path: "private/webhooks/{webhook_id}",
        endpoint: |_| Some(Endpoint::Webhook),
        demand: Demand::Scope(TokenScope::All),
        summary: "Changes a webhook; its secret stays.",
        request: Some(shape::<webhooks::Change>),
        answers: &[(204, Body::Empty)],
        refusals: &[
            (400, Code::GenericParameterMalformed),
            (404, Code::MerchantGenericWebhookUnknown),
        ],
        ..PLAIN
    },
    Route {
        method: "DELETE",
        path: "private/webhooks/{webhook_id}",
        endpoint: |_| Some(Endpoint::Webhook),
        demand: Demand::Scope(TokenScope::All),
        summary: "Takes a webhook away, with what it still had to tell.",
        answers: &[(204, Body::Empty)],
        refusals: &[(404, Code::MerchantGenericWebhookUnknown)],
        ..PLAIN
    },
    Route {
        path: "ledger/checkpoint",
        endpoint: |_| Some(Endpoint::Ledger(ledger::File::Checkpoint)),
        of_instances: false,
        summary: "The latest signed checkpoint, a note after c2sp.org/tlog-checkpoint.",
        answers: &[(200, Body::Text)],
        refusals: &[(404, Code::GenericEndpointUnknown)],
        ..PLAIN
    },
    Route {
        path: "ledger/tile/entries/{bundle*}",
        endpoint: |rest| ledger::File::tile("entries/", rest).map(Endpoint::Ledger),
        of_instances: false,
        demand: Demand::Scope(TokenScope::Audit),
        summary: "Events as leaves of the tree, after c2sp.org/tlog-tiles.",
        answers: &[(200, Body::Bytes)],
        refusals: &[(404, Code::GenericEndpointUnknown)],
        spelt: &[
            "ledger/tile/entries/{bundle}",
            "ledger/tile/entries/{bundle}.p/{width}",
        ],
        ..PLAIN
    },
    Route {
        path: "ledger/tile/{tile*}",
        endpoint: |rest| ledger::File::tile("", rest).map(Endpoint::Ledger),
        of_instances: false,
        summary: "Hashes of the tree, after c2sp.org/tlog-tiles.",
        answers: &[(200, Body::Bytes)],
        refusals: &[(404, Code::GenericEndpointUnknown)],
        spelt: &[
            "ledger/tile/{level}/{index}",
            "ledger/tile/{level}/{index}.p/{width}",
        ],
        ..PLAIN
    },
];

impl Route {
    /// What the path has where this template has names: the first segment of an order, the rest of a tile.
    fn fits<'a>(&self, path: &'a str) -> Option<&'a str> {
        let mut found = "";
        let mut rest = Some(path);
        for part in self.path.split('/') {
            let left = rest?;
            if part.ends_with("*}") {
                return Some(left);
            }
            let (segment, behind) = match left.split_once('/') {
                Some((segment, behind)) => (segment, Some(behind)),
                None => (left, None),
            };
            if part.starts_with('{') {
                found = segment;
            } else if part != segment {
                return None;
            }
            rest = behind;
        }
        rest.is_none().then_some(found)
    }
}

/// A path taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub(super) endpoint: Endpoint,
    /// `None`: the root instance.
    pub(super) instance: Option<&'a str>,
    pub(super) order: Option<&'a str>,
    pub(super) webhook: Option<&'a str>,
    /// Which instance is managed.
    pub(super) managed: Option<&'a str>,
    /// Whether it is for who manages instances, rather than for one of them.
    pub(super) manages: bool,
    pub(super) demand: Demand,
    pub(super) method: &'static str,
    template: &'static str,
}

impl Target<'_> {
    /// This path as the method has it, or the methods that it takes.
    pub(super) fn taking(self, method: &str) -> Result<Self, Vec<&'static str>> {
        match self.routes().find(|route| route.method == method) {
            Some(route) => Ok(Target {
                demand: route.demand,
                method: route.method,
                ..self
            }),
            None => Err(self.methods()),
        }
    }

    /// The methods that the path takes.
    pub(super) fn methods(&self) -> Vec<&'static str> {
        self.routes().map(|route| route.method).collect()
    }

    fn routes(&self) -> impl Iterator<Item = &'static Route> {
        let template = self.template;
        ROUTES.iter().filter(move |route| route.path == template)
    }
}

/// What a path names, for the first of the methods that it takes.
pub(super) fn find(path: &str) -> Option<Target<'_>> {
    let path = path.strip_prefix('/')?;
    let (instance, path) = match path.strip_prefix("instances/") {
        Some(path) => {
            let (instance, rest) = path.split_once('/').unwrap_or((path, ""));
            (Some(instance), rest)
        }
        None => (None, path),
    };
    let fitting = |route: &'static Route| Some((route, route.fits(path)?));
    let (route, name) = ROUTES
        .iter()
        .filter(|route| route.of_instances || instance.is_none())
        .find_map(fitting)?;
    Some(Target {
        endpoint: (route.endpoint)(name)?,
        instance,
        order: route.path.contains("{order_id}").then_some(name),
        webhook: route.path.contains("{webhook_id}").then_some(name),
        managed: route.path.contains("{id}").then_some(name),
        manages: route.path.starts_with("management/"),
        demand: route.demand,
        method: route.method,
        template: route.path,
    })
}

/// The methods that any path takes.
pub(super) fn methods() -> Vec<&'static str> {
    let mut methods: Vec<_> = ROUTES.iter().map(|route| route.method).collect();
    methods.sort_unstable();
    methods.dedup();
    methods
}

/// A name in a path as it was meant.
pub(super) fn decoded<T: std::str::FromStr>(segment: &str) -> Option<T> {
    percent_decode_str(segment).decode_utf8().ok()?.parse().ok()
}
