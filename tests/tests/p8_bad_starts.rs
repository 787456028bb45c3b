//! Starts that must not be, each refused with its exit code, the file or folder and the reason; and starts and stops as they
//! should be.
//!
//! Goal: a node never runs with a configuration, certificate or data directory that is not its own.
//! Method: the built binary. What a configuration alone can get wrong is tested beside the parser; here are the ways that
//! need a machine: ports, certificates, folders.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    path::Path,
    thread,
    time::Duration,
};

use tests::hostile::{Plan, Reply, Site, quoted, run};

/// Fails unless the node exits with this code and says all of these words.
fn refused(plan: &Plan, code: i32, words: &[&str]) {
    let (exit, said) = plan.refused();
    assert_eq!(exit, code, "{said}");
    for word in words {
        assert!(said.contains(word), "'{word}' is not in: {said}");
    }
}

fn name(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_wrong_configuration_exits_2_with_file_line_and_reason() {
    let site = Site::new();
    let good = site.node("us-1");
    let file = name(&good.write()).to_owned();
    for (key, value, words) in [
        ("storage.fsnyc", quoted("always"), "unknown field `fsnyc`"),
        ("listen.resp", quoted("localhost:7000"), "is no address"),
        ("listen.http", quoted("0.0.0.0:0"), "allow_public"),
        ("peers.dial.us-1", quoted("127.0.0.1:9001"), "own name"),
        ("storage.min_free_disk", quoted("1KiB"), "out of bounds"),
        ("regions.us", "-1".to_owned(), "regions.us"),
        ("node.name", quoted("US_1"), "[a-z0-9-]{1,32}"),
        ("consistency.timeout", quoted("soon"), "is no duration"),
    ] {
        let wrong = good.clone().set(key, value);
        let (exit, said) = wrong.refused();
        assert_eq!(exit, 2, "{key}: {said}");
        let rest = said.strip_prefix(&format!("{file}:"));
        let line = rest
            .and_then(|rest| rest.split(':').next())
            .unwrap_or_default();
        assert!(line.parse::<usize>().is_ok_and(|line| line > 0), "{said}");
        assert!(said.contains(words), "'{words}' is not in: {said}");
    }
    assert!(!good.data_dir().exists(), "nothing was touched");
}

#[test]
fn two_nodes_of_one_name_in_a_configuration_exit_2() {
    let site = Site::new();
    let plan = site
        .node("us-1")
        .set("peers.dial.eu-1", quoted("127.0.0.1:9001"));
    // The same name, written otherwise.
    let plan = plan.set("peers.dial.\"eu-1\"", quoted("127.0.0.1:9002"));
    refused(&plan, 2, &["us-1.toml:", "eu-1"]);
}

#[test]
fn a_busy_port_exits_1_and_names_the_setting_and_the_address() {
    let site = Site::new();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    for (key, address) in [
        ("listen.resp", tcp.local_addr().unwrap()),
        ("listen.http", tcp.local_addr().unwrap()),
        ("listen.quic", udp.local_addr().unwrap()),
    ] {
        let plan = site.node("us-1").set(key, quoted(address));
        refused(&plan, 1, &[key, &address.to_string(), "in use"]);
    }
    // What could not start left nothing that hinders the next.
    site.node("us-1").start().serves();
}

#[test]
fn certificates_that_do_not_fit_are_refused_by_file_and_reason() {
    let site = Site::new();
    let good = site.node("us-1");
    site.node("eu-1");
    let tls = site.tls();
    let others = Site::new();
    others.node("us-1");
    let elsewhere = Site::of("prod");
    elsewhere.node("us-1");
    let file = |site: &Site, file: &str| quoted(site.tls().join(file).display());

    let missing = good.clone().set("tls.cert", file(&site, "none.pem"));
    refused(&missing, 2, &["none.pem", "No such file"]);
    let no_pem = good.clone().set("tls.ca", quoted(good.write().display()));
    refused(&no_pem, 2, &["us-1.toml", "PEM"]);
    let another_key = good.clone().set("tls.key", file(&site, "eu-1.key"));
    refused(&another_key, 2, &["eu-1.key", "us-1.pem", "not the key"]);
    let another_node = good.clone().certificate(&tls, "eu-1");
    refused(
        &another_node,
        2,
        &["eu-1.pem", "eu-1.demo.meridian", "us-1.demo.meridian"],
    );
    let another_cluster = good.clone().certificate(&elsewhere.tls(), "us-1");
    refused(
        &another_cluster,
        2,
        &["us-1.pem", "us-1.prod.meridian", "us-1.demo.meridian"],
    );
    let foreign = good.clone().set("tls.ca", file(&others, "ca.pem"));
    refused(
        &foreign,
        2,
        &["us-1.pem", "not signed by", name(&others.tls())],
    );
    assert!(!good.data_dir().exists(), "nothing was touched");
}

#[test]
fn certificates_out_of_their_time_are_refused_by_file_and_reason() {
    let site = Site::new();
    let good = site.node("us-1");
    let tls = site.tls();
    for (label, from, to, words) in [
        ("old", 2020, 2021, "expired"),
        ("new", 2090, 2091, "not valid yet"),
    ] {
        site.issue(label, &["us-1.demo.meridian"], from..to);
        let plan = good.clone().certificate(&tls, label);
        refused(&plan, 2, &[&format!("{label}.pem"), words]);
    }
    assert!(!good.data_dir().exists(), "nothing was touched");
}

#[test]
fn a_data_directory_of_another_node_or_cluster_is_refused_and_left_as_it_is() {
    let site = Site::new();
    let owner = site.node("us-1");
    let node = owner.start();
    assert_eq!(node.client().ask(&["SET", "k", "mine"]), Reply::ok());
    assert!(node.stop().success());

    let data = owner.data_dir();
    let taken = quoted(data.display());
    let thief = site.node("us-2").set("node.data_dir", &taken);
    refused(
        &thief,
        3,
        &[name(&data), "belongs to node 'us-1'", "this is node 'us-2'"],
    );
    let elsewhere = Site::of("prod");
    let thief = elsewhere.node("us-1").set("node.data_dir", &taken);
    refused(
        &thief,
        3,
        &[
            name(&data),
            "belongs to cluster 'demo'",
            "in cluster 'prod'",
        ],
    );

    assert_eq!(
        owner.start().client().ask(&["GET", "k"]),
        Reply::bulk("mine")
    );
}

#[test]
fn a_data_directory_of_a_newer_format_is_refused_and_left_as_it_is() {
    let site = Site::new();
    let plan = site.node("us-1");
    assert!(plan.start().stop().success());
    let format = plan.data_dir().join("FORMAT");
    let known = fs::read_to_string(&format).unwrap();
    for (written, words) in [
        (
            "meridian data directory, format 2\n",
            "format 2, this binary knows up to 1",
        ),
        ("meridian data directory, format one\n", "not Meridian's"),
        ("something else\n", "not Meridian's"),
        ("", "not Meridian's"),
    ] {
        fs::write(&format, written).unwrap();
        refused(&plan, 3, &[name(&plan.data_dir()), words]);
        assert_eq!(fs::read_to_string(&format).unwrap(), written);
    }
    fs::write(&format, known).unwrap();
    plan.start().serves();
}

#[test]
fn a_data_directory_in_use_is_refused_and_its_user_goes_on() {
    let site = Site::new();
    let plan = site.node("us-1");
    let node = plan.start();
    let second = plan.clone().label("second");
    let pid = format!("process {}", node.pid());
    refused(
        &second,
        3,
        &[name(&plan.data_dir()), "in use by node us-1", &pid],
    );
    node.serves();
    node.kill();
    // The dead do not hold it.
    plan.start().serves();
}

#[test]
fn a_folder_or_file_of_something_else_is_refused_as_a_data_directory() {
    let site = Site::new();
    let plan = site.node("us-1");
    let data = plan.data_dir();
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("thesis.tex"), "years of work").unwrap();
    refused(&plan, 3, &[name(&data), "not Meridian's", "thesis.tex"]);
    assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "nothing was added");

    let file = data.join("thesis.tex");
    let plan = plan.set("node.data_dir", quoted(file.display()));
    refused(&plan, 3, &[name(&file), "not a folder"]);
    let plan = plan.set("node.data_dir", quoted("/proc/meridian"));
    refused(&plan, 3, &["/proc/meridian"]);
}

