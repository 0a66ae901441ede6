//! Taler's error codes, as far as this service sends or meets them: number, name, HTTP status and a plain
//! sentence.
//!
//! Numbers and names are those of the GNU Taler error registry; 2255 is spelt there as it is here. The status
//! is the registry's; an endpoint whose specification names another one overrides it.

macro_rules! error_codes {
    ($($variant:ident $code:literal $name:literal $status:literal $hint:literal;)*) => {
        /// An error code of GNU Taler.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum ErrorCode {
            $(#[doc = $hint] $variant,)*
        }

        impl ErrorCode {
            /// Every code known here, in order of number.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$variant),*];

            /// The number that goes into the `code` of an error body.
            #[must_use]
            pub const fn code(self) -> u32 {
                match self { $(ErrorCode::$variant => $code,)* }
            }

            /// Taler's name, without TALER_EC_.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(ErrorCode::$variant => $name,)* }
            }

            /// The HTTP status that the registry gives it.
            #[must_use]
            pub const fn http_status(self) -> u16 {
                match self { $(ErrorCode::$variant => $status,)* }
            }

            /// One sentence for a human, for the `hint` of an error body.
            #[must_use]
            pub const fn hint(self) -> &'static str {
                match self { $(ErrorCode::$variant => $hint,)* }
            }
        }
    };
}

