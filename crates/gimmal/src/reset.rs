//! Clients that reset their connection while nobody receives from them.

use std::io;
#[cfg(feature = "websocket")]
use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll, Waker},
};

#[cfg(feature = "websocket")]
use crate::{body::Chunk, stream::Stream};

/// Whether receiving failed since the peer has gone, and not since a deadline has passed or the server stops.
pub(crate) fn is_reset(error: &io::Error) -> bool {
    let is_interruption = matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::ConnectionAborted);
    error.raw_os_error().is_some() || !is_interruption
}

/// Who receives from a connection that has been handed to a service, and who is to be told of what comes.
#[cfg(feature = "websocket")]
#[derive(Default)]
pub(crate) struct Reading {
    /// The task that waits to receive.
    receiver: Cell<Option<Waker>>,
    /// It has begun to wait since the service was polled last.
    is_new: Cell<bool>,
    /// Something was received for nobody, and put back: there is room for no more.
    is_full: Cell<bool>,
    /// The peer's time to be silent was over when nobody received: for who receives next.
    is_overdue: Cell<bool>,
    /// The service's own task, which receives while the service waits.
    watcher: Cell<Option<Waker>>,
}

#[cfg(feature = "websocket")]
impl Reading {
    /// Receives for the service, which hears of a deadline that has passed meanwhile.
    pub(crate) fn poll_recv(&self, stream: &Stream, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        let received = stream.poll_recv(cx);
        match self.is_overdue.take() && received.is_pending() {
            true => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            false => received,
        }
    }

    /// Notes that the task of `waker` has received, and whether it waits for more.
    pub(crate) fn note(&self, waits: bool, waker: &Waker) {
        self.is_full.set(false);
        self.is_new.set(waits);
        self.receiver.set(waits.then(|| waker.clone()));
        // Another task has taken the place of the service's own, which takes it back: this one may never ask again.
        match self.watcher.take() {
            Some(watcher) if !watcher.will_wake(waker) => watcher.wake(),
            watcher => self.watcher.set(watcher),
        }
    }
}

/// Runs a service until it ends, or until its peer has reset the connection.
///
/// While the service waits, this is who receives: what comes is put back, and the service's own receiver is woken to
/// take it. Nothing more is received until it has been taken. That the peer has ended its side is no reset.
#[cfg(feature = "websocket")]
pub(crate) async fn until_reset(stream: &Stream, reading: &Reading, service: impl Future<Output = ()>) {
    let mut service = pin!(service);
    poll_fn(|cx| {
        reading.is_new.set(false);
        if service.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        reading.watcher.set(Some(cx.waker().clone()));
        let receiver = reading.receiver.take();
        let is_same_task = receiver.as_ref().is_some_and(|receiver| receiver.will_wake(cx.waker()));
        if reading.is_full.get() || (reading.is_new.get() && is_same_task) {
            reading.receiver.set(receiver);
            return Poll::Pending;
        }
        let mut received = stream.poll_recv(cx);
        let is_overdue = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut && !is_reset(error);
        if matches!(&received, Poll::Ready(Err(error)) if is_overdue(error)) {
            // Who gave up receiving has left it: it would hide a reset, and fail what is sent.
            reading.is_overdue.set(true);
            stream.set_deadline(None);
            received = stream.poll_recv(cx);
            if received.is_pending()
                && let Some(receiver) = &receiver
            {
                receiver.wake_by_ref();
            }
        }
        let Poll::Ready(received) = received else {
            reading.receiver.set(receiver);
            return Poll::Pending;
        };
        // Its place was taken by this one: whatever has come is for it to see as well.
        if let Some(receiver) = receiver {
            receiver.wake();
        }
        match received {
            Ok(bytes) => {
                reading.is_full.set(true);
                stream.unrecv(bytes);
                Poll::Pending
            }
            Err(error) if is_reset(&error) => Poll::Ready(()),
            Err(_) => Poll::Pending,
        }
    })
    .await;
}
