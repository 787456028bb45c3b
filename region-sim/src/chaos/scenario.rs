//! A scenario: what cluster, what load, and which faults strike it. Written in TOML, to be copied and edited.

use std::{collections::BTreeMap, fmt, fs, path::Path, str::FromStr, time::Duration};

use node::level::Level;
use serde::{Deserialize, Deserializer, de};

use crate::{
    link::Loss,
    live::{Change, Error, Limit, Replicas, Topology, duration, offset_ms},
};

/// A scenario as its file describes it. What a file leaves out is as in [`Scenario::default`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// One sentence on what it is about.
    pub about: String,
    /// How long faults strike.
    #[serde(deserialize_with = "time")]
    pub duration: Duration,
    /// The regions.
    pub regions: Vec<String>,
    /// Nodes in each region.
    pub nodes: u16,
    /// Replicas of each key in each region: all nodes up to three unless given.
    pub replicas: Option<u16>,
    /// Round trip time between regions while nothing is wrong.
    #[serde(deserialize_with = "time")]
    pub rtt: Duration,
    /// Clients in each region.
    pub clients: u16,
    /// The longest that a client waits between an answer and its next command.
    #[serde(deserialize_with = "time")]
    pub think: Duration,
    /// The consistency levels that clients ask for, each as often as it stands here; none asks for those of its connection.
    pub levels: Vec<Level>,
    /// Whether what a client sends at once is about one key.
    pub is_on_one_key: bool,
    /// The longest that the cluster may take to be settled after the last fault.
    #[serde(deserialize_with = "time")]
    pub settle: Duration,
    /// Settings for every node's configuration, by dotted path; behind a node's name and a colon for that node alone.
    pub node: BTreeMap<String, toml::Value>,
    /// What strikes.
    #[serde(rename = "fault")]
    pub faults: Vec<Rule>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            about: String::new(),
            duration: Duration::from_secs(60),
            regions: ["us", "eu", "ap"].map(str::to_owned).to_vec(),
            nodes: 3,
            replicas: None,
            rtt: Duration::from_millis(40),
            clients: 3,
            think: Duration::from_millis(15),
            levels: Vec::new(),
            is_on_one_key: false,
            settle: Duration::from_secs(30),
            node: BTreeMap::new(),
            faults: Vec::new(),
        }
    }
}

/// A fault, once or again and again.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What kind.
    pub kind: Kind,
    /// Where: a node, a region, or two regions as `us-eu`; by chance unless given.
    pub on: Option<String>,
    /// When it strikes first: by chance within `every` unless given.
    #[serde(default, deserialize_with = "some_time")]
    pub at: Option<Duration>,
    /// How long from one strike to the next, on average; once unless given.
    #[serde(default, deserialize_with = "some_time")]
    pub every: Option<Duration>,
    /// How long it lasts.
    pub lasts: Span,
    /// Goes from node to node, or from region to region, instead of striking by chance.
    #[serde(default)]
    pub in_turn: bool,
    /// `link`: round trip time.
    #[serde(default, deserialize_with = "some_time")]
    pub rtt: Option<Duration>,
    /// `link`: up to this much more in each direction.
    #[serde(default, deserialize_with = "some_time")]
    pub jitter: Option<Duration>,
    /// `link`: share of datagrams lost in each direction, `5%`.
    #[serde(default, deserialize_with = "some_text")]
    pub loss: Option<Loss>,
    /// `link`: bits per second in each direction, `2M`.
    #[serde(default, deserialize_with = "some_text")]
    pub rate: Option<Limit>,
    /// `skew`: how far a clock is off, ahead or behind by chance: `300ms`; or one way: `+300ms`.
    #[serde(default, deserialize_with = "some_text")]
    pub offset: Option<Offset>,
}

