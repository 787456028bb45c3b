//! A node's configuration file.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use toml::{Table, Value};

use super::{
    error::Error,
    layout::{Layout, NodeLayout, replace_file},
    topology::Topology,
};

/// Where a node listens. Port 0 lets the system choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doors {
    /// Clients.
    pub resp: SocketAddr,
    /// Other nodes.
    pub quic: SocketAddr,
    /// Health, metrics, status.
    pub http: SocketAddr,
}

/// Settings that go into the nodes' files, by dotted path.
#[derive(Debug, Clone, Default)]
pub(super) struct Overrides(Vec<Override>);

/// One setting.
#[derive(Debug, Clone)]
struct Override {
    /// The only node that has it: every node without one.
    node: Option<String>,
    path: Vec<String>,
    value: Value,
}

impl Overrides {
    /// Reads pairs of a dotted path and a TOML value; what is no TOML value is a string, so that
    /// `5s` needs no quotes. A path that begins with a node's name and a colon is for that node alone.
    pub fn parse(settings: &[(String, String)], topology: &Topology) -> Result<Self, Error> {
        settings
            .iter()
            .map(|(key, value)| Override::parse(key, value, topology))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn apply(&self, node: &str, config: &mut Table) -> Result<(), Error> {
        self.0
            .iter()
            .filter(|setting| setting.node.as_deref().is_none_or(|only| only == node))
            .try_for_each(|setting| put(config, &setting.path, setting.value.clone()))
    }
}

impl Override {
    fn parse(key: &str, value: &str, topology: &Topology) -> Result<Self, Error> {
        let (node, key) = match key.split_once(':') {
            Some((node, key)) => (Some(node.to_owned()), key),
            None => (None, key),
        };
        if let Some(node) = &node
            && !topology.members().any(|(name, _)| name.as_str() == node)
        {
            return Err(Error::Usage(format!("there is no node {node}")));
        }
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err(Error::Usage(format!(
                "'{key}' is no dotted path like hints.window"
            )));
        }
        if OURS.contains(&key) || OURS.contains(&path[0].as_str()) {
            return Err(Error::Usage(format!("{key} is set by the launcher")));
        }
        Ok(Self {
            node,
            path,
            value: typed(value),
        })
    }
}

fn typed(text: &str) -> Value {
    let parsed = format!("value = {text}").parse::<Table>().ok();
    let value = parsed
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn put(table: &mut Table, path: &[String], value: Value) -> Result<(), Error> {
    let (name, rest) = path
        .split_first()
        .expect("a path that was split has a part");
    if rest.is_empty() {
        table.insert(name.clone(), value);
        return Ok(());
    }
    match table
        .entry(name.clone())
        .or_insert_with(|| Value::Table(Table::new()))
    {
        Value::Table(inner) => put(inner, rest, value),
        _ => Err(Error::Usage(format!(
            "{} is a value, not a table",
            path.join(".")
        ))),
    }
}

/// All that one node's file says.
#[derive(Debug)]
pub(super) struct NodeConfig<'a> {
    pub topology: &'a Topology,
    pub layout: &'a Layout,
    pub name: &'a str,
    pub region: &'a str,
    pub doors: Doors,
    /// Where to reach each other node.
    pub dial: BTreeMap<String, SocketAddr>,
    pub overrides: &'a Overrides,
}

impl NodeConfig<'_> {
    /// Writes the file.
    pub fn write(&self) -> Result<(), Error> {
        let mut config = self.table(&self.layout.node(self.name));
        self.overrides.apply(self.name, &mut config)?;
        replace_file(
            &self.layout.node(self.name).config(),
            config.to_string().as_bytes(),
        )
    }

    fn table(&self, own: &NodeLayout) -> Table {
        let tls = self.layout.tls();
        let certificate = |extension: &str| path(&tls.join(format!("{}.{extension}", self.name)));
        let dial = self
            .dial
            .iter()
            .map(|(node, address)| (node.clone(), text(address)));
        let replicas = |region| Value::Integer(self.topology.replicas(region).into());
        table([
            (
                "node",
                table([
                    ("name", text(self.name)),
                    ("region", text(self.region)),
                    ("cluster", text(self.topology.cluster())),
                    ("data_dir", path(&own.data())),
                ]),
            ),
            (
                "listen",
                table([
                    ("resp", text(self.doors.resp)),
                    ("quic", text(self.doors.quic)),
                    ("http", text(self.doors.http)),
                ]),
            ),
            (
                "tls",
                table([
                    ("ca", path(&tls.join("ca.pem"))),
                    ("cert", certificate("pem")),
                    ("key", certificate("key")),
                ]),
            ),
            (
                "peers",
                table([
                    ("seeds", Value::Array(Vec::new())),
                    ("dial", Value::Table(dial.collect())),
                ]),
            ),
            (
                "regions",
                self.topology
                    .regions()
                    .iter()
                    .map(|region| (region.to_string(), replicas(region)))
                    .collect(),
            ),
            ("members", self.members()),
            ("clock", table([("offset_file", path(&own.clock_offset()))])),
        ])
    }

    /// The nodes of every region.
    fn members(&self) -> Table {
        let mut members = Table::new();
        for (node, region) in self.topology.members() {
            let nodes = members.entry(region.as_str());
            let nodes = nodes.or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(nodes) = nodes {
                nodes.push(text(node));
            }
        }
        members
    }
}