error_codes! {
    GenericTokenPermissionInsufficient 16 "GENERIC_TOKEN_PERMISSION_INSUFFICIENT" 403
        "The scope of the access token does not allow this.";
    GenericMethodInvalid 20 "GENERIC_METHOD_INVALID" 405
        "This endpoint does not take that HTTP method.";
    GenericEndpointUnknown 21 "GENERIC_ENDPOINT_UNKNOWN" 404
        "There is no endpoint at this path.";
    GenericJsonInvalid 22 "GENERIC_JSON_INVALID" 400
        "The JSON in the request is malformed or lacks something required.";
    GenericPaytoUriMalformed 24 "GENERIC_PAYTO_URI_MALFORMED" 400
        "The payto URI is malformed.";
    GenericParameterMalformed 26 "GENERIC_PARAMETER_MALFORMED" 400
        "A parameter of the request is malformed.";
    GenericCompressionInvalid 28 "GENERIC_COMPRESSION_INVALID" 400
        "The body is not packed as the request says, or in a way that is not known here.";
    GenericUriTooLong 31 "GENERIC_URI_TOO_LONG" 414
        "The URI of the request is too long.";
    GenericUploadExceedsLimit 32 "GENERIC_UPLOAD_EXCEEDS_LIMIT" 413
        "The body of the request is larger than allowed.";
    GenericUnauthorized 40 "GENERIC_UNAUTHORIZED" 401
        "The request needs a valid access token.";
    GenericTokenUnknown 41 "GENERIC_TOKEN_UNKNOWN" 401
        "The access token is not known here.";
    GenericTokenExpired 42 "GENERIC_TOKEN_EXPIRED" 401
        "The access token has expired.";
    GenericForbidden 44 "GENERIC_FORBIDDEN" 403
        "This is not allowed.";
    GenericDbStoreFailed 52 "GENERIC_DB_STORE_FAILED" 500
        "The ledger could not be written.";
    GenericDbFetchFailed 53 "GENERIC_DB_FETCH_FAILED" 500
        "The ledger could not be read.";
    GenericDbInvariantFailure 56 "GENERIC_DB_INVARIANT_FAILURE" 500
        "The request contradicts what is already recorded.";
    GenericInternalInvariantFailure 60 "GENERIC_INTERNAL_INVARIANT_FAILURE" 500
        "The service met an internal error.";
    GenericFeatureNotImplemented 76 "GENERIC_FEATURE_NOT_IMPLEMENTED" 501
        "This is not done here.";
    GenericOsResourceAllocationFailure 77 "GENERIC_OS_RESOURCE_ALLOCATION_FAILURE" 500
        "The service has no room for the request at the moment.";
    ExchangeGenericDenominationKeyUnknown 1005 "EXCHANGE_GENERIC_DENOMINATION_KEY_UNKNOWN" 404
        "The exchange does not know the denomination of the coin.";
    ExchangeRefundCoinNotFound 1500 "EXCHANGE_REFUND_COIN_NOT_FOUND" 404
        "The exchange does not know the coin.";
    ExchangeRefundConflictDepositInsufficient 1501 "EXCHANGE_REFUND_CONFLICT_DEPOSIT_INSUFFICIENT" 409
        "The refunds of the coin would exceed what was deposited.";
    ExchangeRefundDepositNotFound 1502 "EXCHANGE_REFUND_DEPOSIT_NOT_FOUND" 404
        "The exchange knows no deposit of the coin for this contract.";
    ExchangeRefundMerchantAlreadyPaid 1503 "EXCHANGE_REFUND_MERCHANT_ALREADY_PAID" 410
        "The exchange has already paid the merchant, so that no refund is possible any more.";
    ExchangeRefundMerchantSignatureInvalid 1506 "EXCHANGE_REFUND_MERCHANT_SIGNATURE_INVALID" 403
        "The merchant's signature on the refund is invalid.";
    ExchangeRefundInconsistentAmount 1510 "EXCHANGE_REFUND_INCONSISTENT_AMOUNT" 424
        "The exchange has granted a refund of another amount under the same id.";
    MerchantGenericInstanceUnknown 2000 "MERCHANT_GENERIC_INSTANCE_UNKNOWN" 404
        "There is no such merchant instance.";
    MerchantGenericOrderUnknown 2005 "MERCHANT_GENERIC_ORDER_UNKNOWN" 404
        "There is no such order.";
    MerchantGenericContractHashDoesNotMatchOrder 2009 "MERCHANT_GENERIC_CONTRACT_HASH_DOES_NOT_MATCH_ORDER" 403
        "The contract hash is not that of the order.";
    MerchantGenericExchangeKeysFailure 2010 "MERCHANT_GENERIC_EXCHANGE_KEYS_FAILURE" 502
        "The keys of the exchange could not be had.";
    MerchantGenericExchangeTimeout 2011 "MERCHANT_GENERIC_EXCHANGE_TIMEOUT" 504
        "The exchange did not answer in time.";
    MerchantGenericExchangeConnectFailure 2012 "MERCHANT_GENERIC_EXCHANGE_CONNECT_FAILURE" 500
        "The exchange could not be reached.";
    MerchantGenericExchangeReplyMalformed 2013 "MERCHANT_GENERIC_EXCHANGE_REPLY_MALFORMED" 502
        "The reply of the exchange is malformed or proves nothing.";
    MerchantGenericExchangeUnexpectedStatus 2014 "MERCHANT_GENERIC_EXCHANGE_UNEXPECTED_STATUS" 502
        "The exchange answered with an unexpected status.";
    MerchantGenericWebhookUnknown 2019 "MERCHANT_GENERIC_WEBHOOK_UNKNOWN" 404
        "The instance has no such webhook.";
    MerchantGenericAccountUnknown 2022 "MERCHANT_GENERIC_ACCOUNT_UNKNOWN" 404
        "The instance has no such account.";
    MerchantGenericCurrencyMismatch 2024 "MERCHANT_GENERIC_CURRENCY_MISMATCH" 409
        "The currency of the amount is not the one in use here.";
    MerchantGenericExchangeUntrusted 2025 "MERCHANT_GENERIC_EXCHANGE_UNTRUSTED" 400
        "The exchange is not one that this merchant or contract accepts.";
    MerchantGenericAccessTokenUnknown 2042 "MERCHANT_GENERIC_ACCESS_TOKEN_UNKNOWN" 404
        "The instance has no such access token.";
    MerchantGetOrdersIdInvalidToken 2105 "MERCHANT_GET_ORDERS_ID_INVALID_TOKEN" 403
        "The token is not that of the order.";
    MerchantGetOrdersIdInvalidContractHash 2106 "MERCHANT_GET_ORDERS_ID_INVALID_CONTRACT_HASH" 403
        "The contract hash is not that of the order.";
    MerchantPostOrdersIdPayInsufficientFunds 2150 "MERCHANT_POST_ORDERS_ID_PAY_INSUFFICIENT_FUNDS" 409
        "The exchange says that a coin was spent before; the reply of the exchange tells which.";
    MerchantPostOrdersIdPayDenominationKeyNotFound 2151 "MERCHANT_POST_ORDERS_ID_PAY_DENOMINATION_KEY_NOT_FOUND" 400
        "The exchange has no denomination like that of a coin.";
    MerchantPostOrdersIdPayFeesExceedPayment 2154 "MERCHANT_POST_ORDERS_ID_PAY_FEES_EXCEED_PAYMENT" 400
        "The fees are above what the coins pay.";
    MerchantPostOrdersIdPayInsufficientDueToFees 2155 "MERCHANT_POST_ORDERS_ID_PAY_INSUFFICIENT_DUE_TO_FEES" 400
        "The coins cover the amount of the order, but not the fees beyond those that the merchant bears.";
    MerchantPostOrdersIdPayPaymentInsufficient 2156 "MERCHANT_POST_ORDERS_ID_PAY_PAYMENT_INSUFFICIENT" 400
        "The coins do not cover the amount of the order.";
    MerchantPostOrdersIdPayCoinSignatureInvalid 2157 "MERCHANT_POST_ORDERS_ID_PAY_COIN_SIGNATURE_INVALID" 403
        "The signature of a coin is invalid.";
    MerchantPostOrdersIdPayAlreadyPaid 2160 "MERCHANT_POST_ORDERS_ID_PAY_ALREADY_PAID" 409
        "The order is paid already, with other coins.";
    MerchantPostOrdersIdPayOfferExpired 2161 "MERCHANT_POST_ORDERS_ID_PAY_OFFER_EXPIRED" 410
        "The offer has expired: its deadline for paying is over.";
    MerchantPostOrdersIdPayDenominationDepositExpired
        2165 "MERCHANT_POST_ORDERS_ID_PAY_DENOMINATION_DEPOSIT_EXPIRED" 410
        "The denomination of a coin is not taken at this time.";
    MerchantPostOrdersIdPayRefunded 2167 "MERCHANT_POST_ORDERS_ID_PAY_REFUNDED" 402
        "A coin of the payment is given back to its wallet.";
    MerchantPrivatePostRefundAfterWireDeadline 2169 "MERCHANT_PRIVATE_POST_REFUND_AFTER_WIRE_DEADLINE" 410
        "The wire transfer deadline is over, so that no refund is possible any more.";
    MerchantPostOrdersIdPayExchangeFailed 2170 "MERCHANT_POST_ORDERS_ID_PAY_EXCHANGE_FAILED" 502
        "The exchange refused the deposit of a coin.";
    MerchantPostOrdersIdPayExchangeLegallyRefused 2186 "MERCHANT_POST_ORDERS_ID_PAY_EXCHANGE_LEGALLY_REFUSED" 451
        "The exchange may not take a coin for legal reasons.";
    MerchantPostOrdersIdPayReplayAfterRefund 2190 "MERCHANT_POST_ORDERS_ID_PAY_REPLAY_AFTER_REFUND" 409
        "The order was paid like this and refunded since: ask for the refunds.";
    MerchantPostOrdersIdPaidContractHashMismatch 2200 "MERCHANT_POST_ORDERS_ID_PAID_CONTRACT_HASH_MISMATCH" 400
        "The contract hash is not that of the order that is said to be paid.";
    MerchantPostOrdersIdPaidCoinSignatureInvalid 2201 "MERCHANT_POST_ORDERS_ID_PAID_COIN_SIGNATURE_INVALID" 403
        "The signature does not show that the order is paid.";
    MerchantPostOrdersIdAbortContractNotFound 2253 "MERCHANT_POST_ORDERS_ID_ABORT_CONTRACT_NOT_FOUND" 404
        "There is no contract for the order that was to be aborted.";
    MerchantPostOrdersIdAbortRefundRefusedPaymentComplete
        2254 "MERCHANT_POST_ORDERS_ID_ABORT_REFUND_REFUSED_PAYMENT_COMPLETE" 412
        "The order is fully paid, so that the payment cannot be aborted any more.";
    MerchantPostOrdersIdAbortContractHashMissmatch 2255 "MERCHANT_POST_ORDERS_ID_ABORT_CONTRACT_HASH_MISSMATCH" 403
        "The contract hash is not that of the order that was to be aborted.";
    MerchantPostOrdersIdAbortCoinsArrayEmpty 2256 "MERCHANT_POST_ORDERS_ID_ABORT_COINS_ARRAY_EMPTY" 400
        "The abort names no coins.";
    MerchantPostOrdersIdClaimNotFound 2300 "MERCHANT_POST_ORDERS_ID_CLAIM_NOT_FOUND" 404
        "There is no such order to be claimed with this token.";
    MerchantPostOrdersIdClaimAlreadyClaimed 2301 "MERCHANT_POST_ORDERS_ID_CLAIM_ALREADY_CLAIMED" 409
        "Another wallet has claimed the order.";
    MerchantPrivatePostOrdersInstanceConfigurationLacksWire
        2500 "MERCHANT_PRIVATE_POST_ORDERS_INSTANCE_CONFIGURATION_LACKS_WIRE" 404
        "The instance has no open account of this sort to be paid into.";
    MerchantPrivatePostOrdersProposalParseError 2502 "MERCHANT_PRIVATE_POST_ORDERS_PROPOSAL_PARSE_ERROR" 400
        "The contract terms are malformed or do not fit this merchant.";
    MerchantPrivatePostOrdersAlreadyExists 2503 "MERCHANT_PRIVATE_POST_ORDERS_ALREADY_EXISTS" 409
        "There is an order of this id with other contract terms.";
    MerchantPrivatePostOrdersRefundAfterWireDeadline
        2504 "MERCHANT_PRIVATE_POST_ORDERS_REFUND_AFTER_WIRE_DEADLINE" 400
        "The refund deadline is after the wire transfer deadline.";
    MerchantPrivatePostOrdersDeliveryDateInPast 2505 "MERCHANT_PRIVATE_POST_ORDERS_DELIVERY_DATE_IN_PAST" 400
        "The delivery date is past.";
    MerchantPrivatePostOrdersWireDeadlineIsNever 2506 "MERCHANT_PRIVATE_POST_ORDERS_WIRE_DEADLINE_IS_NEVER" 400
        "The wire transfer deadline would be never.";
    MerchantPrivatePostOrdersPayDeadlineInPast 2507 "MERCHANT_PRIVATE_POST_ORDERS_PAY_DEADLINE_IN_PAST" 400
        "The pay deadline is past.";
    MerchantPrivatePostOrdersRefundDeadlineInPast 2508 "MERCHANT_PRIVATE_POST_ORDERS_REFUND_DEADLINE_IN_PAST" 400
        "The refund deadline is past.";
    MerchantPrivatePostOrdersNoExchangesForWireMethod
        2509 "MERCHANT_PRIVATE_POST_ORDERS_NO_EXCHANGES_FOR_WIRE_METHOD" 409
        "No exchange is configured that coins could come from.";
    MerchantPrivatePatchOrdersIdForgetPathSyntaxIncorrect
        2510 "MERCHANT_PRIVATE_PATCH_ORDERS_ID_FORGET_PATH_SYNTAX_INCORRECT" 400
        "A path of what is to be forgotten is malformed.";
    MerchantPrivatePatchOrdersIdForgetPathNotForgettable
        2511 "MERCHANT_PRIVATE_PATCH_ORDERS_ID_FORGET_PATH_NOT_FORGETTABLE" 409
        "A path names something that cannot be forgotten.";
    MerchantPrivateDeleteOrdersAwaitingPayment 2520 "MERCHANT_PRIVATE_DELETE_ORDERS_AWAITING_PAYMENT" 409
        "The order may still be paid.";
    MerchantPrivateDeleteOrdersAlreadyPaid 2521 "MERCHANT_PRIVATE_DELETE_ORDERS_ALREADY_PAID" 409
        "The order is paid.";
    MerchantPrivatePostOrdersIdRefundInconsistentAmount
        2530 "MERCHANT_PRIVATE_POST_ORDERS_ID_REFUND_INCONSISTENT_AMOUNT" 409
        "The refund total is lower than the one granted, above what was paid, or cannot be spread over the coins.";
    MerchantPrivatePostOrdersIdRefundOrderUnpaid 2531 "MERCHANT_PRIVATE_POST_ORDERS_ID_REFUND_ORDER_UNPAID" 409
        "The order is not paid, so that there is nothing to refund.";
    MerchantPrivatePostOrdersIdRefundNotAllowedByContract
        2532 "MERCHANT_PRIVATE_POST_ORDERS_ID_REFUND_NOT_ALLOWED_BY_CONTRACT" 403
        "The contract does not allow refunds.";
    MerchantPrivatePostInstancesAlreadyExists 2600 "MERCHANT_PRIVATE_POST_INSTANCES_ALREADY_EXISTS" 409
        "There is an instance of this id with other data.";
    MerchantPrivatePostInstancesBadAuth 2601 "MERCHANT_PRIVATE_POST_INSTANCES_BAD_AUTH" 400
        "The authentication of the new instance is malformed.";
    MerchantPrivatePostInstanceAuthBadAuth 2602 "MERCHANT_PRIVATE_POST_INSTANCE_AUTH_BAD_AUTH" 400
        "The instance's new authentication is malformed.";
    MerchantPrivatePostWebhooksConflictWebhookExists
        2900 "MERCHANT_PRIVATE_POST_WEBHOOKS_CONFLICT_WEBHOOK_EXISTS" 409
        "Another webhook has this id.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_order_and_speaks_in_sentences() {
        let codes: Vec<u32> = ErrorCode::ALL.iter().map(|code| code.code()).collect();
        let expected = [
            16, 20, 21, 22, 24, 26, 28, 31, 32, 40, 41, 42, 44, 52, 53, 56, 60, 76, 77, 1005, 1500, 1501,
            1502, 1503, 1506, 1510, 2000, 2005, 2009, 2010, 2011, 2012, 2013, 2014, 2019, 2022, 2024, 2025,
            2042, 2105, 2106, 2150, 2151, 2154, 2155, 2156, 2157, 2160, 2161, 2165, 2167, 2169, 2170, 2186,
            2190, 2200, 2201, 2253, 2254, 2255, 2256, 2300, 2301, 2500, 2502, 2503, 2504, 2505, 2506, 2507,
            2508, 2509, 2510, 2511, 2520, 2521, 2530, 2531, 2532, 2600, 2601, 2602, 2900,
        ];
        assert_eq!(codes, expected);
        for code in ErrorCode::ALL {
            // The variant is the registry's name in another case.
            assert_eq!(
                format!("{code:?}").to_ascii_lowercase(),
                code.name().replace('_', "").to_ascii_lowercase()
            );
            assert!(code.hint().ends_with('.') && code.hint().starts_with(|c: char| c.is_ascii_uppercase()));
            assert!((400..600).contains(&code.http_status()), "{code:?}");
        }
    }

    #[test]
    fn statuses_that_are_easily_mistaken() {
        assert_eq!(ErrorCode::ExchangeRefundInconsistentAmount.http_status(), 424);
        assert_eq!(
            ErrorCode::MerchantPostOrdersIdAbortRefundRefusedPaymentComplete.http_status(),
            412
        );
        assert_eq!(
            ErrorCode::MerchantGenericExchangeConnectFailure.http_status(),
            500
        );
        assert_eq!(
            ErrorCode::MerchantPrivatePostRefundAfterWireDeadline.http_status(),
            410
        );
    }
}
