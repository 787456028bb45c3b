//! Words on stdout and stderr, for as long as somebody reads them.
//!
//! A pipe that nobody reads any more, as in `… | head`, is no failure: the reader has enough. `println!` and `eprintln!` panic there.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Whether somebody reads on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// As far as is known.
    Listens,
    /// The other end is closed.
    HasEnough,
}

/// Writes to stdout by `write`, whole.
///
/// # Errors
/// Stdout is no pipe that was closed, and cannot be written all the same.
pub fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<Reader> {
    let mut stdout = io::stdout().lock();
    let written = write(&mut stdout).and_then(|()| stdout.flush());
    heard(written)
}

/// Says something on stderr. Where nobody reads it there is nobody to tell.
pub fn complain(words: impl Display) {
    let _ = writeln!(io::stderr(), "{words}");
}

fn heard(written: io::Result<()>) -> io::Result<Reader> {
    match written {
        Ok(()) => Ok(Reader::Listens),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::HasEnough),
        Err(error) => Err(error),
    }
}