impl Rule {
    /// What a `link` rule makes of a link.
    pub fn change(&self) -> Change {
        Change {
            rtt: self.rtt,
            jitter: self.jitter,
            loss: self.loss,
            rate: self.rate,
        }
    }
}

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// SIGKILL; started again afterwards.
    Kill,
    /// SIGSTOP, then SIGCONT.
    Pause,
    /// One node is cut off from all others; its clients still reach it.
    Isolate,
    /// The links between two regions are cut, or between one and all others.
    Partition,
    /// What one region sends to another is lost; what comes back arrives.
    OneWay,
    /// Every node of a region is killed at once.
    RegionLoss,
    /// Links between regions lose, delay or limit datagrams.
    Link,
    /// A clock is off.
    Skew,
    /// Something else keeps the disk busy.
    Disk,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Kill,
        Self::Pause,
        Self::Isolate,
        Self::Partition,
        Self::OneWay,
        Self::RegionLoss,
        Self::Link,
        Self::Skew,
        Self::Disk,
    ];

    /// Its name in a scenario.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Isolate => "isolate",
            Self::Partition => "partition",
            Self::OneWay => "one-way",
            Self::RegionLoss => "region-loss",
            Self::Link => "link",
            Self::Skew => "skew",
            Self::Disk => "disk",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Kind {
    type Err = ScenarioError;

    fn from_str(text: &str) -> Result<Self, ScenarioError> {
        match text {
            "loss" => return Ok(Self::Link),
            "wipe" => return Err(ScenarioError::Wipe),
            _ => {}
        }
        let known = Self::ALL.into_iter().find(|kind| kind.word() == text);
        known.ok_or_else(|| ScenarioError::Kind(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// From one duration to another, both included: `2s..5s`, or `3s` for exactly that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The shortest.
    pub least: Duration,
    /// The longest.
    pub most: Duration,
}

impl FromStr for Span {
    type Err = ScenarioError;

    fn from_str(text: &str) -> Result<Self, ScenarioError> {
        let wrong = || ScenarioError::Span(text.to_owned());
        let (least, most) = text.split_once("..").unwrap_or((text, text));
        let read = |text: &str| duration(text).map_err(|_| wrong());
        let (least, most) = (read(least)?, read(most)?);
        if most < least || most.is_zero() {
            return Err(wrong());
        }
        Ok(Self { least, most })
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// How far a clock is set off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset {
    /// By so much; without `either` ahead where it is positive.
    pub ms: i64,
    /// Ahead or behind, by chance.
    pub either: bool,
}

impl FromStr for Offset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.starts_with(['+', '-']) {
            let ms = offset_ms(text)?;
            return Ok(Self { ms, either: false });
        }
        let ms = offset_ms(&format!("+{text}"))?;
        Ok(Self { ms, either: true })
    }
}

/// Why a scenario means nothing. *State unchanged*, all of them.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read. *State unchanged.*
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is no scenario. *State unchanged.*
    #[error("{path}: {reason}")]
    Malformed {
        /// The file.
        path: String,
        /// Where, and why.
        reason: String,
    },
    /// No kind of fault. *State unchanged.*
    #[error(
        "'{0}' is no kind of fault: kill, pause, isolate, partition, one-way, region-loss, link, skew or disk"
    )]
    Kind(String),
    /// A kind that this version cannot promise anything about. *State unchanged.*
    #[error(
        "wipe is no fault here: what a wiped node lacks is not repaired by this version, so nothing could be promised"
    )]
    Wipe,
    /// No span of time. *State unchanged.*
    #[error("'{0}' is no span of time: write 3s, or 1s..5s with the longer one last")]
    Span(String),
    /// The description of the cluster does not fit. *State unchanged.*
    #[error(transparent)]
    Cluster(#[from] Error),
    /// A rule that means nothing. *State unchanged.*
    #[error("fault {number} ({kind}): {reason}")]
    Rule {
        /// Which, counted from 1.
        number: usize,
        /// Its kind.
        kind: Kind,
        /// What is wrong with it.
        reason: String,
    },
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read or is no scenario: with the line, or the number of the fault.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let shown = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|source| ScenarioError::Unreadable {
            path: shown.clone(),
            source,
        })?;
        Self::parse(&shown, &text)
    }

    /// The scenario that runs where none is named: every kind of fault by chance.
    pub fn everything() -> Self {
        let name = "configs/chaos/everything.toml";
        Self::parse(name, EVERYTHING)
            .expect("the file is part of this build and its tests parse it")
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// If it is no scenario.
    pub fn parse(path: &str, text: &str) -> Result<Self, ScenarioError> {
        let malformed = |reason: String| ScenarioError::Malformed {
            path: path.to_owned(),
            reason,
        };
        let scenario: Self = toml::from_str(text).map_err(|e| malformed(e.to_string()))?;
        scenario.check().map_err(|e| malformed(e.to_string()))?;
        Ok(scenario)
    }

    /// Leaves only faults of some kinds.
    pub fn keep(&mut self, is_kept: impl Fn(Kind) -> bool) {
        self.faults.retain(|rule| is_kept(rule.kind));
    }

    /// The cluster that it is about.
    ///
    /// # Errors
    /// If it cannot be.
    pub fn topology(&self) -> Result<Topology, Error> {
        Topology::new(
            "chaos",
            &self.regions,
            self.nodes,
            self.replicas.map(Replicas::from),
        )
    }

    /// Whether it means something: to be asked again when it was changed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let topology = self.topology()?;
        if self.clients == 0 || self.duration.is_zero() {
            let reason = "there must be a client, and a duration".to_owned();
            return Err(Error::Usage(reason).into());
        }
        for (index, rule) in self.faults.iter().enumerate() {
            rule.check(&topology)
                .map_err(|reason| ScenarioError::Rule {
                    number: index + 1,
                    kind: rule.kind,
                    reason,
                })?;
        }
        Ok(())
    }
}

