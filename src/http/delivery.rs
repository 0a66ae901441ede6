//! The moment at which an answer has left: its body reports when the last byte was taken over for writing, and the
//! connection when all of that was handed to the network.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::reply::Delivery;
use crate::http::door::UnderWay;

/// Answers whose last byte is written but may still stand in a buffer.
#[derive(Clone)]
pub(super) struct Leaving {
    answers: Arc<Mutex<Vec<Delivery>>>,
    under_way: UnderWay,
}

impl Leaving {
    pub(super) fn new(under_way: UnderWay) -> Leaving {
        Leaving {
            answers: Arc::default(),
            under_way,
        }
    }

    fn push(&self, delivery: Delivery) {
        self.answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(delivery);
    }

    /// All that was written has gone out.
    pub(super) fn gone(&self) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        for delivery in std::mem::take(&mut *answers) {
            delivery.delivered(self.under_way.clone());
        }
    }
}

/// A body that reports when its last byte was taken over for writing.
pub(super) struct Marked<B> {
    pub(super) body: B,
    pub(super) delivery: Option<Delivery>,
    pub(super) leaving: Leaving,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Marked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let failed = matches!(frame, Some(Err(_)));
        if !failed
            && (frame.is_none() || self.body.is_end_stream())
            && let Some(delivery) = self.delivery.take()
        {
            self.leaving.push(delivery);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
