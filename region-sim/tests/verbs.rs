//! Goal: a cluster in the hand does to its processes what its verbs say, and reports the truth.
//! Method: the library over a stand-in for the node's program.

mod support;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use region_sim::live::{Builder, Change, Cluster, Error, Phase};
use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc, time::Duration};

use support::{Bench, cluster_file, eventually, pids, state};

fn builder(bench: &Bench) -> Builder {
    Cluster::builder()
        .regions(["us", "eu"])
        .meridian(bench.program())
        .dir(bench.cluster_dir())
}

fn pid(cluster: &Cluster, node: &str) -> u64 {
    cluster
        .node(node)
        .ok()
        .and_then(|node| node.pid)
        .expect("a live node")
        .into()
}

#[tokio::test]
async fn the_cluster_file_says_where_everything_is() {
    let bench = Bench::new();
    let cluster = builder(&bench).nodes(2).start().await.unwrap();
    let file = bench.cluster_file();
    let nodes = file["nodes"].as_array().unwrap();
    let names: Vec<&str> = nodes
        .iter()
        .map(|node| node["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["us-1", "us-2", "eu-1", "eu-2"]);
    assert_eq!(nodes[3]["region"], "eu");
    assert_eq!(nodes[0]["pid"], pid(&cluster, "us-1"));
    assert!(
        nodes[0]["data_dir"]
            .as_str()
            .unwrap()
            .ends_with("/nodes/us-1/data")
    );
    assert!(fs::exists(file["ca"].as_str().unwrap()).unwrap());
    let command = fs::read_to_string(format!("/proc/{}/cmdline", pid(&cluster, "us-1"))).unwrap();
    assert!(
        command.contains("meridian\0node\0--config\0"),
        "{command:?} is not the node itself"
    );
}

#[tokio::test]
async fn every_node_dials_every_other_through_a_relay_of_its_own() {
    let bench = Bench::new();
    let _cluster = builder(&bench).nodes(2).start().await.unwrap();
    let mut relays = Vec::new();
    for node in ["us-1", "us-2", "eu-1", "eu-2"] {
        let config = fs::read_to_string(
            bench
                .cluster_dir()
                .join("nodes")
                .join(node)
                .join("config.toml"),
        )
        .unwrap();
        let config: toml::Table = config.parse().unwrap();
        let dial = config["peers"]["dial"].as_table().unwrap();
        assert_eq!(dial.len(), 3);
        assert!(!dial.contains_key(node));
        relays.extend(
            dial.values()
                .map(|address| address.as_str().unwrap().to_owned()),
        );
    }
    relays.sort_unstable();
    relays.dedup();
    assert_eq!(relays.len(), 12);
}

#[tokio::test]
async fn a_killed_node_is_dead_until_it_is_restarted_and_keeps_its_data() {
    let bench = Bench::new();
    let cluster = builder(&bench).start().await.unwrap();
    let before = pid(&cluster, "us-1");
    cluster.kill("us-1").await.unwrap();
    assert_eq!(state(before), None);
    assert_eq!(cluster.node("us-1").unwrap().pid, None);
    assert!(bench.cluster_file()["nodes"][0]["pid"].is_null());
    cluster.kill("us-1").await.unwrap();
    assert!(matches!(cluster.pause("us-1").await, Err(Error::Dead(node)) if node == "us-1"));
    cluster.restart("us-1").await.unwrap();
    assert_ne!(pid(&cluster, "us-1"), before);
    assert_eq!(bench.lives("us-1"), 2);
    assert!(!bench.log("us-1").contains("goodbye"));
}

#[tokio::test]
async fn a_live_node_is_asked_to_stop_before_it_is_restarted() {
    let bench = Bench::new();
    let cluster = builder(&bench).start().await.unwrap();
    cluster.restart("us-1").await.unwrap();
    assert!(bench.log("us-1").contains("goodbye"));
    cluster.pause("us-1").await.unwrap();
    let exit = cluster.stop("us-1").await.unwrap().unwrap();
    assert!(exit.is_clean(), "{exit}");
    assert_eq!(cluster.stop("us-1").await.unwrap(), None);
}

#[tokio::test]
async fn a_wiped_node_starts_without_data() {
    let bench = Bench::new();
    let cluster = builder(&bench).start().await.unwrap();
    cluster.restart("us-1").await.unwrap();
    assert_eq!(bench.lives("us-1"), 2);
    cluster.wipe("us-1").await.unwrap();
    assert_eq!(bench.lives("us-1"), 1);
    assert_eq!(bench.lives("eu-1"), 1);
}

#[tokio::test]
async fn a_paused_node_stands_still_until_it_is_resumed_or_killed() {
    let bench = Bench::new();
    let cluster = builder(&bench).start().await.unwrap();
    let pid = pid(&cluster, "us-1");
    for _ in 0..2 {
        cluster.pause("us-1").await.unwrap();
        assert_eq!(state(pid), Some('T'));
    }
    let status = cluster.status(Duration::from_millis(200)).await.unwrap();
    assert_eq!(status.nodes[0].state, Phase::Paused);
    for _ in 0..2 {
        cluster.resume("us-1").await.unwrap();
        assert_ne!(state(pid), Some('T'));
    }
    cluster.pause("us-1").await.unwrap();
    cluster.kill("us-1").await.unwrap();
    assert_eq!(state(pid), None);
}

#[tokio::test]
async fn a_node_that_dies_by_itself_is_reported_and_stays_dead() {
    let bench = Bench::new();
    let (sender, told) = std::sync::mpsc::sync_channel(16);
    let cluster = builder(&bench)
        .on_event(move |event| sender.send(event.text.clone()).unwrap())
        .start()
        .await
        .unwrap();
    kill(Pid::from_raw(pid(&cluster, "eu-1") as i32), Signal::SIGKILL).unwrap();
    let text = told.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(text.starts_with("eu-1 died by itself: signal: 9"), "{text}");
    eventually("the cluster file shows it", || {
        pids(&bench.cluster_file()).len() == 1
    });
    assert_eq!(cluster.node("eu-1").unwrap().pid, None);
    cluster.restart("eu-1").await.unwrap();
}

#[tokio::test]
async fn a_cluster_whose_node_fails_does_not_start_and_says_why() {
    let bench = Bench::new();
    let cluster = builder(&bench).start().await.unwrap();
    cluster.down().await.unwrap();
    let all: Vec<u64> = bench.pids();
    assert_eq!(all, [0; 0]);
    drop(cluster);
    fs::write(bench.cluster_dir().join("nodes/eu-1/fail"), "").unwrap();
    let error = builder(&bench).start().await.unwrap_err().to_string();
    assert!(
        error.contains("eu-1 did not become ready: it ended with exit status: 1"),
        "{error}"
    );
    assert!(error.contains("no luck today"), "{error}");
    assert!(!bench.cluster_dir().join("cluster.json").exists());
}

#[tokio::test]
async fn a_restart_that_fails_leaves_the_node_dead_and_the_others_alone() {
    let bench = Bench::new();
    let cluster = builder(&bench).start().await.unwrap();
    let fail = bench.cluster_dir().join("nodes/us-1/fail");
    fs::write(&fail, "").unwrap();
    assert!(matches!(
        cluster.restart("us-1").await,
        Err(Error::NotReady { .. })
    ));
    assert_eq!(cluster.node("us-1").unwrap().pid, None);
    assert!(state(pid(&cluster, "eu-1")).is_some());
    fs::remove_file(fail).unwrap();
    cluster.restart("us-1").await.unwrap();
}

/// What the process of a node runs.
fn runs(cluster: &Cluster, node: &str) -> String {
    let command = fs::read_to_string(format!("/proc/{}/cmdline", pid(cluster, node)))
        .expect("its process lives");
    command.replace('\0', " ")
}

#[tokio::test]
async fn a_node_goes_on_with_another_program_and_its_data() {
    let bench = Bench::new();
    let newer = bench.another_program("newer");
    let cluster = builder(&bench).start().await.unwrap();
    let before = pid(&cluster, "us-1");
    cluster.upgrade("us-1", &newer).await.unwrap();
    assert_eq!(state(before), None);
    assert!(
        bench.log("us-1").contains("goodbye"),
        "it was asked to stop"
    );
    assert_eq!(bench.lives("us-1"), 2, "over the same data");
    assert!(runs(&cluster, "us-1").contains("newer"));
    assert!(!runs(&cluster, "eu-1").contains("newer"));
    let status = cluster.status(Duration::from_secs(1)).await.unwrap();
    assert_eq!(status.nodes[0].program, newer);
    assert_eq!(status.nodes[1].program, bench.program());
    // That is what it runs from now on, dead or alive.
    cluster.kill("us-1").await.unwrap();
    cluster.restart("us-1").await.unwrap();
    assert!(runs(&cluster, "us-1").contains("newer"));
}

#[tokio::test]
async fn an_upgrade_that_fails_leaves_the_way_back_open() {
    let bench = Bench::new();
    let newer = bench.another_program("newer");
    let cluster = builder(&bench).start().await.unwrap();
    let absent = cluster
        .upgrade("us-1", &bench.cluster_dir().join("none"))
        .await;
    assert!(matches!(absent, Err(Error::NoBinary { .. })));
    let text = bench.cluster_dir().join("text");
    fs::write(&text, "not a program").unwrap();
    let refused = cluster.upgrade("us-1", &text).await.unwrap_err();
    assert!(refused.to_string().contains("execute"), "{refused}");
    let before = pid(&cluster, "us-1");
    assert!(state(before).is_some(), "nothing was stopped for it");
    let fail = bench.cluster_dir().join("nodes/us-1/fail");
    fs::write(&fail, "").unwrap();
    let failed = cluster.upgrade("us-1", &newer).await;
    assert!(matches!(failed, Err(Error::NotReady { .. })));
    assert_eq!(cluster.node("us-1").unwrap().pid, None);
    fs::remove_file(fail).unwrap();
    cluster.restart("us-1").await.unwrap();
    assert!(!runs(&cluster, "us-1").contains("newer"));
}

/// A script that has a child, says which one, and never becomes ready.
fn program_that_waits(bench: &Bench) -> (PathBuf, PathBuf) {
    let (program, child) = (
        bench.cluster_dir().join("waits"),
        bench.cluster_dir().join("child"),
    );
    let script = format!(
        "#!/bin/sh\nsleep 600 &\necho $! > {0}.new\nmv {0}.new {0}\nwait\n",
        child.display()
    );
    fs::write(&program, script).expect("the bench's folder takes files");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
    (program, child)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_become_ready_is_killed_at_once_with_its_children() {
    let bench = Bench::new();
    let cluster = Arc::new(builder(&bench).start().await.unwrap());
    let (program, child) = program_that_waits(&bench);
    let upgrade = tokio::spawn({
        let cluster = cluster.clone();
        async move { cluster.upgrade("us-1", &program).await }
    });
    eventually("the script runs", || child.exists());
    let pid = fs::read_to_string(&child).unwrap().trim().parse().unwrap();
    cluster.kill("us-1").await.unwrap();
    let failed = upgrade.await.unwrap().unwrap_err().to_string();
    assert!(failed.contains("ordered to end"), "{failed}");
    eventually("its child is dead", || state(pid).is_none());
    cluster.restart("us-1").await.unwrap();
}

#[tokio::test]
async fn a_node_has_one_program() {
    let bench = Bench::new();
    let older = bench.another_program("older");
    let twice = builder(&bench)
        .binary("us-1", &older)
        .binary("us-1", &older);
    let refused = twice.start().await.unwrap_err();
    assert!(refused.to_string().contains("two programs"), "{refused}");
}

#[tokio::test]
async fn nodes_of_one_cluster_may_run_different_programs() {
    let bench = Bench::new();
    let older = bench.another_program("older");
    let mixed = builder(&bench).binary("eu-1", &older);
    let cluster = mixed.start().await.unwrap();
    assert!(runs(&cluster, "eu-1").contains("older"));
    assert!(!runs(&cluster, "us-1").contains("older"));
    let stranger = builder(&bench).binary("eu-9", &older).start().await;
    assert!(matches!(stranger, Err(Error::UnknownName { .. })));
}

/// A shell that starts a program stands in the kernel until its child runs (vfork). Stopped together they would wait for each other.
#[tokio::test]
async fn a_node_that_starts_children_all_the_time_can_be_paused() {
    let bench = Bench::new();
    let script = fs::read_to_string(bench.program()).unwrap();
    let busy = script.replace("do sleep 0.02;", "do /bin/true;");
    assert_ne!(busy, script);
    fs::write(bench.program(), busy).unwrap();
    let cluster = builder(&bench).start().await.unwrap();
    for _ in 0..200 {
        cluster.pause("us-1").await.unwrap();
        assert_eq!(state(pid(&cluster, "us-1")), Some('T'));
        cluster.resume("us-1").await.unwrap();
    }
}

#[tokio::test]
async fn dropping_a_cluster_kills_every_node_and_frees_its_directory() {
    let bench = Bench::new();
    let cluster = builder(&bench).start().await.unwrap();
    cluster.pause("us-1").await.unwrap();
    let all = bench.pids();
    assert_eq!(all.len(), 2);
    drop(cluster);
    assert!(all.iter().all(|&pid| state(pid).is_none()));
    builder(&bench).start().await.unwrap();
}

#[tokio::test]
async fn dropping_a_start_kills_what_was_started() {
    let bench = Bench::new();
    let slow = "#!/bin/sh\nif [ \"$1\" = tls ]; then exec \"$0-real\" \"$@\"; fi\necho $$ >> \"$(dirname \"$0\")/pids\"\nexec sleep 600\n";
    fs::rename(
        bench.program(),
        bench.program().with_file_name("meridian-real"),
    )
    .unwrap();
    fs::write(bench.program(), slow).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(bench.program(), executable).unwrap();
    let started = || -> Vec<u64> {
        let pids = fs::read_to_string(bench.program().with_file_name("pids")).unwrap_or_default();
        pids.lines().map(|pid| pid.parse().unwrap()).collect()
    };
    let starting = tokio::spawn(builder(&bench).start());
    while started().len() < 2 {
        tokio::task::yield_now().await;
    }
    starting.abort();
    assert!(starting.await.unwrap_err().is_cancelled());
    eventually("what was started is dead", || {
        started().iter().all(|&pid| state(pid).is_none())
    });
}

#[tokio::test]
async fn a_clock_is_set_off_through_a_file_that_the_config_names() {
    let bench = Bench::new();
    let cluster = builder(&bench).start().await.unwrap();
    cluster.skew("us-1", -300).unwrap();
    let config = fs::read_to_string(bench.cluster_dir().join("nodes/us-1/config.toml")).unwrap();
    let config: toml::Table = config.parse().unwrap();
    let file = config["clock"]["offset_file"].as_str().unwrap();
    assert_eq!(fs::read_to_string(file).unwrap().trim(), "-300");
    assert!(cluster.skew("us-9", 0).is_err());
}

#[tokio::test]
async fn partitions_and_links_change_apart_from_each_other() {
    let bench = Bench::new();
    let rtt = Duration::from_millis(80);
    let cluster = builder(&bench).rtt(rtt).start().await.unwrap();
    let link = async || {
        cluster
            .status(Duration::from_millis(10))
            .await
            .unwrap()
            .links[0]
            .clone()
    };
    assert_eq!(link().await.settings.rtt(), rtt);
    cluster.partition("us", "eu-1").unwrap();
    assert!(link().await.cut);
    cluster.link("us", "eu", Change::rtt(rtt * 2)).unwrap();
    assert!(link().await.cut);
    cluster.heal();
    let healed = link().await;
    assert!(!healed.cut);
    assert_eq!(healed.settings.rtt(), rtt * 2);
    cluster.isolate("us-1").unwrap();
    cluster.heal_between("us", "eu").unwrap();
    assert!(!link().await.cut);
    assert!(cluster.partition("us", "ap").is_err());
}

#[tokio::test]
async fn two_clusters_do_not_share_a_directory() {
    let bench = Bench::new();
    let _first = builder(&bench).start().await.unwrap();
    let pids_before = pids(&cluster_file(&bench.cluster_dir()));
    assert!(matches!(
        builder(&bench).fresh(true).start().await,
        Err(Error::Running { .. })
    ));
    assert_eq!(bench.pids(), pids_before);
}
