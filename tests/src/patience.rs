//! Waiting for what comes by itself.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Asks again and again until the answer is `Ok`, and gives it.
///
/// # Panics
/// If it is still `Err` after `within`: then with what was waited for, and the last reason why it is not so.
pub fn eventually<T>(
    within: Duration,
    what: &str,
    mut probe: impl FnMut() -> Result<T, String>,
) -> T {
    let begun = Instant::now();
    loop {
        let last_try = begun.elapsed() >= within;
        match probe() {
            Ok(found) => return found,
            Err(reason) => assert!(!last_try, "{what}: not within {within:?}: {reason}"),
        }
        thread::sleep(INTERVAL);
    }
}

/// `Ok` if a condition holds, or else the reason to give.
///
/// # Errors
/// If it does not hold.
pub fn holds(condition: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(otherwise()) }
}

const INTERVAL: Duration = Duration::from_millis(20);
