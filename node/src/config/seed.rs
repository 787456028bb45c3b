//! Where some node is reached: an address, or a name that is looked up again at every attempt; with a port.

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

/// `IP:PORT` or `NAME:PORT`, as in `"10.0.0.1:7100"`, `"[::1]:7100"` or `"meridian.example.net:7100"`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Seed(String);

impl Seed {
    /// The address, where it is one and no name.
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.parse().ok()
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Seed {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.parse::<SocketAddr>().is_ok() || is_name_and_port(&text) {
            return Ok(Self(text));
        }
        Err(format!(
            "'{text}' is no address: write IP:PORT or NAME:PORT, as in \"10.0.0.1:7100\" or \"meridian.example.net:7100\""
        ))
    }
}

impl From<Seed> for String {
    fn from(seed: Seed) -> Self {
        seed.0
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_name_and_port(text: &str) -> bool {
    let Some((name, port)) = text.rsplit_once(':') else {
        return false;
    };
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port > 0);
    is_port && is_name(name)
}

/// As DNS has them, with underscores. A name whose last label is a number is an address that was mistyped.
fn is_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(is_letter)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or(name);
    name.len() <= NAME_BYTES_MAX
        && name.split('.').all(is_label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// As DNS bounds them.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_with_a_port_are_seeds() {
        let long = format!("{}.example:1", ["a".repeat(63).as_str(); 3].join("."));
        for text in [
            "10.0.0.1:7100",
            "[::1]:7100",
            "localhost:7100",
            "meridian-0.meridian.default.svc.cluster.local.:7100",
            "under_score:65535",
            "4u:1",
            &long,
        ] {
            let seed = Seed::try_from(text.to_owned()).unwrap();
            assert_eq!(seed.as_str(), text);
            assert_eq!(seed.address().is_some(), text.starts_with(['1', '[']));
        }
    }

    #[test]
    fn other_texts_are_not() {
        let long = "a".repeat(64);
        for text in [
            "",
            ":7100",
            "localhost",
            "localhost:",
            "localhost:0",
            "localhost:65536",
            "localhost:+1",
            "a b:1",
            "a..b:1",
            "-a:1",
            "a-:1",
            "10.0.0:7100",
            "10.0.0.256:7100",
            "::1:7100",
            "http://a:1",
            &format!("{long}:1"),
        ] {
            let refused = Seed::try_from(text.to_owned()).unwrap_err();
            assert!(refused.contains("NAME:PORT"), "{text}: {refused}");
        }
    }
}
