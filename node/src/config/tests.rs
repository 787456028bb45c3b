//! The config as a whole: what is shipped parses, what is wrong is named.

use std::path::{Path, PathBuf};

use super::{seed::Seed, *};

/// The least a config must say: what has no default. Everything else of `us-1.toml` is the default.
const LEAST: &str = r#"
[node]
name = "us-1"
region = "us"
cluster = "demo"
data_dir = "data/us-1"

[tls]
ca = "tls/ca.pem"
cert = "tls/us-1.pem"
key = "tls/us-1.key"

[regions]
us = 1
eu = 1
ap = 1
"#;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../configs")
        .join(name)
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("test.toml"))
}

/// The faults of the least config followed by `rest`.
fn faults_with(rest: &str) -> Vec<Fault> {
    faults_of(&format!("{LEAST}{rest}"))
}

fn faults_of(text: &str) -> Vec<Fault> {
    match parse(text) {
        Err(ConfigError::Wrong { faults, .. }) => faults,
        other => panic!("should be wrong: {other:?}"),
    }
}

/// The only fault of a text, which must be where `marker` is first.
fn only_fault(text: &str, marker: &str) -> Fault {
    let mut faults = faults_of(text);
    assert_eq!(faults.len(), 1, "{faults:?}");
    let fault = faults.remove(0);
    let offset = text.find(marker).expect("the marker is in the text");
    let before = &text[..offset];
    let expected = Position {
        line: before.lines().count().max(1) + usize::from(before.ends_with('\n')),
        column: before.rsplit('\n').next().unwrap().chars().count() + 1,
    };
    assert_eq!(fault.position, Some(expected), "{fault:?}");
    fault
}

/// Asserts that the least config followed by `rest` has one fault: at `marker`, with that key, and a reason with those words.
fn refused(rest: &str, marker: &str, key: &str, words: &str) {
    let fault = only_fault(&format!("{LEAST}{rest}"), marker);
    assert_eq!(fault.key, key, "{fault:?}");
    let reason = fault.reason.to_string();
    assert!(reason.contains(words), "{reason}");
}

#[test]
fn the_shipped_us_1_shows_every_default() {
    let mut least = parse(LEAST).unwrap();
    let shown = Config::load(&shipped("us-1.toml")).unwrap();
    least.peers.seeds = shown.peers.seeds.clone();
    assert_eq!(shown, least);

    let text = std::fs::read_to_string(shipped("us-1.toml")).unwrap();
    let written: toml::Table = toml::from_str(&text).unwrap();
    let effective: toml::Table = toml::from_str(&shown.effective()).unwrap();
    assert_eq!(written, effective, "a default is not shown");
}

#[test]
fn every_shipped_config_parses_without_a_warning_and_they_fit_each_other() {
    let names = ["us-1", "eu-1", "ap-1"];
    let configs = names.map(|name| Config::load(&shipped(&format!("{name}.toml"))).unwrap());
    for config in &configs {
        assert_eq!(config.warnings(), []);
        assert_eq!(config.regions, configs[0].regions);
        assert_eq!(config.node.cluster, configs[0].node.cluster);
        let others = configs.iter().filter(|other| other.node != config.node);
        let seeds: Vec<_> = config
            .peers
            .seeds
            .iter()
            .filter_map(Seed::address)
            .collect();
        let doors: Vec<_> = others.map(|other| other.listen.quic).collect();
        assert!(doors.iter().all(|door| seeds.contains(door)));
    }
}

#[test]
fn the_effective_config_parses_to_an_equal_one() {
    let full = format!(
        r#"{LEAST}
        [listen]
        resp = "[::1]:0"
        [peers]
        seeds = ["10.0.0.1:7100", "meridian.example.net:7100"]
        dial = {{ "eu-1" = "127.0.0.1:9001" }}
        [consistency]
        write = "ONE"
        timeout = "1m 30s"
        [storage]
        fsync = "always"
        [clock]
        offset_file = "skew"
        [limits]
        value_bytes = "1025B"
        [log]
        level = "trace"
        format = "json"
    "#
    );
    let config = parse(&full).unwrap();
    assert_eq!(parse(&config.effective()).unwrap(), config);
    assert_ne!(parse(LEAST).unwrap(), config);
}

#[test]
fn an_unknown_key_is_named_with_those_that_are_known() {
    refused(
        "[storage]\nfsnyc = \"always\"\n",
        "fsnyc",
        "storage.fsnyc",
        "unknown field `fsnyc`, expected one of `fsync`",
    );
}

#[test]
fn an_unknown_section_is_named() {
    refused(
        "[stroage]\n",
        "stroage",
        "stroage",
        "unknown field `stroage`",
    );
}

