//! The forgeries of orders that are not their instance's.

use super::sold::append_mine;
use super::support::selling::*;
use super::*;
use quittance_events::{InstanceId, OrderId};
use quittance_taler::MerchantPub;

fn added(merchant_pub: MerchantPub) -> NewEvent {
    NewEvent::bare(InstanceAdded {
        merchant_pub,
        base_url: "https://shop.example/".into(),
        currency: amount("0").currency(),
        by: None,
    })
}

fn closed() -> NewEvent {
    NewEvent::bare(InstanceClosed {
        merchant_pub: merchant().merchant_pub(),
        base_url: "https://shop.example/".into(),
        currency: amount("0").currency(),
        by: None,
    })
}

fn second_instance() -> InstanceId {
    "second".parse().unwrap()
}

/// Appends an event of the second instance.
fn append_second(events: &mut Events, new: NewEvent) {
    append_mine(events, new);
    events.last_mut().unwrap().0.instance = Some(second_instance());
}

/// Appends an order that was told, of the second instance.
fn tell_second(events: &mut Events) {
    append_second(events, recorded("another", "2", 20));
    let order: OrderId = "another".parse().unwrap();
    events.last_mut().unwrap().0.order = Some(order);
}

forgeries! {
    an_order_of_another_key_than_its_instance "order.instance" |rule| {
        // Nobody but the operator knows the key under which all of the order is signed.
        let mut events = shop_events();
        let place = nth(&events, SOLD, "order_created", 0);
        events.truncate(place + 1);
        let own = events.iter().position(|(event, _)| event.facts.kind() == "instance_added").unwrap();
        edit!(events, own, InstanceAdded, |f| f.merchant_pub = secret(44).merchant_pub());
        assert_root(&forge(events).report(), rule, place, "10", &[]);
        // A genuine sale once more, under an instance that was never opened or that has another key.
        let mut events = shop_events();
        tell_second(&mut events);
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "2", &[]);
        let mut events = shop_events();
        append_second(&mut events, added(secret(44).merchant_pub()));
        tell_second(&mut events);
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "2", &[]);
        // Or that has the same one, too.
        let mut events = shop_events();
        append_second(&mut events, added(merchant().merchant_pub()));
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "", &[]);
    }

    an_instance_opened_twice "order.instance" |rule| {
        let mut events = shop_events();
        append_mine(&mut events, added(secret(44).merchant_pub()));
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "", &[]);
        let mut events = shop_events();
        append_second(&mut events, closed());
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "", &[]);
    }
}

pub(super) const RULES_FORGED: &[&str] = FORGED;

#[test]
fn instances_come_and_go() {
    // A key may be another instance's once the first is closed, and a request may end after that.
    let mut events = shop_events();
    append_mine(&mut events, closed());
    append(&mut events, "another", recorded("another", "2", 20));
    append_second(&mut events, added(merchant().merchant_pub()));
    append_second(&mut events, closed());
    append_mine(&mut events, added(merchant().merchant_pub()));
    append(&mut events, "a-third", recorded("a-third", "2", 20));
    let report = forge(events).report();
    assert!(report.is_sound(), "{:#?}", report.findings);
}
