//! The rule of webhooks: what a shop's server was told of, the ledger tells of, too. What it was told stands nowhere, so
//! nothing is said of that.

use quittance_events::facts::{WebhookDelivered, WebhookGivenUp};
use quittance_events::{Facts, Seq, WebhookId};

use crate::case::Case;
use crate::fold::OrderFold;
use crate::rules;

/// Keeps what webhooks may tell of.
pub(crate) fn note_cause(order: &mut OrderFold, facts: &Facts, seq: u64) {
    if matches!(facts, Facts::PaymentCompleted(_) | Facts::RefundApproved(_)) {
        order.webhook_causes.insert(seq);
    }
}

/// The shop's server said that it knows.
pub(crate) fn delivered(order: &mut OrderFold, f: &WebhookDelivered, case: &mut Case) {
    if !(200..300).contains(&f.http_status) {
        let text = format!("webhook {} was told, and answered {}", f.webhook, f.http_status);
        let draft = case.draft(&rules::WEBHOOK_TOLD, text);
        case.find(draft, &[], &[]);
    }
    ended(order, &f.webhook, f.of, case);
}

/// It is told no more.
pub(crate) fn given_up(order: &mut OrderFold, f: &WebhookGivenUp, case: &mut Case) {
    ended(order, &f.webhook, f.of, case);
}

fn ended(order: &mut OrderFold, webhook: &WebhookId, of: Seq, case: &mut Case) {
    let wrong = if !order.webhook_causes.contains(&of.get()) {
        Some(format!("event {of} is no payment and no approval of this order"))
    } else if !order.webhooks_told.insert((webhook.clone(), of.get())) {
        Some(format!("webhook {webhook} was done with event {of} already"))
    } else {
        None
    };
    if let Some(text) = wrong {
        let draft = case.draft(&rules::WEBHOOK_TOLD, text);
        case.find(draft, &[], &[]);
    }
}
