//! Sizes: `"16MiB"`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(u64);

impl Size {
    /// That many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// That many KiB.
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// That many MiB.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// That many GiB.
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of bytes as a length in memory; a size that this machine cannot address is the longest that it can.
    pub fn to_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Size {
    /// Nearly this size, for people: in the largest unit of which it is at least one, with one decimal.
    pub fn rounded(self) -> String {
        let fits = |(_, bytes): &&(&str, u64)| self.0 >= *bytes;
        let (name, bytes) = UNITS.iter().rev().find(fits).unwrap_or(&UNITS[0]);
        match bytes {
            1 => self.to_string(),
            // A double is exact enough for three digits.
            bytes => format!("{:.1}{name}", self.0 as f64 / *bytes as f64),
        }
    }
}

/// A text that is no size. *State unchanged.*
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// No whole number in front, or a unit that there is not. *State unchanged.*
    #[error("'{0}' is no size: write a whole number and B, KiB, MiB, GiB or TiB, as in \"16MiB\"")]
    Malformed(String),
    /// More than 2^64 bytes. *State unchanged.*
    #[error("'{0}' is more than 16 EiB")]
    TooLarge(String),
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let malformed = || SizeError::Malformed(text.to_owned());
        let too_large = || SizeError::TooLarge(text.to_owned());
        let trimmed = text.trim();
        let digits_end = trimmed
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(trimmed.len());
        let (digits, unit) = trimmed.split_at(digits_end);
        if digits.is_empty() {
            return Err(malformed());
        }
        let unit = unit_bytes(unit.trim()).ok_or_else(malformed)?;
        let count: u64 = digits.parse().map_err(|_| too_large())?;
        count.checked_mul(unit).map(Self).ok_or_else(too_large)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, bytes): &&(&str, u64)| self.0 != 0 && self.0.is_multiple_of(*bytes);
        let (name, bytes) = UNITS.iter().rev().find(fits).unwrap_or(&UNITS[0]);
        write!(f, "{}{name}", self.0 / bytes)
    }
}

impl TryFrom<String> for Size {
    type Error = SizeError;

    fn try_from(text: String) -> Result<Self, SizeError> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> String {
        size.to_string()
    }
}

fn unit_bytes(name: &str) -> Option<u64> {
    if name.is_empty() {
        return Some(1);
    }
    let mut units = UNITS.iter();
    units
        .find(|(unit, _)| unit.eq_ignore_ascii_case(name))
        .map(|(_, bytes)| *bytes)
}

/// Powers of 1,024 only: `"16MB"` is refused, as half its readers would take it for the other one.
const UNITS: [(&str, u64); 5] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_size_is_a_whole_number_and_a_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("17B", 17),
            ("64KiB", 64 << 10),
            ("16MiB", 16 << 20),
            (" 16 mib ", 16 << 20),
            ("1GiB", 1 << 30),
            ("2TiB", 2 << 40),
        ] {
            assert_eq!(text.parse(), Ok(Size::new(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_by_its_own_words() {
        for text in [
            "", "MiB", "-1MiB", "1.5GiB", "16MB", "16 M", "1e3", "16MiBs", "١MiB",
        ] {
            assert_eq!(
                text.parse::<Size>(),
                Err(SizeError::Malformed(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn a_size_beyond_64_bits_is_refused() {
        for text in ["18446744073709551616", "16777216TiB"] {
            assert_eq!(
                text.parse::<Size>(),
                Err(SizeError::TooLarge(text.to_owned()))
            );
        }
    }

    #[test]
    fn a_size_is_shown_in_the_largest_unit_that_divides_it() {
        assert_eq!(Size::mib(16).to_string(), "16MiB");
        assert_eq!(Size::mib(1024).to_string(), "1GiB");
        assert_eq!(Size::new(1025).to_string(), "1025B");
        assert_eq!(Size::new(0).to_string(), "0B");
    }

    #[test]
    fn a_rounded_size_is_short() {
        assert_eq!(Size::new(0).rounded(), "0B");
        assert_eq!(Size::new(1023).rounded(), "1023B");
        assert_eq!(Size::new(66_301_952).rounded(), "63.2MiB");
        assert_eq!(Size::gib(3).rounded(), "3.0GiB");
    }

    proptest! {
        #[test]
        fn a_shown_size_parses_to_itself(bytes: u64, shift in 0u32..64) {
            let size = Size::new(bytes >> shift << shift);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }
    }
}
