//! Any event of any kind: facts that the format can hold, whether they make sense or not.

use std::fmt::Debug;

use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use quittance_events::event::FORMAT_VERSION;
use quittance_events::facts::*;
use quittance_events::ids::GENERATION_MAX;
use quittance_events::{
    AttachmentName, Event, Facts, InstanceId, OrderId, RefundId, Seq, TokenId, WebhookId,
};
use quittance_taler::{
    Amount, ClaimNonce, CoinPub, Currency, Digest32, EddsaSignature, ExchangePub, HashCode, MasterPub,
    MerchantPub, Micros, Timestamp,
};

const SAFE: u64 = (1 << 53) - 1;

macro_rules! bytes {
    ($($name:ident $type:ident $len:literal),*) => {
        $( fn $name() -> impl Strategy<Value = $type> { any::<[u8; $len]>().prop_map($type::from_bytes) } )*
    };
}

bytes!(digest Digest32 32, coin CoinPub 32, merchant MerchantPub 32, master MasterPub 32, exchange ExchangePub 32);

fn sig() -> impl Strategy<Value = EddsaSignature> {
    vec(any::<u8>(), 64).prop_map(|bytes| EddsaSignature::from_bytes(bytes.try_into().unwrap()))
}

fn hash() -> impl Strategy<Value = HashCode> {
    vec(any::<u8>(), 64).prop_map(|bytes| HashCode::from_bytes(bytes.try_into().unwrap()))
}

fn parsed<T: std::str::FromStr + Debug>(pattern: &'static str) -> impl Strategy<Value = T>
where
    T::Err: Debug,
{
    proptest::string::string_regex(pattern)
        .unwrap()
        .prop_map(|text| text.parse().unwrap())
}

fn currency() -> impl Strategy<Value = Currency> {
    parsed("[A-Z]{3,11}")
}

fn amount() -> impl Strategy<Value = Amount> {
    (currency(), 0..=Amount::MAX_VALUE, 0..100_000_000_u32)
        .prop_map(|(currency, value, fraction)| Amount::new(currency, value, fraction).unwrap())
}

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        1 => Just(Timestamp::NEVER),
        9 => (0..=SAFE / 1_000_000).prop_map(|s| Timestamp::from_s(s).unwrap()),
    ]
}

fn micros() -> impl Strategy<Value = Micros> {
    (0..=SAFE).prop_map(|us| Micros::new(us).unwrap())
}

fn seq() -> impl Strategy<Value = Seq> {
    (0..=SAFE).prop_map(|n| Seq::new(n).unwrap())
}

fn refund() -> impl Strategy<Value = RefundId> {
    (0..=SAFE).prop_map(|n| RefundId::new(n).unwrap())
}

fn number() -> impl Strategy<Value = u64> {
    0..=SAFE
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Confirmed),
        Just(Verdict::Refused),
        Just(Verdict::Later),
        Just(Verdict::Unproven),
        Just(Verdict::Malformed)
    ]
}

fn failure() -> impl Strategy<Value = Failure> {
    prop_oneof![
        Just(Failure::Connect),
        Just(Failure::Closed),
        Just(Failure::Timeout)
    ]
}

fn part() -> impl Strategy<Value = Option<Part>> {
    of((any::<u32>(), any::<u32>()).prop_map(|(i, n)| Part(i, n)))
}

fn by() -> impl Strategy<Value = TokenId> {
    parsed("[A-Za-z0-9_-]{1,32}")
}

/// Addresses are taken as they were told, so any text may stand there: quotes, control characters, other planes.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        any::<String>(),
        Just("\u{7f}\u{e000}\u{1f980}\u{0}\"\\/\u{2028}".into())
    ]
}

macro_rules! facts {
    ($name:ident { $($field:ident: $strategy:expr),* $(,)? }) => {
        ($( $strategy, )*).prop_map(|($($field,)*)| $name { $($field),* })
    };
}

fn signkey() -> impl Strategy<Value = SignKey> {
    facts!(SignKey {
        key: exchange(),
        start_s: time(),
        expire_s: time(),
        end_s: time(),
        master_sig: sig()
    })
}

fn order_recorded() -> impl Strategy<Value = OrderRecorded> {
    let named = facts!(NamedExchange {
        url: text(),
        master_pub: master()
    });
    facts!(OrderRecorded {
        h_contract: hash(),
        amount: amount(),
        timestamp_s: time(),
        refund_deadline_s: time(),
        wire_deadline_s: time(),
        merchant_pub: merchant(),
        exchanges: vec(named, 0..3),
        choice_index: of(number()),
        by: of(by()),
    })
}