#[test]
fn a_missing_key_is_named_with_its_section() {
    let text = LEAST.replace("name = \"us-1\"\n", "");
    let fault = only_fault(&text, "[node]");
    assert_eq!(fault.key, "node");
    assert_eq!(
        fault.reason,
        Reason::Malformed("missing field `name`".to_owned())
    );
}

#[test]
fn a_missing_section_is_named() {
    let text = LEAST.replace("[regions]\nus = 1\neu = 1\nap = 1\n", "");
    let faults = faults_of(&text);
    assert_eq!(
        faults[0].reason,
        Reason::Malformed("missing field `regions`".to_owned())
    );
}

#[test]
fn what_is_no_toml_is_refused_at_its_place() {
    refused(
        "[storage]\ncache = 1 MiB\n",
        "1 MiB",
        "storage.cache",
        "string values must be quoted",
    );
}

#[test]
fn a_bad_address_is_refused_by_its_own_words() {
    for (section, value, key) in [
        ("[listen]\nresp = ", "\"localhost:7000\"", "listen.resp"),
        (
            "[peers.dial]\neu-1 = ",
            "\"localhost:7000\"",
            "peers.dial.eu-1",
        ),
    ] {
        let words = "'localhost:7000' is no address: write IP:PORT";
        refused(&format!("{section}{value}\n"), value, key, words);
    }
}

#[test]
fn bad_names_are_refused_with_their_pattern() {
    let text = LEAST.replace("\"us-1\"\nregion", "\"US 1\"\nregion");
    let fault = only_fault(&text, "\"US 1\"");
    assert_eq!(fault.key, "node.name");
    assert!(fault.reason.to_string().contains("[a-z0-9-]{1,32}"));

    let text = LEAST.replace("region = \"us\"", "region = \"us-east\"");
    let fault = only_fault(&text, "\"us-east\"");
    assert_eq!(fault.key, "node.region");
    assert!(fault.reason.to_string().contains("[a-z0-9]{1,16}"));
}

#[test]
fn two_nodes_of_one_name_are_refused() {
    refused(
        "[peers.dial]\n\"eu-1\" = \"127.0.0.1:9001\"\n'eu-1' = \"127.0.0.1:9002\"\n",
        "'eu-1'",
        "peers.dial.eu-1",
        "two nodes of one name: 'eu-1'",
    );
}

#[test]
fn a_key_or_a_section_that_is_there_twice_is_refused() {
    refused(
        "[log]\nlevel = \"info\"\nlevel = \"warn\"\n",
        "level = \"warn\"",
        "log.level",
        "is there twice",
    );
    let faults = faults_with("[log]\n[clock]\n[log]\n");
    assert_eq!(
        (faults[0].key.as_str(), &faults[0].reason),
        ("log", &Reason::Duplicate)
    );
    assert_eq!(faults[0].position.map(|at| at.line), Some(19));
}

#[test]
fn a_node_that_is_told_to_dial_itself_is_refused() {
    refused(
        "[peers.dial]\nus-1 = \"127.0.0.1:9001\"\n",
        "us-1 = \"127",
        "peers.dial.us-1",
        "own name",
    );
    refused(
        "[peers.dial]\neu-1 = \"127.0.0.1:7100\"\n",
        "eu-1 = \"127",
        "peers.dial.eu-1",
        "own address",
    );
}

#[test]
fn two_nodes_at_one_address_are_refused() {
    refused(
        "[peers.dial]\nap-1 = \"127.0.0.1:9001\"\neu-1 = \"127.0.0.1:9001\"\n",
        "eu-1 = \"127",
        "peers.dial.eu-1",
        "address of 'ap-1' too",
    );
}

#[test]
fn an_address_that_cannot_be_dialled_is_refused() {
    refused(
        "[peers]\nseeds = [\"127.0.0.1:0\"]\n",
        "seeds",
        "peers.seeds",
        "cannot be dialled",
    );
    refused(
        "[peers]\nseeds = [\"meridian.example.net\"]\n",
        "[\"mer",
        "peers.seeds",
        "write IP:PORT or NAME:PORT",
    );
    refused(
        "[peers]\nseeds = [\"0.0.0.0:1\"]\n",
        "seeds",
        "peers.seeds",
        "cannot be dialled",
    );
}

#[test]
fn a_region_that_is_not_listed_is_refused() {
    let text = LEAST.replace("region = \"us\"", "region = \"sa\"");
    let fault = only_fault(&text, "regions]");
    assert_eq!(fault.key, "regions");
    assert!(fault.reason.to_string().contains("'sa'"));
}