#[test]
fn rows_without_an_identity_or_a_damaged_database_are_refused() {
    let site = Site::new();
    let plan = site.node("us-1");
    let node = plan.start();
    node.serves();
    assert!(node.stop().success());
    let rocksdb = plan.data_dir().join("rocksdb");
    fs::write(rocksdb.join("CURRENT"), "MANIFEST-none\n").unwrap();
    refused(&plan, 3, &[name(&plan.data_dir())]);
}

#[test]
fn a_node_that_is_asked_to_stop_exits_0_and_the_next_start_has_everything() {
    let site = Site::new();
    let plan = site.node("us-1");
    let node = plan.start();
    let (mut client, mut loader) = (node.client(), node.client());
    assert_eq!(client.ask(&["SADD", "s", "a", "b"]), Reply::Integer(2));
    // Under load: what is acknowledged before the end is there after it.
    let load = thread::spawn(move || {
        let mut acknowledged = 0;
        loader
            .stream()
            .set_write_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        while loader
            .send(&tests::hostile::command(&["INCR", "count"]))
            .is_ok()
        {
            match loader.reply() {
                Ok(Reply::Integer(count)) => acknowledged = count,
                Ok(_) | Err(_) => break,
            }
        }
        acknowledged
    });
    tests::hostile::eventually(
        "the load has begun",
        || matches!(client.ask(&["GET", "count"]), Reply::Bulk(count) if count.len() > 1),
    );
    let said = node.stop();
    assert_eq!(said.code(), Some(0));
    let acknowledged = load.join().unwrap();
    assert!(acknowledged >= 10);

    let node = plan.start();
    let mut client = node.client();
    assert_eq!(client.ask(&["SCARD", "s"]), Reply::Integer(2));
    let Reply::Bulk(count) = client.ask(&["GET", "count"]) else {
        panic!("no count");
    };
    let count: i64 = String::from_utf8(count).unwrap().parse().unwrap();
    assert!(
        count == acknowledged || count == acknowledged + 1,
        "{count} after {acknowledged}"
    );
    assert_eq!(node.stop().code(), Some(0));
}

#[test]
fn a_certificate_that_was_issued_again_is_taken_at_the_next_start() {
    let site = Site::new();
    let plan = site.node("us-1");
    assert!(plan.start().stop().success());
    run(&["tls", "issue", name(&site.tls()), "us-1", "--days", "1"]);
    plan.start().serves();
}