fn deposit_recorded() -> impl Strategy<Value = DepositRecorded> {
    let told = (coin(), master(), text(), amount(), amount(), amount());
    let optional = (
        of(hash()),
        of(sig()),
        of(exchange()),
        of(sig()),
        of(time()),
        of(by()),
    );
    (told, optional).prop_map(|(told, optional)| DepositRecorded {
        coin_pub: told.0,
        exchange_master_pub: told.1,
        exchange_url: told.2,
        amount_with_fee: told.3,
        deposit_fee: told.4,
        refund_fee: told.5,
        h_denom: optional.0,
        coin_sig: optional.1,
        exchange_pub: optional.2,
        exchange_sig: optional.3,
        exchange_timestamp_s: optional.4,
        by: optional.5,
    })
}

#[path = "selling.rs"]
mod selling;

/// Facts of the kind with this name.
#[expect(clippy::too_many_lines, reason = "one arm a kind, read as a table")]
pub(crate) fn facts(kind: &str) -> BoxedStrategy<Facts> {
    use AbortCoinState as State;
    match kind {
        "ledger_opened" => {
            let predecessor = facts!(Predecessor {
                origin: text(),
                size: number(),
                root: digest(),
                generation: of(1..=GENERATION_MAX)
            });
            facts!(LedgerOpened {
                origin: text(),
                event_key: digest(),
                checkpoint_key: digest(),
                recovery_key: of(digest()),
                predecessor: of(predecessor),
            })
            .prop_map(Facts::from)
            .boxed()
        }
        "instance_added" => facts!(InstanceAdded {
            merchant_pub: merchant(),
            base_url: text(),
            currency: currency(),
            by: of(by())
        })
        .prop_map(Facts::from)
        .boxed(),
        "instance_closed" => facts!(InstanceClosed {
            merchant_pub: merchant(),
            base_url: text(),
            currency: currency(),
            by: of(by())
        })
        .prop_map(Facts::from)
        .boxed(),
        "exchange_keys_seen" => facts!(ExchangeKeysSeen {
            master_pub: master(),
            url: text(),
            signkeys: vec(signkey(), 0..3)
        })
        .prop_map(Facts::from)
        .boxed(),
        "order_recorded" => order_recorded().prop_map(Facts::from).boxed(),
        "deposit_recorded" => deposit_recorded().prop_map(Facts::from).boxed(),
        "payment_completed" => facts!(PaymentCompleted {
            paid: amount(),
            coins: vec(coin(), 0..3),
            part: part(),
            by: of(by())
        })
        .prop_map(Facts::from)
        .boxed(),
        "refund_carried_in" => {
            let row = facts!(CarriedInRow {
                coin_pub: coin(),
                rtransaction_id: refund(),
                amount: amount(),
                execution_s: time(),
                merchant_sig: sig(),
            });
            facts!(RefundCarriedIn {
                rows: vec(row, 0..3),
                part: part(),
                by: by()
            })
            .prop_map(Facts::from)
            .boxed()
        }
        "refund_approved" => {
            let row = facts!(ApprovedRow {
                coin_pub: coin(),
                rtransaction_id: refund(),
                amount: amount(),
                merchant_sig: sig(),
            });
            facts!(RefundApproved {
                total: amount(),
                execution_s: time(),
                rows: vec(row, 0..3),
                part: part(),
                by: by()
            })
            .prop_map(Facts::from)
            .boxed()
        }
        "refund_requested" => {
            let row = facts!(PermissionName {
                coin_pub: coin(),
                rtransaction_id: refund()
            });
            facts!(RefundRequested {
                rows: vec(row, 0..3),
                part: part()
            })
            .prop_map(Facts::from)
            .boxed()
        }
        "abort_requested" => {
            let state = prop_oneof![
                Just(State::Deposited),
                Just(State::Undeposited),
                Just(State::Asked),
                Just(State::Known)
            ];
            let one = facts!(AbortCoin {
                coin_pub: coin(),
                state: state,
                amount: of(amount()),
                merchant_sig: of(sig()),
            });
            facts!(AbortRequested {
                coins: vec(one, 0..3),
                part: part()
            })
            .prop_map(Facts::from)
            .boxed()
        }
        "abort_extended" => {
            let one = facts!(ExtendedCoin {
                coin_pub: coin(),
                amount: amount(),
                merchant_sig: sig()
            });
            facts!(AbortExtended {
                coins: vec(one, 0..3),
                part: part(),
                by: of(by())
            })
            .prop_map(Facts::from)
            .boxed()
        }
        "abort_refused" => facts!(AbortRefused {
            http_status: any::<u16>(),
            error_code: any::<u32>(),
            coins: vec(coin(), 0..3),
            part: part(),
        })
        .prop_map(Facts::from)
        .boxed(),
        "exchange_replied" => facts!(ExchangeReplied {
            coin_pub: coin(),
            rtransaction_id: refund(),
            attempt: number(),
            http_status: any::<u16>(),
            error_code: of(number()),
            exchange_pub: of(exchange()),
            exchange_sig: of(sig()),
            verdict: verdict(),
        })
        .prop_map(Facts::from)
        .boxed(),
        "exchange_unreached" => facts!(ExchangeUnreached {
            coin_pub: coin(),
            rtransaction_id: refund(),
            attempt: number(),
            failure: failure(),
        })
        .prop_map(Facts::from)
        .boxed(),
        "refund_answered" => {
            let row = facts!(AnsweredRow {
                coin_pub: coin(),
                rtransaction_id: refund(),
                execution_s: time(),
                exchange_status: any::<u16>(),
            });
            facts!(RefundAnswered {
                as_of: seq(),
                http_status: any::<u16>(),
                body: digest(),
                refund_amount: of(amount()),
                rows: of(vec(row, 0..3)),
                part: part(),
            })
            .prop_map(Facts::from)
            .boxed()
        }
        "abort_answered" => {
            let kind = prop_oneof![
                Just(EntryType::Success),
                Just(EntryType::Failure),
                Just(EntryType::Undeposited)
            ];
            let one = facts!(AnsweredCoin {
                coin_pub: coin(),
                kind: kind,
                exchange_status: of(any::<u16>())
            });
            facts!(AbortAnswered {
                as_of: seq(),
                http_status: any::<u16>(),
                mode: prop_oneof![Just(Undeposited::Typed), Just(Undeposited::Failure)],
                body: digest(),
                coins: vec(one, 0..3),
                part: part(),
            })
            .prop_map(Facts::from)
            .boxed()
        }
        "refund_delivered" => seq().prop_map(|answer| RefundDelivered { answer }.into()).boxed(),
        "clock_corrected" => facts!(ClockCorrected {
            from_us: micros(),
            to_us: micros()
        })
        .prop_map(Facts::from)
        .boxed(),
        "format_raised" => number()
            .prop_map(|version| FormatRaised { version }.into())
            .boxed(),
        "attachment_erased" => facts!(AttachmentErased {
            seq: seq(),
            name: proptest::sample::select(AttachmentName::ALL.to_vec())
        })
        .prop_map(Facts::from)
        .boxed(),
        "ledger_key_rotated" => facts!(LedgerKeyRotated {
            role: prop_oneof![Just(KeyRole::Event), Just(KeyRole::Checkpoint)],
            new_key: digest(),
            authorised_by: prop_oneof![Just(Authority::EventKey), Just(Authority::RecoveryKey)],
            authorisation: sig(),
            possession: sig(),
        })
        .prop_map(Facts::from)
        .boxed(),
        "token_added" => facts!(TokenAdded {
            token: by(),
            scope: proptest::sample::select(TokenScope::EVERY.to_vec()),
            expire_s: time(),
            refreshable: any::<bool>(),
            by: of(by()),
        })
        .prop_map(Facts::from)
        .boxed(),
        "token_revoked" => facts!(TokenRevoked {
            token: by(),
            by: of(by()),
        })
        .prop_map(Facts::from)
        .boxed(),
        "webhook_delivered" => facts!(WebhookDelivered {
            webhook: parsed::<WebhookId>("[A-Za-z0-9._:-]{1,64}"),
            of: seq(),
            attempt: number(),
            http_status: any::<u16>(),
        })
        .prop_map(Facts::from)
        .boxed(),
        "webhook_given_up" => facts!(WebhookGivenUp {
            webhook: parsed::<WebhookId>("[A-Za-z0-9._:-]{1,64}"),
            of: seq(),
            attempt: number(),
        })
        .prop_map(Facts::from)
        .boxed(),
        other => {
            selling::facts(other).unwrap_or_else(|| panic!("no strategy for {other}: a new kind needs one"))
        }
    }
}

/// An event of the kind with this name.
pub(crate) fn event(kind: &str) -> impl Strategy<Value = Event> + use<> {
    let attachments = btree_map(
        proptest::sample::select(AttachmentName::ALL.to_vec()),
        digest(),
        0..3,
    );
    let instance = of(parsed::<InstanceId>("[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}"));
    let order = of(parsed::<OrderId>("[A-Za-z0-9._:-]{1,64}"));
    (
        micros(),
        attachments,
        facts(kind),
        instance,
        text(),
        order,
        digest(),
        seq(),
        Facts::first_version(kind)..=FORMAT_VERSION,
    )
        .prop_map(
            |(at_us, attachments, facts, instance, ledger, order, prev, seq, version)| Event {
                at_us,
                attachments,
                instance,
                ledger: ledger.into(),
                order,
                prev,
                seq,
                version: version.max(facts.needed_version()),
                facts,
            },
        )
}

/// An event of any kind.
pub(crate) fn any_event() -> impl Strategy<Value = Event> {
    proptest::sample::select(Facts::KINDS.to_vec()).prop_flat_map(event)
}