#[test]
fn a_region_may_keep_nothing_but_not_all_of_them() {
    let config = parse(&LEAST.replace("us = 1", "us = 0")).unwrap();
    assert_eq!(config.regions.replicas(&config.node.region), 0);

    let text = LEAST.replace("= 1", "= 0");
    let fault = only_fault(&text, "regions]");
    assert_eq!(
        (fault.key.as_str(), fault.reason),
        ("regions", Reason::NoReplicas)
    );
}

#[test]
fn members_are_listed_by_region() {
    let listed = |text: &str| {
        let config = parse(&format!("{LEAST}{text}")).unwrap();
        assert_eq!(parse(&config.effective()).unwrap(), config);
        config.members.listed()
    };
    assert!(listed("").is_empty());
    let members = listed("[members]\nus = [\"us-2\", \"us-1\"]\neu = [\"eu-1\"]\n");
    let names = |region: &str| {
        let nodes = &members[&region.parse().unwrap()];
        nodes.iter().map(|node| node.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(names("us"), ["us-1", "us-2"]);
    assert_eq!(names("eu"), ["eu-1"]);
    assert_eq!(members.len(), 2);
}

#[test]
fn members_that_cannot_be_are_refused() {
    for (list, words) in [
        ("sa = [\"sa-1\"]", "is no region of [regions]"),
        ("eu = [\"eu-1\", \"eu-1\"]", "two nodes of one name: 'eu-1'"),
        ("eu = []", "lists 0 nodes for 1 replica (regions.eu)"),
        ("eu = [\"us-1\"]", "this node, whose region is 'us'"),
        ("us = [\"us-2\"]", "lacks 'us-1', this node"),
    ] {
        let (region, _) = list.split_once(' ').unwrap();
        let key = format!("members.{region}");
        refused(&format!("[members]\n{list}\n"), list, &key, words);
    }
    let twice = "[members]\nap = [\"x-1\"]\neu = [\"eu-1\", \"x-1\"]\n";
    let words = "'x-1' is listed in region 'ap' too";
    refused(twice, "eu = [", "members.eu", words);
    let many: Vec<_> = (0..256).map(|number| format!("\"eu-{number}\"")).collect();
    let many = format!("[members]\neu = [{}]\n", many.join(", "));
    refused(
        &many,
        "eu = [",
        "members.eu",
        "lists 256 nodes: at most 255",
    );
    let named = "[members]\neu = [\"EU 1\"]\n";
    refused(named, "[\"EU 1\"", "members.eu", "[a-z0-9-]{1,32}");
}

#[test]
fn a_door_without_authentication_is_not_opened_to_the_network_by_accident() {
    refused(
        "[listen]\nresp = \"0.0.0.0:7000\"\n",
        "resp",
        "listen.resp",
        "allow_public",
    );
    refused(
        "[listen]\nhttp = \"[::]:7000\"\n",
        "http",
        "listen.http",
        "allow_public",
    );
    let allowed = "[listen]\nresp = \"0.0.0.0:7000\"\nallow_public = true\n";
    assert!(parse(&format!("{LEAST}{allowed}")).is_ok());
    let authenticated = "[listen]\nquic = \"0.0.0.0:7100\"\n";
    assert!(parse(&format!("{LEAST}{authenticated}")).is_ok());
}

#[test]
fn two_doors_at_one_address_are_refused_unless_the_system_chooses_the_ports() {
    refused(
        "[listen]\nresp = \"127.0.0.1:7200\"\n",
        "listen]",
        "listen.http",
        "listen.resp",
    );
    let chosen = "[listen]\nresp = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n";
    assert!(parse(&format!("{LEAST}{chosen}")).is_ok());
}

#[test]
fn values_out_of_their_bounds_are_refused_with_the_bounds() {
    for (section, key, value, words) in [
        (
            "consistency",
            "timeout",
            "\"0s\"",
            "0s is out of bounds: from 10ms to 5m",
        ),
        ("storage", "fsync_interval", "\"0s\"", "from 1ms to 1m"),
        (
            "storage",
            "cache",
            "\"1MiB\"",
            "1MiB is out of bounds: from 8MiB to 4TiB",
        ),
        ("storage", "shards", "257", "from 0 to 256"),
        ("storage", "min_free_disk", "\"0\"", "from 1MiB"),
        ("hints", "window", "\"1ms\"", "from 1s to 30days"),
        ("hints", "max_bytes", "\"1KiB\"", "from 1MiB"),
        ("gossip", "interval", "\"1ms\"", "from 20ms to 10s"),
        ("gossip", "phi_local", "0.0", "from above 0 to 100"),
        ("gossip", "phi_remote", "-1.0", "from above 0 to 100"),
        ("gossip", "phi_remote", "nan", "NaN is out of bounds"),
        ("clock", "max_skew", "\"2h\"", "from 1ms to 1h"),
        ("limits", "value_bytes", "\"1B\"", "from 64B to 64MiB"),
        ("limits", "clients", "0", "from 1 to 1000000"),
        ("limits", "output_bytes", "\"1KiB\"", "from 64KiB to 1GiB"),
    ] {
        let rest = format!("[{section}]\n{key} = {value}\n");
        refused(
            &rest,
            &format!("{key} ="),
            &format!("{section}.{key}"),
            words,
        );
    }
}

#[test]
fn values_of_another_kind_are_refused_with_what_is_expected() {
    for (section, key, value, words) in [
        ("consistency", "timeout", "\"2\"", "'2' is no duration"),
        ("consistency", "timeout", "2", "expected a string"),
        ("storage", "cache", "\"16MB\"", "'16MB' is no size"),
        (
            "storage",
            "fsync",
            "\"never\"",
            "expected `always` or `interval`",
        ),
        ("storage", "shards", "-1", "expected u16"),
        (
            "consistency",
            "read",
            "\"most\"",
            "unknown consistency level 'most'",
        ),
        ("consistency", "read", "0", "unknown consistency level '0'"),
        ("log", "level", "\"loud\"", "expected one of `error`"),
    ] {
        let rest = format!("[{section}]\n{key} = {value}\n");
        let marker = format!("{value}\n");
        let text = format!("{LEAST}{rest}");
        let offset = text.rfind(&marker).unwrap();
        let fault = faults_of(&text).remove(0);
        let lines_before = text[..offset].matches('\n').count();
        assert_eq!(fault.position.map(|at| at.line), Some(lines_before + 1));
        assert_eq!(fault.key, format!("{section}.{key}"));
        assert!(fault.reason.to_string().contains(words), "{fault:?}");
    }
}

#[test]
fn a_level_that_cannot_be_kept_is_refused() {
    for (key, level, reason) in [
        ("read", "each_quorum", Reason::EachQuorumRead),
        ("write", "two", Reason::AboveReplicas { replicas: 1 }),
        ("read", "4", Reason::AboveReplicas { replicas: 1 }),
    ] {
        let faults = faults_with(&format!("[consistency]\n{key} = \"{level}\"\n"));
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].reason, reason);
    }
}

