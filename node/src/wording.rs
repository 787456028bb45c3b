//! Numbers in sentences: what people and clients read.

/// A number of things: `1 replica`, `2 replicas`. For nouns that take an `s`.
pub fn counted(number: impl Into<u64>, noun: &str) -> String {
    match number.into() {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    }
}

/// What they have: `1 replica has`, `2 replicas have`.
pub fn having(number: impl Into<u64>, noun: &str) -> String {
    let number = number.into();
    let verb = if number == 1 { "has" } else { "have" };
    format!("{} {verb}", counted(number, noun))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one_and_all_else_is_many() {
        assert_eq!(counted(0u8, "replica"), "0 replicas");
        assert_eq!(counted(1u32, "replica"), "1 replica");
        assert_eq!(counted(2u64, "node"), "2 nodes");
        assert_eq!(having(1u8, "replica"), "1 replica has");
        assert_eq!(having(2u8, "replica"), "2 replicas have");
    }
}
