//! An alarm that rings on time: a kernel timer, because tokio's own wakes up to a millisecond late,
//! which on a link of a few milliseconds would be the larger part of the delay.

use std::{
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use tokio::net::unix::pipe::Receiver;

/// A timer that is set to one moment at a time.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: TimerFd,
    /// The same timer to wait on. It is no pipe, but is read like one, and this is tokio's way to
    /// own a descriptor that can be polled.
    bell: Receiver,
    set_to: Option<Instant>,
}

impl Alarm {
    /// An alarm that is not set.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let bell = Receiver::from_owned_fd_unchecked(timer.as_fd().try_clone_to_owned()?)?;
        Ok(Self {
            timer,
            bell,
            set_to: None,
        })
    }

    /// Sets the alarm to `at`, or off.
    pub fn set(&mut self, at: Option<Instant>) -> io::Result<()> {
        if at == self.set_to {
            return Ok(());
        }
        match at {
            None => self.timer.unset()?,
            Some(at) => self.arm(at.saturating_duration_since(Instant::now()))?,
        }
        self.set_to = at;
        Ok(())
    }

    fn arm(&self, left: Duration) -> io::Result<()> {
        // Zero would switch it off.
        let left = TimeSpec::from_duration(left.max(Duration::from_nanos(1)));
        self.timer
            .set(Expiration::OneShot(left), TimerSetTimeFlags::empty())?;
        Ok(())
    }

    /// Waits until it rings. Never ends while it is off.
    pub async fn rings(&mut self) -> io::Result<()> {
        loop {
            self.bell.readable().await?;
            match self.bell.try_read(&mut [0; 8]) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                rang => {
                    self.set_to = None;
                    return rang.map(drop);
                }
            }
        }
    }
}
