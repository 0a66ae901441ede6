//! Whose tokens stand behind events: from the first token that the ledger records of an instance on, each `by` must
//! name one that was taken then and may do what it did. Reckoned from the events alone; it shares nothing with how the
//! service lets anybody in.

use std::collections::BTreeMap;

use quittance_events::facts::{TokenAdded, TokenRevoked, TokenScope};
use quittance_events::{Event, Facts, InstanceId, TokenId};
use quittance_taler::Micros;

use crate::rules::{self, Rule};

/// A request may be under way while its token ends, or the account that it names, in seconds: it is recorded once its
/// body has come and the ledger has room, and on an order's own time where that is ahead.
pub(crate) const UNDER_WAY_S: u64 = 120;

/// A recorded token.
struct Held {
    facts: TokenAdded,
    revoked: Option<Micros>,
}

/// All recorded tokens, by whom they are for: none for those that are for every instance.
#[derive(Default)]
pub(crate) struct Tokens(BTreeMap<Option<InstanceId>, BTreeMap<TokenId, Held>>);

/// Who tells of orders, and who grants refunds, may sell.
const SELLING: &[TokenScope] = &[TokenScope::Orders, TokenScope::Refunds];

/// What an event needs of the token behind it: one of these scopes, or any.
fn behind(facts: &Facts) -> Option<(&TokenId, Option<&'static [TokenScope]>)> {
    let (by, scopes): (_, Option<&[_]>) = match facts {
        Facts::OrderRecorded(f) => (f.by.as_ref(), Some(&[TokenScope::Orders])),
        Facts::DepositRecorded(f) => (f.by.as_ref(), Some(&[TokenScope::Orders])),
        Facts::PaymentCompleted(f) => (f.by.as_ref(), Some(&[TokenScope::Orders])),
        Facts::AbortExtended(f) => (f.by.as_ref(), Some(&[TokenScope::Orders])),
        Facts::OrderCreated(f) => (Some(&f.by), Some(SELLING)),
        Facts::OrderDeleted(f) => (Some(&f.by), Some(SELLING)),
        Facts::TermsForgotten(f) => (Some(&f.by), Some(SELLING)),
        Facts::InstanceAdded(f) => (f.by.as_ref(), Some(&[TokenScope::All])),
        Facts::InstanceClosed(f) => (f.by.as_ref(), Some(&[TokenScope::All])),
        Facts::AccountAdded(f) => (f.by.as_ref(), Some(&[TokenScope::All])),
        Facts::AccountClosed(f) => (f.by.as_ref(), Some(&[TokenScope::All])),
        Facts::RefundCarriedIn(f) => (Some(&f.by), Some(&[TokenScope::Orders])),
        Facts::RefundApproved(f) => (Some(&f.by), Some(&[TokenScope::Refunds])),
        // What a token gives is a rule of its own; any may revoke itself.
        Facts::TokenAdded(f) => (f.by.as_ref(), None),
        Facts::TokenRevoked(f) if f.by.as_ref() == Some(&f.token) => (f.by.as_ref(), None),
        Facts::TokenRevoked(f) => (f.by.as_ref(), Some(&[TokenScope::All])),
        _ => (None, None),
    };
    Some((by?, scopes))
}

impl Tokens {
    /// What is wrong with the token behind an event, and takes up what the event says of tokens.
    pub(crate) fn take(&mut self, event: &Event) -> Option<(&'static Rule, String)> {
        let wrong = self.wrong(event);
        let mine = || event.instance.clone();
        match &event.facts {
            Facts::TokenAdded(facts) => {
                let held = Held {
                    facts: facts.clone(),
                    revoked: None,
                };
                self.0
                    .entry(mine())
                    .or_default()
                    .insert(facts.token.clone(), held);
            }
            Facts::TokenRevoked(TokenRevoked { token, .. }) => {
                let held = self.0.get_mut(&mine()).and_then(|held| held.get_mut(token));
                if let Some(held) = held {
                    held.revoked = Some(event.at_us);
                }
            }
            _ => {}
        }
        wrong
    }

    fn wrong(&self, event: &Event) -> Option<(&'static Rule, String)> {
        let known = |what: String| Some((&rules::TOKEN_KNOWN, what));
        if let Facts::TokenRevoked(TokenRevoked { token, .. }) = &event.facts {
            let own = self.0.get(&event.instance).and_then(|held| held.get(token));
            if own.is_none_or(|held| held.revoked.is_some()) {
                return known(format!("it revokes {token}, which was not taken"));
            }
        }
        let (by, scopes) = behind(&event.facts)?;
        // What the operator's own command told of orders has no token behind it. It tells of nothing else.
        let is_told = matches!(
            event.facts,
            Facts::OrderRecorded(_)
                | Facts::DepositRecorded(_)
                | Facts::PaymentCompleted(_)
                | Facts::AbortExtended(_)
                | Facts::RefundCarriedIn(_)
        );
        if is_told && *by == TokenId::of_import() {
            return None;
        }
        // Before its first, an instance had the token that was made with it.
        let own = self.0.get(&event.instance).filter(|_| event.instance.is_some())?;
        let service = self.0.get(&None).and_then(|held| held.get(by));
        // Whoever has all of the root instance may manage the others.
        let manages = matches!(
            event.facts,
            Facts::InstanceAdded(_)
                | Facts::InstanceClosed(_)
                | Facts::TokenAdded(_)
                | Facts::TokenRevoked(_)
        );
        let root = self.0.get(&Some(InstanceId::root())).filter(|_| manages);
        let Some(held) = own.get(by).or(service).or(root.and_then(|root| root.get(by))) else {
            // The root instance's may be from before its first record.
            if manages && root.is_none() {
                return None;
            }
            return known(format!("the token {by} behind it was never recorded"));
        };
        let is_over = |end: Option<Micros>| end.is_some_and(|end| event.at_us > end.plus_s(UNDER_WAY_S));
        if is_over(held.revoked) {
            return known(format!("the token {by} behind it was revoked before"));
        }
        let expire_s = held.facts.expire_s;
        if event.at_us.minus_s(UNDER_WAY_S).is_past(expire_s) {
            return known(format!("the token {by} behind it had expired before"));
        }
        let may = |scope: TokenScope| match held.facts.scope {
            TokenScope::All => scope != TokenScope::Audit || service.is_some(),
            own => own == scope,
        };
        let is_short = |scopes: &&[TokenScope]| !scopes.iter().any(|scope| may(*scope));
        if let Some(scopes) = scopes.filter(is_short) {
            let own = held.facts.scope.as_str();
            let needed: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
            let needed = needed.join(" or ");
            return known(format!("the token {by} behind it is for {own}, not for {needed}"));
        }
        let Facts::TokenAdded(new) = &event.facts else {
            return None;
        };
        let more = match (may(new.scope), held.facts.refreshable) {
            (false, _) => format!("scope {}, which {by} does not have", new.scope.as_str()),
            (true, false) if held.facts.scope != TokenScope::All => {
                format!("anything, though {by} neither may do everything nor is refreshable")
            }
            (true, false) if new.expire_s > expire_s => format!("a longer life than {by} has itself"),
            (true, false) if new.refreshable && !expire_s.is_never() => {
                format!("that it may outlive {by}, which is not refreshable")
            }
            _ => return None,
        };
        Some((
            &rules::TOKEN_GRANT,
            format!("the token {} was given {more}", new.token),
        ))
    }
}
