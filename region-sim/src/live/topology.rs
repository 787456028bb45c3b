//! The shape of a cluster: which nodes there are, in which regions, and what the names that people
//! use for them select.

use std::{collections::BTreeMap, fmt, str::FromStr};

use node::names::{ClusterName, NodeName, RegionName};
use serde::{Deserialize, Serialize};

use super::error::Error;

/// Regions with equally many nodes, named `us-1 us-2 … eu-1 …` and counted in that order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    cluster: ClusterName,
    regions: Vec<RegionName>,
    nodes: u16,
    replicas: Replicas,
}

/// How many replicas of each key regions keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Replicas {
    /// So many in each region.
    Each(u16),
    /// By region; those that are not named keep as many as they do unless told. A region with 0 forwards what it is asked.
    Of(BTreeMap<RegionName, u16>),
}

impl From<u16> for Replicas {
    fn from(each: u16) -> Self {
        Self::Each(each)
    }
}

impl FromStr for Replicas {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Ok(each) = text.parse() {
            return Ok(Self::Each(each));
        }
        let mut counts = BTreeMap::new();
        for entry in text.split(',') {
            let count = entry.split_once('=').and_then(|(region, count)| {
                let region: RegionName = region.parse().ok()?;
                Some((region, count.parse().ok()?))
            });
            let Some((region, count)) = count else {
                return Err(Error::Usage(format!(
                    "'{entry}' is no number of replicas: write 3, or us=3,eu=2,ap=0"
                )));
            };
            if counts.insert(region, count).is_some() {
                return Err(Error::Usage(format!("'{text}' names a region twice")));
            }
        }
        Ok(Self::Of(counts))
    }
}

impl fmt::Display for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Each(each) => write!(f, "{each}"),
            Self::Of(counts) => {
                let counts = counts
                    .iter()
                    .map(|(region, count)| format!("{region}={count}"));
                f.write_str(&counts.collect::<Vec<_>>().join(","))
            }
        }
    }
}

impl Topology {
    /// A cluster of `nodes` nodes in each region that keeps `replicas` of each key there
    /// (all that there are, up to three, unless given).
    ///
    /// # Errors
    /// If a name is wrong or there twice, or a number does not fit: at most [`NODES_MAX`] nodes in all,
    /// no more replicas than nodes, and somewhere a replica.
    pub fn new(
        cluster: &str,
        regions: &[String],
        nodes: u16,
        replicas: Option<Replicas>,
    ) -> Result<Self, Error> {
        let usage = |e: node::names::NameError| Error::Usage(e.to_string());
        let cluster = cluster.parse().map_err(usage)?;
        let regions: Vec<RegionName> = regions
            .iter()
            .map(|name| name.parse().map_err(usage))
            .collect::<Result<_, _>>()?;
        let replicas = replicas.unwrap_or(Replicas::Each(usual_replicas(nodes)));
        let topology = Self {
            cluster,
            regions,
            nodes,
            replicas,
        };
        topology.check()?;
        Ok(topology)
    }

    fn check(&self) -> Result<(), Error> {
        let usage = |text: String| Err(Error::Usage(text));
        if self.regions.is_empty() || self.nodes == 0 {
            return usage("a cluster needs a region and a node".to_owned());
        }
        if let Some(twice) = self
            .regions
            .iter()
            .enumerate()
            .find_map(|(i, name)| self.regions[..i].contains(name).then_some(name))
        {
            return usage(format!("region {twice} is there twice"));
        }
        if self.regions.len() * usize::from(self.nodes) > NODES_MAX {
            return usage(format!("at most {NODES_MAX} nodes"));
        }
        if let Replicas::Of(counts) = &self.replicas
            && let Some(other) = counts.keys().find(|name| !self.regions.contains(name))
        {
            return usage(format!("replicas for {other}, which is no region here"));
        }
        let mut counts = self.regions.iter().map(|region| self.replicas(region));
        if let Some(count) = counts.find(|count| *count > self.nodes) {
            let nodes = self.nodes;
            return usage(format!(
                "{count} replicas do not fit {nodes} nodes per region"
            ));
        }
        if self.most_replicas() == 0 {
            return usage("no region keeps a replica".to_owned());
        }
        Ok(())
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// The regions, in the order given.
    pub fn regions(&self) -> &[RegionName] {
        &self.regions
    }

    /// Replicas of each key in a region.
    pub fn replicas(&self, region: &RegionName) -> u16 {
        match &self.replicas {
            Replicas::Each(each) => *each,
            Replicas::Of(counts) => {
                let count = counts.get(region).copied();
                count.unwrap_or(usual_replicas(self.nodes))
            }
        }
    }

    /// Replicas of each key in the region that keeps most of them.
    pub fn most_replicas(&self) -> u16 {
        let counts = self.regions.iter().map(|region| self.replicas(region));
        counts.max().unwrap_or(0)
    }

    /// Every node with its region, in order of index.
    pub fn members(&self) -> impl Iterator<Item = (NodeName, &RegionName)> {
        self.regions
            .iter()
            .flat_map(|region| (1..=self.nodes).map(move |i| (name_of(region, i), region)))
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.regions.len() * usize::from(self.nodes)
    }

    /// Never: a topology has a node.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The index of a node.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn node(&self, name: &str) -> Result<usize, Error> {
        self.members()
            .position(|(node, _)| node.as_str() == name)
            .ok_or_else(|| self.unknown(name))
    }

