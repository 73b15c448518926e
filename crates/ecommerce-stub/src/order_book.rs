//! The requests that the stand-in has received, the orders that it has taken, and its next answers.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{Answer, Behaviour, Payload, Received};

#[derive(Default)]
pub struct OrderBook {
    pub release: watch::Sender<bool>,
    pub received: Vec<Received>,
    /// Requests that are not of this API.
    pub strangers: Vec<String>,
    /// By request_id.
    orders: BTreeMap<String, Value>,
    pub usual: Behaviour,
    pub next: VecDeque<Behaviour>,
    /// For the first order with this request_id.
    pub for_request_id: BTreeMap<String, Behaviour>,
}

/// An order, and how it is answered.
pub struct Entry {
    pub order: Value,
    pub was_known: bool,
    pub behaviour: Behaviour,
    /// True once everything that is held is released.
    pub released: watch::Receiver<bool>,
}

impl OrderBook {
    /// Records an order that has arrived whole.
    pub fn receive(&mut self, request_id: String, Payload { customer_id, sku_id }: Payload) -> Entry {
        let behaviour = self.behaviour(&request_id);
        let (taken, refused) = match &behaviour.answer {
            Answer::Status { status: 408 | 409, .. } => (false, false),
            Answer::Status { status, .. } => ((200..300).contains(status), (400..500).contains(status)),
            Answer::Order | Answer::CutBody => (true, false),
            Answer::ResetAfterReading { take } | Answer::Raw { take, .. } => (*take, false),
            Answer::ResetBeforeReading => (false, false),
        };
        let known = self.orders.get(&request_id).cloned();
        let was_known = known.is_some();
        let order = known.unwrap_or_else(|| {
            json!({
                "order_id": self.orders.len() + 1,
                "request_id": request_id,
                "customer_id": customer_id,
                "sku_id": sku_id,
            })
        });
        if taken {
            self.orders.insert(request_id.clone(), order.clone());
        }
        self.received.push(Received { request_id, customer_id, sku_id, taken, refused });
        Entry { order, was_known, behaviour, released: self.release.subscribe() }
    }

    /// The answer to this order. It uses up a behaviour that is meant for one order.
    fn behaviour(&mut self, request_id: &str) -> Behaviour {
        let of_one = self.for_request_id.remove(request_id).or_else(|| self.next.pop_front());
        of_one.unwrap_or_else(|| self.usual.clone())
    }

    /// True if the connection is reset before this order is read.
    pub fn resets_before_reading(&mut self, request_id: &str) -> bool {
        let Some(next) = self.for_request_id.get(request_id).or(self.next.front()) else {
            return self.usual.answer == Answer::ResetBeforeReading;
        };
        next.answer == Answer::ResetBeforeReading && self.behaviour(request_id).answer == Answer::ResetBeforeReading
    }
}