#[test]
fn every_level_that_can_be_kept_is_taken() {
    let text = LEAST.replace("us = 1", "us = 3");
    for level in ["one", "three", "local_quorum", "quorum", "all"] {
        let levels = format!("[consistency]\nread = \"{level}\"\nwrite = \"{level}\"\n");
        let config = parse(&format!("{text}{levels}")).unwrap();
        assert_eq!(config.consistency.read.to_string(), level);
        assert_eq!(config.consistency.write, config.consistency.read);
    }
    let each = "[consistency]\nwrite = \"each_quorum\"\n";
    let config = parse(&format!("{text}{each}")).unwrap();
    assert_eq!(config.consistency.write, Level::EachQuorum);
}

#[test]
fn a_command_that_could_not_hold_a_value_is_refused() {
    refused(
        "[limits]\ncommand_bytes = \"1MiB\"\n",
        "command_bytes",
        "limits.command_bytes",
        "1MiB is below limits.value_bytes (16MiB)",
    );
}

#[test]
fn every_fault_is_told_at_once_in_the_order_of_the_text() {
    let text = format!(
        "{LEAST}[storage]\ncache = \"1KiB\"\n[gossip]\nphi_local = 0\n[clock]\nmax_skew = \"0s\"\n"
    );
    let faults = faults_of(&text);
    let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(
        keys,
        ["storage.cache", "gossip.phi_local", "clock.max_skew"]
    );
}

#[test]
fn an_error_begins_with_file_line_and_column() {
    let error = parse(&format!("{LEAST}[storage]\ncache = \"1KiB\"\n")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "test.toml:18:1: storage.cache: 1KiB is out of bounds: from 8MiB to 4TiB"
    );
}

#[test]
fn a_file_that_is_not_there_or_too_long_or_no_text_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.toml");
    let error = Config::load(&missing).unwrap_err();
    assert!(matches!(&error, ConfigError::Unreadable { file, .. } if *file == missing));

    let endless = Config::load(Path::new("/dev/zero")).unwrap_err();
    assert!(matches!(endless, ConfigError::TooLong { .. }));

    let binary = dir.path().join("binary.toml");
    std::fs::write(&binary, [0xff, 0xfe]).unwrap();
    assert!(matches!(
        Config::load(&binary),
        Err(ConfigError::Unreadable { .. })
    ));
}

#[test]
fn an_even_number_of_replicas_is_warned_of() {
    let config = parse(
        &LEAST
            .replace("eu = 1", "eu = 2")
            .replace("ap = 1", "ap = 3"),
    )
    .unwrap();
    let warnings = config.warnings();
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].key, "regions.eu");
}
