//! The rules that a ledger is held against, as one table: id, grade, sentence, and how the money at stake is
//! reckoned. Ids are stable: reports of different years can be compared. `docs/auditing.md` lists exactly these.

use serde::Serialize;

/// How grave a broken rule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// Money, or the record itself, is not what it is said to be.
    Major,
    /// The record is untidy; no money follows from it.
    Minor,
}

impl Grade {
    /// As in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Grade::Major => "major",
            Grade::Minor => "minor",
        }
    }
}

/// One rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Stable name.
    pub id: &'static str,
    /// How grave it is to break it.
    pub grade: Grade,
    /// What holds in a sound ledger.
    pub sentence: &'static str,
    /// How the money at stake is reckoned.
    pub money: &'static str,
}

macro_rules! rules {
    ($( $name:ident $id:literal $grade:ident $sentence:literal $money:literal; )*) => {
        $(
            #[doc = concat!("`", $id, "`")]
            pub static $name: Rule = Rule { id: $id, grade: Grade::$grade, sentence: $sentence, money: $money };
        )*

        /// All of them, in the order in which the auditor's guide explains them.
        pub static RULES: &[&Rule] = &[$( &$name ),*];
    };
}

rules! {
    LOG_FILE "log.file" Major
        "The file passes SQLite's own check and holds the tables, triggers and indexes of this layout and nothing else."
        "none: what is unreadable names no amount";
    LOG_GENESIS "log.genesis" Major
        "The ledger begins with its one `ledger_opened`, and every event bears the name that it gives."
        "the amounts that the event names";
    LOG_KEY "log.key" Major
        "The first event, or a rotation after it, names the event key that the auditor was given beforehand."
        "none: the whole ledger is another's";
    LOG_GAPLESS "log.gapless" Major
        "Events are numbered 1, 2, 3 and so on without a gap, and each bears the number under which it is stored."
        "none: what is missing names no amount";
    LOG_CHAIN "log.chain" Major
        "Each event holds the digest of the event before it."
        "the amounts that the event names";
    LOG_SIGNATURE "log.signature" Major
        "The event key in force signed each event: that of the first event, and from a rotation on the new one."
        "the amounts that the event names";
    LOG_CANONICAL "log.canonical" Major
        "Each event is an object of the event format in its one canonical form, and names an order exactly where its kind has one."
        "the amounts that the event names, where it can be read";
    LOG_VERSION "log.version" Major
        "Events are of format version 1 up to the one `format_raised` that names version 2, of version 2 after it up to the one that names 3, of version 3 after that up to the one that names 4, and of version 4 after that."
        "the amounts that the event names";
    LOG_ROTATION "log.rotation" Major
        "A new key of the ledger was never in force before, is authorised by the event key in force or by the recovery key of the first event, and signed for itself."
        "none: a key names no amount";
    LOG_PARTS "log.parts" Major
        "An event lists at most 200 rows; the parts of a longer decision follow each other and differ in their lists alone."
        "the amounts that the event names";
    LOG_TIME "log.time" Major
        "No event lies more than 60 seconds before the latest time so far, and none before the event before it of the same order; a recorded clock correction starts both comparisons anew."
        "the amounts that the event names";
    LOG_ATTACHMENTS "log.attachments" Major
        "The bytes stored behind an event are those whose salted digests it names, and are those that its kind has, none longer than the format lets it be; they are gone only where a later `attachment_erased` says so."
        "the amounts that the event names";
    LOG_ERASED "log.erased" Major
        "What an `attachment_erased` names is an attachment of an earlier event of the same order, is named once, and has neither salt nor bytes any more."
        "the amounts that the event names whose attachment it is";
    LOG_TREE "log.tree" Major
        "Each checkpoint is signed by the checkpoint key in force at its size and gives the root of the tree over the events up to it."
        "none: which event differs is not told by a root";
    LOG_ANCHOR "log.anchor" Major
        "The ledger holds all events that its anchor speaks of, with the same root."
        "none: what is missing names no amount";
    LOG_SINCE "log.since" Major
        "The ledger extends the checkpoint of the auditor's earlier audit: its first events are those of then."
        "all that the ledger tells: the sum of all deposits that it records";
    LOG_RECEIPT "log.receipt" Major
        "Each receipt that the auditor was given is of an answer that the ledger has, with the same event and body."
        "what the body given with the receipt tells of; without one, the amounts that the event in its place names";
    LOG_COSIGNATURE "log.cosignature" Major
        "Each stored cosignature is its witness's word on the checkpoint of that size."
        "none: a witness names no amount";
    LOG_INDEX "log.index" Minor
        "Head, order index and open permissions are what the events come to."
        "none: no answer is judged by an index";
    LOG_TILES "log.tiles" Minor
        "Stored are the full hash tiles of the tree over the events, and no others."
        "none: a proof made from another tile proves nothing";

    TOKEN_KNOWN "token.known" Minor
        "From the first token that the ledger records of an instance on, `by` names a recorded token that was taken then, give or take two minutes, and may do that; what is revoked was taken; and of orders that were sold here no payment and no `abort_extended` names one."
        "the amounts that the event names";
    TOKEN_GRANT "token.grant" Minor
        "A token gives another no scope that it does not have, and no longer life unless it is refreshable."
        "none: a token names no amount";

    ACCOUNT_KNOWN "account.known" Major
        "An account's `h_wire` is the hash of its payto URI and salt; one is added that is not open, and closed that is."
        "none: orders that name it are found themselves";

    TAKEOVER_PREDECESSOR "takeover.predecessor" Major
        "The predecessor that the first event names is the ledger that was given: its name, its number of events, its root."
        "none: the ledgers have nothing in common that names an amount";
    TAKEOVER_GENERATION "takeover.generation" Major
        "The generation is the predecessor's or the next, and the next where events of the predecessor were not taken over."
        "none: an id used twice is found with its refund";
    TAKEOVER_ORDERS "takeover.orders" Major
        "Every order that was in flight is carried in, and none that the predecessor does not have."
        "of a missing order what was sent and no exchange had decided; of a foreign one all that its refunds and aborts name";
    TAKEOVER_CONTRACT "takeover.contract" Major
        "Contract, deposits, aborts and payment of an order stand as they stand in the predecessor."
        "the amounts that the first differing event names";
    TAKEOVER_REFUNDS "takeover.refunds" Major
        "An order's refunds are carried in as they stand in the predecessor: coin, id, amount, second, signature, in order."
        "the amounts of the refunds that are missing, foreign or changed; of an amount that differs the difference";

    ORDER_BEGIN "order.begin" Major
        "An order is recorded once, and nothing happens to it before; one that is sold here is offered once before that, and until a wallet claims it can only be taken back."
        "the amounts that the event names";
    ORDER_TERMS "order.terms" Major
        "The contract terms hash to `h_contract` and agree with the facts recorded of them and of their offer, and so do those of an offer, which have a `max_fee` and no nonce; a value beside its digest is that digest's."
        "the order's amount";
    ORDER_INSTANCE "order.instance" Major
        "An order bears the merchant key under which its instance was opened last; an instance is opened that is not open, under a key that no other open one has, and closed that is."
        "the order's amount";
    ORDER_ACCOUNT "order.account" Major
        "An offer names an account that its instance had open then, or had closed less than two minutes before."
        "the order's amount";
    ORDER_CLAIMED "order.claimed" Major
        "The contract of an offer has its terms and facts and a nonce, and right behind it stands the claim of that nonce, with the merchant's signature over the contract."
        "the order's amount";
    ORDER_DELETED "order.deleted" Major
        "An order is taken back only while nothing is paid, deposited or aborted and no exchange may have taken coins for it; nothing happens to it afterwards."
        "the payment, what was deposited or what may have been; of what happens afterwards the amounts that it names";
    ORDER_FORGOTTEN "order.forgotten" Major
        "What is left of forgotten terms hashes to the same `h_contract`, agrees with the facts and has the claim's nonce, and the terms before are erased in the same commit."
        "the order's amount";
    ORDER_SESSION "order.session" Minor
        "That a wallet showed an order to be paid is recorded of paid orders alone."
        "none: showing moves no money";
    ORDER_DEPOSIT "order.deposit" Major
        "Each coin is deposited once, in the order's currency, at an exchange that the terms name."
        "the deposit's amount with fee";
    ORDER_PAID "order.paid" Major
        "A payment completes once; it counts exactly the deposits that no unrefused abort names, sums to them, and covers the order's amount."
        "the difference between recorded and recomputed payment; where they are equal, what is lacking of the order's amount";
    ORDER_FEES "order.fees" Major
        "The payment of an order that was sold here covers the deposit fees beyond what the terms say that the merchant bears."
        "what is lacking";

    DEPOSIT_REQUESTED "deposit.requested" Major
        "Deposits are asked for only of unpaid orders up to their pay deadline, at an exchange as the terms name it, for coins as the wallet's request has them and at the exchange that it names for each, never for two amounts of one coin nor for a coin under an unrefused abort."
        "the amounts of the coins at fault";
    DEPOSIT_SIGNATURE "deposit.signature" Major
        "Each coin signed its deposit, in the form that is recorded."
        "the amounts of the coins at fault";
    DEPOSIT_ASKED "deposit.asked" Major
        "What an exchange says of deposits answers a batch that was asked for before and that it has not decided."
        "the sum of the batch, where there is one";
    DEPOSIT_VERDICT "deposit.verdict" Major
        "The verdict on a reply to a batch of deposits, and its error code, follow from the reply."
        "the sum of the batch";
    DEPOSIT_CONFIRMED "deposit.confirmed" Major
        "A batch that is recorded as confirmed is signed by a key that was valid then and that the master key signed of an exchange which the terms name, and exactly its coins are recorded as deposited in the same commit, as asked and confirmed; of orders that were sold here no other deposit is."
        "the amounts of the coins at fault";

    APPROVAL_CARRIED_IN "approval.carried_in" Major
        "Refunds made elsewhere are taken over before the order's first approval, of no order that was sold here, under ids of their own from 1, on deposited coins, and within what was paid and deposited."
        "the sum of the rows at fault; of a sum too large, the excess";
    APPROVAL_ALLOWED "approval.allowed" Major
        "Refunds are approved for paid orders alone whose contract allows refunds."
        "the sum of the approval's rows";
    APPROVAL_TOTAL "approval.total" Major
        "Each approval's total is above all approved before and at most what was paid."
        "what the total exceeds the payment by, or falls back by";
    APPROVAL_ROWS "approval.rows" Major
        "An approval's rows are above zero, sum to the growth of the total, and touch only coins that the payment counts."
        "the difference between the rows' sum and the growth, and the rows on coins not counted";
    APPROVAL_COIN "approval.coin" Major
        "No coin is refunded more than was deposited with it."
        "the excess over the deposit";
    APPROVAL_IDS "approval.ids" Major
        "The ids of a coin's refunds run 1, 2, 3 and so on, after those taken over; in a ledger after a loss from 2^20 times its generation."
        "the amounts of the rows at fault";
    APPROVAL_SIGNATURE "approval.signature" Major
        "The merchant signed each refund of an approval or takeover: contract, coin, id and amount."
        "the amounts of the rows at fault";
    APPROVAL_EXECUTION "approval.execution" Major
        "An approval's `execution_s` is the second of its decision, or one more than the latest refund's of the order where that is later."
        "the sum of the approval's rows";
    APPROVAL_DEADLINE "approval.deadline" Major
        "Nothing is approved, and no approved refund requested for the first time, at or past the wire deadline."
        "the sum of the rows";
    APPROVAL_REQUESTED "approval.requested" Major
        "A refund is requested once, and only after it was approved."
        "the amounts of the rows at fault, where they are known";

    ABORT_REQUESTED "abort.requested" Major
        "An abort is accepted only while the order is unpaid."
        "the sum that the abort gives back";
    ABORT_COINS "abort.coins" Major
        "An accepted abort holds the coins that the wallet's request names, in its order and each once, for this contract."
        "the recorded deposits of the coins that differ";
    ABORT_STATE "abort.state" Major
        "A coin that an abort names is deposited, undeposited, known, or asked for in a batch that is in question, as the ledger has it at that moment, and one at least is new."
        "the recorded deposits of the coins at fault";
    ABORT_AMOUNT "abort.amount" Major
        "An abort gives back the full recorded amount of each deposited coin, and of one in question the amount asked for."
        "the difference to the recorded deposit";
    ABORT_SIGNATURE "abort.signature" Major
        "The merchant signed each refund of an abort, under id 0."
        "the amounts of the coins at fault";
    ABORT_EXTENDED "abort.extended" Major
        "An abort is extended only to a deposit of the same commit whose coin an abort had named or which came after the payment, or, of an order that was sold here, to what the payment of the same commit does not count, deposited or asked for; and to every coin then in question that no abort names."
        "the amounts of the coins at fault";
    ABORT_LATE_DEPOSIT "abort.late_deposit" Major
        "A deposit that comes after its coin's abort, or after the payment, is given back: the extension stands in the same commit, unless the abort had asked for it."
        "the deposit's amount with fee";
    ABORT_PAYMENT "abort.payment" Major
        "No payment counts a coin under an abort that the exchange has not refused."
        "the recorded deposit";
    ABORT_REFUSAL "abort.refusal" Minor
        "An abort is refused with 412 and 2254, only once the order is paid and some coin is under no abort; once for a coin set, at most 100 times for an order."
        "none: a refusal moves no money";

    EXCHANGE_KEYS "exchange.keys" Major
        "Each signing key of an exchange is signed by its master key and stands in the reply that told of it."
        "none: what rests on the key is found with the reply";
    EXCHANGE_REQUESTED "exchange.requested" Major
        "What an exchange says answers a permission that was requested before."
        "the permission's amount, where there is one";
    EXCHANGE_ATTEMPT "exchange.attempt" Minor
        "The attempts at a permission, and at a batch of deposits, are numbered upwards from 1."
        "the permission's amount, or the sum of the batch";
    EXCHANGE_CONFIRMED "exchange.confirmed" Major
        "What is recorded as confirmed is signed by a key that was valid then and that the master key signed of an exchange which the terms name."
        "the permission's amount";
    EXCHANGE_VERDICT "exchange.verdict" Major
        "The verdict on a reply, and its error code, follow from the reply."
        "the permission's amount";
    EXCHANGE_PINNED "exchange.pinned" Major
        "Every exchange whose confirmation counts is one of those that the auditor was given, if any were."
        "the permission's amount, or the sum of the batch";

    ANSWER_AS_OF "answer.as_of" Major
        "An answer rests on the latest state of its order."
        "the sum that it tells of";
    ANSWER_HTTP_STATUS "answer.http_status" Major
        "An answer's status follows from the order's events: a refund's is 200 or 410, an abort's 200 with a decided coin at least."
        "the sum that it tells of, or else all approved for the order";
    ANSWER_REFUND_AMOUNT "answer.refund_amount" Major
        "`refund_amount` is the sum of all approved refunds and those taken over; refunds of aborts count in none."
        "the difference";
    ANSWER_ROWS "answer.rows" Major
        "A refund's answer tells of all refunds of the order, each once, those taken over first, then in order of approval."
        "the amounts of the refunds that are left out or foreign";
    ANSWER_EXECUTION_TIME "answer.execution_time" Major
        "Each `execution_time` is that of the refund's approval."
        "the amounts of the rows at fault";
    ANSWER_EXCHANGE_STATUS "answer.exchange_status" Major
        "Each entry's type and status are what the recorded replies come to; nothing is a success without a confirmation."
        "the amounts of the entries at fault";
    ANSWER_COINS "answer.coins" Major
        "An abort's answer tells of coins under an abort, each once."
        "the recorded deposits of the coins at fault";
    ANSWER_BODY "answer.body" Major
        "The body rebuilt from the events has the recorded digest."
        "the sum that it tells of";
    ANSWER_ONCE "answer.once" Minor
        "An answer is recorded once for a state of its order."
        "none: the body was right at its time";
    ANSWER_DELIVERED "answer.delivered" Minor
        "A delivery tells of a refund's answer of the same order, once."
        "none: a delivery moves no money";

    WEBHOOK_TOLD "webhook.told" Minor
        "A webhook is done with a payment or an approval of the same order once: delivered with a 2xx, or given up."
        "none: a webhook moves no money";
}
