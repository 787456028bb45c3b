//! Words on stderr, for as long as somebody reads them.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Says something on stderr. Where nobody reads it there is nobody to tell: no reason to panic, as `eprintln!` does.
pub fn complain(words: impl Display) {
    let _ = writeln!(io::stderr(), "{words}");
}
