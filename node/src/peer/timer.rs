//! Timers for QUIC that wake nobody at a deadline that was moved on.
//!
//! QUIC sets a connection's timer anew with nearly every packet. A tokio timer that is moved to a later deadline is left where it was and moved on when
//! that comes (a reset costs nearly nothing so), which wakes the thread once more. On a busy node that is no matter: the thread is awake. On an idle
//! one those were two wakes in five.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime};
use tokio::time::{Sleep, sleep_until};

/// Tokio, with [`Timer`] in the place of its timers.
#[derive(Debug)]
pub(super) struct QuietRuntime;

impl Runtime for QuietRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(Timer(Box::pin(sleep_until(at.into()))))
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        TokioRuntime.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

/// A timer that is registered anew where it is moved.
#[derive(Debug)]
struct Timer(Pin<Box<Sleep>>);

impl AsyncTimer for Timer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.0.set(sleep_until(at.into()));
    }

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Future::poll(self.0.as_mut(), context)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timer_ends_at_the_deadline_that_it_was_moved_to_and_not_before() {
        let begun = QuietRuntime.now();
        let mut timer = QuietRuntime.new_timer(begun + Duration::from_secs(1));
        let early = tokio::time::timeout(
            Duration::from_millis(500),
            poll_fn(|context| timer.as_mut().poll(context)),
        );
        assert!(early.await.is_err());
        for (moved, ends) in [(9, 9), (5, 9), (20, 20)] {
            timer.as_mut().reset(begun + Duration::from_secs(moved));
            poll_fn(|context| timer.as_mut().poll(context)).await;
            let passed = QuietRuntime.now() - begun;
            assert_eq!(passed.as_secs(), ends, "moved to {moved}");
        }
    }
}