impl Rule {
    fn check(&self, topology: &Topology) -> Result<(), String> {
        let ensure = |condition: bool, otherwise: &str| {
            if condition {
                Ok(())
            } else {
                Err(otherwise.to_owned())
            }
        };
        let changes_link = self.change() != Change::default();
        ensure(
            self.at.is_some() || self.every.is_some(),
            "say when: `at`, `every` or both",
        )?;
        ensure(
            self.every.is_none_or(|every| every >= EVERY_MIN),
            "`every` is at least 100ms",
        )?;
        ensure(
            changes_link == (self.kind == Kind::Link),
            "rtt, jitter, loss and rate are for `link`, which needs one of them",
        )?;
        ensure(
            self.offset.is_some() == (self.kind == Kind::Skew),
            "offset is for `skew`, which needs it",
        )?;
        ensure(
            !self.in_turn || (self.on.is_none() && self.every.is_some()),
            "`in_turn` needs `every` and no `on`",
        )?;
        ensure(
            topology.regions().len() > 1 || !self.kind.is_between_regions(),
            "there is only one region",
        )?;
        match &self.on {
            None => Ok(()),
            Some(on) => self.check_place(on, topology),
        }
    }

    fn check_place(&self, on: &str, topology: &Topology) -> Result<(), String> {
        let is_region = |name: &str| {
            topology
                .regions()
                .iter()
                .any(|region| region.as_str() == name)
        };
        let two = on.split_once('-');
        let are_two = two.is_some_and(|(a, b)| a != b && is_region(a) && is_region(b));
        let (fits, needed) = match self.kind {
            Kind::Kill | Kind::Pause | Kind::Isolate | Kind::Skew => (
                topology.select(on).is_ok(),
                "a node, or a region to draw one of",
            ),
            Kind::RegionLoss => (is_region(on), "a region"),
            Kind::Partition => (is_region(on) || are_two, "a region, or two as us-eu"),
            Kind::OneWay | Kind::Link => (are_two, "two regions as us-eu"),
            Kind::Disk => (false, "nothing: there is one disk"),
        };
        if fits {
            Ok(())
        } else {
            Err(format!("on = \"{on}\" is to be {needed}"))
        }
    }
}