    /// The indices that a name selects: one for a node, all of its nodes for a region.
    ///
    /// # Errors
    /// If it is neither.
    pub fn select(&self, name: &str) -> Result<Vec<usize>, Error> {
        let selected: Vec<usize> = self
            .members()
            .enumerate()
            .filter(|(_, (node, region))| node.as_str() == name || region.as_str() == name)
            .map(|(index, _)| index)
            .collect();
        if selected.is_empty() {
            return Err(self.unknown(name));
        }
        Ok(selected)
    }

    /// The pairs of nodes between `a` and `b`, each a node or a region. A region and itself selects the
    /// pairs inside it.
    ///
    /// # Errors
    /// If a name is unknown or there is no pair.
    pub fn pairs_between(&self, a: &str, b: &str) -> Result<Vec<Pair>, Error> {
        let (left, right) = (self.select(a)?, self.select(b)?);
        let mut pairs: Vec<Pair> = left
            .iter()
            .flat_map(|&i| right.iter().filter_map(move |&j| Pair::new(i, j)))
            .collect();
        pairs.sort_unstable();
        pairs.dedup();
        if pairs.is_empty() {
            return Err(Error::Usage(format!(
                "there is no link between {a} and {b}"
            )));
        }
        Ok(pairs)
    }

    /// The pairs between `a`, a node or a region, and all nodes outside it.
    ///
    /// # Errors
    /// If the name is unknown or there is nothing outside.
    pub fn pairs_around(&self, a: &str) -> Result<Vec<Pair>, Error> {
        let inside = self.select(a)?;
        let outside = (0..self.len()).filter(|j| !inside.contains(j));
        let pairs: Vec<Pair> = outside
            .flat_map(|j| inside.iter().filter_map(move |&i| Pair::new(i, j)))
            .collect();
        if pairs.is_empty() {
            return Err(Error::Usage(format!("there is nothing beside {a}")));
        }
        Ok(pairs)
    }

    /// Every pair of nodes.
    pub fn pairs(&self) -> impl Iterator<Item = Pair> {
        let len = self.len();
        (0..len).flat_map(move |j| (0..j).filter_map(move |i| Pair::new(i, j)))
    }

    /// Whether two nodes are in different regions.
    pub fn is_wide(&self, pair: Pair) -> bool {
        let nodes = usize::from(self.nodes);
        pair.low / nodes != pair.high / nodes
    }

    fn unknown(&self, name: &str) -> Error {
        let nodes = self.members().map(|(node, _)| node.to_string());
        let known: Vec<String> = self
            .regions
            .iter()
            .map(ToString::to_string)
            .chain(nodes)
            .collect();
        Error::UnknownName {
            name: name.to_owned(),
            known: known.join(" "),
        }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let regions: Vec<&str> = self.regions.iter().map(RegionName::as_str).collect();
        write!(
            f,
            "cluster {}, regions {}, nodes {}, replicas {}",
            self.cluster,
            regions.join(","),
            self.nodes,
            self.replicas
        )
    }
}

/// All that there are, up to three.
fn usual_replicas(nodes: u16) -> u16 {
    nodes.min(3)
}

fn name_of(region: &RegionName, i: u16) -> NodeName {
    format!("{region}-{i}")
        .parse()
        .expect("16 letters, a dash and up to 5 digits are a node's name")
}

/// Two nodes, by index, the lower one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// The lower index.
    pub low: usize,
    /// The higher index.
    pub high: usize,
}

impl Pair {
    /// The pair of two different nodes.
    pub fn new(a: usize, b: usize) -> Option<Self> {
        (a != b).then(|| Self {
            low: a.min(b),
            high: a.max(b),
        })
    }
}

/// The two ends of a link as people write them: regions `us-eu`, or nodes or regions `us-1,eu-2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ends {
    /// One end, a node or a region.
    pub a: String,
    /// The other.
    pub b: String,
}

impl FromStr for Ends {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // Node names have dashes, region names have none.
        let ends = text.split_once(',').or_else(|| text.split_once('-'));
        match ends {
            Some((a, b)) if !a.is_empty() && !b.is_empty() => Ok(Self {
                a: a.to_owned(),
                b: b.to_owned(),
            }),
            _ => Err(Error::Usage(format!(
                "'{text}' is no link: write us-eu for regions, us-1,eu-2 for nodes"
            ))),
        }
    }
}