fn table<V: Into<Value>>(entries: impl IntoIterator<Item = (&'static str, V)>) -> Table {
    entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect()
}

fn text(value: impl ToString) -> Value {
    Value::String(value.to_string())
}

fn path(path: &Path) -> Value {
    text(path.display())
}

/// Keys and tables that hold the cluster together.
const OURS: [&str; 12] = [
    "node.name",
    "node.region",
    "node.cluster",
    "node.data_dir",
    "listen.resp",
    "listen.quic",
    "listen.http",
    "tls",
    "peers",
    "regions",
    "members",
    "clock.offset_file",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    fn topology() -> Topology {
        Topology::new("demo", &["us".to_owned(), "eu".to_owned()], 3, None).unwrap()
    }

    fn written(settings: &[(String, String)]) -> Table {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(dir.path()).unwrap();
        std::fs::create_dir_all(layout.node("us-1").dir()).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let config = NodeConfig {
            topology: &topology(),
            layout: &layout,
            name: "us-1",
            region: "us",
            doors: Doors {
                resp: "127.0.0.1:7000".parse().unwrap(),
                quic: any,
                http: any,
            },
            dial: BTreeMap::from([("eu-1".to_owned(), "127.0.0.1:9001".parse().unwrap())]),
            overrides: &Overrides::parse(settings, &topology()).unwrap(),
        };
        config.write().unwrap();
        std::fs::read_to_string(layout.node("us-1").config())
            .unwrap()
            .parse()
            .unwrap()
    }

    #[test]
    fn the_file_says_who_the_node_is_and_whom_it_dials() {
        let config = written(&[]);
        assert_eq!(config["node"]["name"].as_str(), Some("us-1"));
        assert_eq!(config["node"]["cluster"].as_str(), Some("demo"));
        assert_eq!(config["listen"]["resp"].as_str(), Some("127.0.0.1:7000"));
        assert_eq!(config["peers"]["seeds"].as_array(), Some(&Vec::new()));
        assert_eq!(
            config["peers"]["dial"]["eu-1"].as_str(),
            Some("127.0.0.1:9001")
        );
        assert_eq!(config["regions"]["eu"].as_integer(), Some(3));
        let members = Value::Array(["eu-1", "eu-2", "eu-3"].map(text).to_vec());
        assert_eq!(config["members"]["eu"], members);
        assert!(
            config["tls"]["key"]
                .as_str()
                .unwrap()
                .ends_with("/tls/us-1.key")
        );
        assert!(
            config["clock"]["offset_file"]
                .as_str()
                .unwrap()
                .ends_with("/nodes/us-1/clock-offset")
        );
    }

    #[test]
    fn settings_are_typed_where_they_can_be_and_text_where_not() {
        let config = written(&[
            pair("hints.window", "5s"),
            pair("storage.shards", "4"),
            pair("consistency.sloppy", "true"),
            pair("log.level", "\"debug\""),
            pair("gossip.phi_local", "8.5"),
        ]);
        assert_eq!(config["hints"]["window"].as_str(), Some("5s"));
        assert_eq!(config["storage"]["shards"].as_integer(), Some(4));
        assert_eq!(config["consistency"]["sloppy"].as_bool(), Some(true));
        assert_eq!(config["log"]["level"].as_str(), Some("debug"));
        assert_eq!(config["gossip"]["phi_local"].as_float(), Some(8.5));
    }

    #[test]
    fn a_setting_may_be_for_one_node_alone() {
        let config = written(&[
            pair("storage.shards", "4"),
            pair("us-1:storage.shards", "2"),
            pair("us-2:storage.shards", "3"),
        ]);
        assert_eq!(config["storage"]["shards"].as_integer(), Some(2));
    }

    #[test]
    fn settings_that_hold_the_cluster_together_are_refused() {
        for (key, value) in [
            ("node.name", "x"),
            ("peers.seeds", "[]"),
            ("tls", "1"),
            ("members.us", "[]"),
            ("a..b", "1"),
            ("", "1"),
            ("us-1:node.name", "x"),
            ("us-1:", "1"),
            ("us-4:storage.shards", "1"),
        ] {
            let parsed = Overrides::parse(&[pair(key, value)], &topology());
            assert!(parsed.is_err(), "{key}");
        }
        let settings = [pair("a", "1"), pair("a.b", "2")];
        let through_a_value = Overrides::parse(&settings, &topology()).unwrap();
        assert!(through_a_value.apply("us-1", &mut Table::new()).is_err());
    }
}