impl Kind {
    /// Whether there is none of it where there is only one region.
    pub const fn is_between_regions(self) -> bool {
        matches!(self, Self::Partition | Self::OneWay | Self::Link)
    }
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    duration(&text).map_err(de::Error::custom)
}

fn some_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    time(deserializer).map(Some)
}

fn some_text<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(de::Error::custom)
}

const EVERYTHING: &str = include_str!("../../../configs/chaos/everything.toml");
const EVERY_MIN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Scenario::parse("x.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn every_ready_made_scenario_parses_and_says_what_it_is_about() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/chaos");
        let files = fs::read_dir(dir).unwrap();
        let mut seen = 0;
        for file in files {
            let path = file.unwrap().path();
            let scenario = Scenario::load(&path).unwrap_or_else(|e| panic!("{e}"));
            assert!(!scenario.about.is_empty(), "{}", path.display());
            assert!(!scenario.faults.is_empty(), "{}", path.display());
            seen += 1;
        }
        assert!(seen >= 8, "{seen} scenarios");
    }

    #[test]
    fn the_default_scenario_has_every_kind_of_fault() {
        let kinds: Vec<Kind> = Scenario::everything()
            .faults
            .iter()
            .map(|r| r.kind)
            .collect();
        for kind in Kind::ALL {
            assert!(kinds.contains(&kind), "{kind}");
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let text = "about = \"x\"\nduratoin = \"5s\"\n";
        let said = refused(text);
        assert!(
            said.contains("x.toml") && said.contains("duratoin") && said.contains("line 2"),
            "{said}"
        );
        let said =
            refused("[[fault]]\nkind = \"kill\"\nlasts = \"1s\"\nat = \"1s\"\nrate_limit = 3\n");
        assert!(said.contains("rate_limit"), "{said}");
    }

    #[test]
    fn what_means_nothing_is_refused_with_the_reason() {
        let rule = |rest: &str| refused(&format!("[[fault]]\nlasts = \"1s\"\nat = \"1s\"\n{rest}"));
        for (rest, reason) in [
            ("kind = \"meteor\"", "'meteor' is no kind of fault"),
            ("kind = \"wipe\"", "not repaired by this version"),
            (
                "kind = \"kill\"\non = \"mars-1\"",
                "fault 1 (kill): on = \"mars-1\" is to be a node",
            ),
            ("kind = \"link\"", "needs one of them"),
            ("kind = \"kill\"\nloss = \"5%\"", "are for `link`"),
            ("kind = \"skew\"", "offset is for `skew`"),
            ("kind = \"one-way\"\non = \"us\"", "two regions as us-eu"),
            ("kind = \"region-loss\"\non = \"us-1\"", "a region"),
            ("kind = \"kill\"\nin_turn = true", "`in_turn` needs `every`"),
        ] {
            let said = rule(rest);
            assert!(said.contains(reason), "{rest}: {said}");
        }
        let said = refused("[[fault]]\nkind = \"kill\"\nlasts = \"5s..1s\"\nat = \"1s\"");
        assert!(said.contains("5s..1s"), "{said}");
        let said = refused("[[fault]]\nkind = \"kill\"\nlasts = \"1s\"");
        assert!(said.contains("say when"), "{said}");
        assert!(refused("duration = \"0\"").contains("a duration"));
        assert!(refused("nodes = 2\nreplicas = 3").contains("do not fit"));
    }

    #[test]
    fn a_contract_word_for_a_fault_is_known() {
        assert_eq!("loss".parse::<Kind>().unwrap(), Kind::Link);
        for kind in Kind::ALL {
            assert_eq!(kind.word().parse::<Kind>().unwrap(), kind);
        }
    }
}