/// The most nodes of a cluster: each takes one port out of three ranges of a hundred.
pub const NODES_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(regions: &[&str], nodes: u16) -> Result<Topology, Error> {
        let regions: Vec<String> = regions.iter().map(ToString::to_string).collect();
        Topology::new("demo", &regions, nodes, None)
    }

    fn pair(a: usize, b: usize) -> Pair {
        Pair::new(a, b).unwrap()
    }

    #[test]
    fn nodes_are_named_by_region_and_counted_in_order() {
        let topology = topology(&["us", "eu"], 2).unwrap();
        let names: Vec<String> = topology
            .members()
            .map(|(node, region)| format!("{node}@{region}"))
            .collect();
        assert_eq!(names, ["us-1@us", "us-2@us", "eu-1@eu", "eu-2@eu"]);
        assert_eq!(topology.most_replicas(), 2);
    }

    #[test]
    fn each_region_may_keep_its_own_number_of_replicas() {
        let regions = ["us", "eu", "ap"].map(String::from);
        let with = |text: &str| Topology::new("demo", &regions, 3, Some(text.parse()?));
        let kept = |text: &str| {
            let topology = with(text).unwrap();
            let counts = topology.regions().iter();
            counts
                .map(|region| topology.replicas(region))
                .collect::<Vec<_>>()
        };
        assert_eq!(kept("2"), [2, 2, 2]);
        assert_eq!(kept("us=3,eu=2,ap=0"), [3, 2, 0]);
        assert_eq!(kept("eu=1"), [3, 1, 3]);
        for (wrong, why) in [
            (
                "",
                "'' is no number of replicas: write 3, or us=3,eu=2,ap=0",
            ),
            (
                "us",
                "'us' is no number of replicas: write 3, or us=3,eu=2,ap=0",
            ),
            ("us=1,us=2", "'us=1,us=2' names a region twice"),
            ("sa=1", "replicas for sa, which is no region here"),
            ("us=4", "4 replicas do not fit 3 nodes per region"),
            ("4", "4 replicas do not fit 3 nodes per region"),
            ("0", "no region keeps a replica"),
            ("us=0,eu=0,ap=0", "no region keeps a replica"),
        ] {
            assert_eq!(with(wrong).unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn a_stored_number_of_replicas_is_read_as_before() {
        let stored = r#"{"cluster":"demo","regions":["us"],"nodes":3,"replicas":2}"#;
        let topology: Topology = serde_json::from_str(stored).unwrap();
        assert_eq!(topology.most_replicas(), 2);
        assert_eq!(serde_json::to_string(&topology).unwrap(), stored);
    }

    #[test]
    fn a_name_selects_a_node_or_a_region() {
        let topology = topology(&["us", "eu"], 2).unwrap();
        assert_eq!(topology.select("eu").unwrap(), [2, 3]);
        assert_eq!(topology.select("us-2").unwrap(), [1]);
        let error = topology.select("ap").unwrap_err().to_string();
        assert_eq!(
            error,
            "'ap' is no node or region here; there are us eu us-1 us-2 eu-1 eu-2"
        );
    }

    #[test]
    fn pairs_are_selected_between_names_and_around_one() {
        let topology = topology(&["us", "eu"], 2).unwrap();
        assert_eq!(
            topology.pairs_between("us", "eu").unwrap(),
            [pair(0, 2), pair(0, 3), pair(1, 2), pair(1, 3)]
        );
        assert_eq!(
            topology.pairs_between("eu-1", "us").unwrap(),
            [pair(0, 2), pair(1, 2)]
        );
        assert_eq!(topology.pairs_between("us", "us").unwrap(), [pair(0, 1)]);
        assert_eq!(
            topology.pairs_around("us-1").unwrap(),
            [pair(0, 1), pair(0, 2), pair(0, 3)]
        );
        assert_eq!(topology.pairs().count(), 6);
        assert!(topology.pairs_between("us-1", "us-1").is_err());
        assert!(topology.is_wide(pair(0, 2)));
        assert!(!topology.is_wide(pair(2, 3)));
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        assert!(topology(&[], 1).is_err());
        assert!(topology(&["us"], 0).is_err());
        assert!(topology(&["us", "us"], 1).is_err());
        assert!(topology(&["US"], 1).is_err());
        assert!(topology(&["us", "eu"], 51).is_err());
        assert!(Topology::new("demo", &["us".to_owned()], 2, Some(Replicas::Each(3))).is_err());
    }

    #[test]
    fn a_link_is_named_by_its_ends() {
        let ends = |a: &str, b: &str| Ends {
            a: a.to_owned(),
            b: b.to_owned(),
        };
        assert_eq!("us-eu".parse::<Ends>().unwrap(), ends("us", "eu"));
        assert_eq!("us-1,eu-2".parse::<Ends>().unwrap(), ends("us-1", "eu-2"));
        assert_eq!("us,eu-2".parse::<Ends>().unwrap(), ends("us", "eu-2"));
        assert!("us".parse::<Ends>().is_err());
        assert!("us-".parse::<Ends>().is_err());
    }
}
