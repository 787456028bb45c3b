//! Each path, asked by a client that speaks bytes.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::status::{ConflictSide, NodeState, NodeStatus, RegionState, RegionStatus};

/// A node that says what it is told to.
struct FakeNode {
    ready: AtomicBool,
    leaving: AtomicBool,
    stuck: bool,
}

impl NodeView for FakeNode {
    async fn status(&self, partitions: bool) -> Status {
        if self.stuck {
            pending::<()>().await;
        }
        status(self.ready(), partitions)
    }

    fn ready(&self) -> Vec<Reason> {
        if self.ready.load(Ordering::Relaxed) {
            return Vec::new();
        }
        vec![Reason {
            kind: "disk".to_owned(),
            detail: "2 MiB are free".to_owned(),
        }]
    }

    fn conflicts(&self, count: usize) -> Vec<ConflictStatus> {
        let side = |stamp: &str, region: Option<&str>| ConflictSide {
            stamp: stamp.to_owned(),
            region: region.map(|region| region.parse().unwrap()),
        };
        let of = |key: &'static [u8]| ConflictStatus {
            key: bytes::Bytes::from_static(key),
            kind: "overwritten".to_owned(),
            kept: side("2.0@a/0", Some("us")),
            lost: side("1.0@b/0", None),
            at_ms: 7,
        };
        let mut all = vec![of(b"k\xff"), of(b"older")];
        all.truncate(count);
        all
    }

    async fn forget(&self, node: NodeName) -> Result<(), VerbError> {
        match node.as_str() {
            "full" => Err(VerbError::NotStored("the disk is full".to_owned())),
            "gone" => Ok(()),
            "lives" => Err(VerbError::Refused("node 'lives' lives".to_owned())),
            _ => Err(VerbError::Unknown(format!("no node '{node}'"))),
        }
    }

    async fn owed(&self, within: Duration) -> Owed {
        match within.is_zero() {
            true => Owed {
                batches: 3,
                lost: Vec::new(),
                lacking: vec!["region eu has not taken 3".to_owned()],
            },
            false => Owed::default(),
        }
    }

    async fn drain_check(&self, what: String) -> Result<Vec<String>, VerbError> {
        match what.as_str() {
            "us-1" => Ok(Vec::new()),
            "us" => Ok(vec!["3 batches are nowhere else".to_owned()]),
            _ => Err(VerbError::Unknown(format!(
                "no node and no region '{what}'"
            ))),
        }
    }

    async fn leave(&self, is_forced: bool, within: Duration) -> Result<(), VerbError> {
        if within.is_zero() && !is_forced {
            return Err(VerbError::Refused("region eu has not taken 3".to_owned()));
        }
        self.leaving.store(true, Ordering::Relaxed);
        Ok(())
    }
}

fn status(reasons: Vec<Reason>, partitions: bool) -> Status {
    Status {
        cluster: "demo".parse().unwrap(),
        node: "us-1".parse().unwrap(),
        region: "us".parse().unwrap(),
        epoch: 1,
        ready: reasons.is_empty(),
        reasons,
        digest: "0".repeat(32),
        keys: 7,
        regions: vec![RegionStatus {
            name: "eu".parse().unwrap(),
            state: RegionState::Up,
            lag_seconds: 0.25,
            outbox_entries: 3,
            watermark: 1_700_000_000_000,
            needs_repair: false,
        }],
        nodes: vec![NodeStatus {
            name: "us-1".parse().unwrap(),
            region: "us".parse().unwrap(),
            state: NodeState::Up,
            phi: 0.0,
            cause: String::new(),
            rtt_ms: None,
            clock_offset_ms: None,
            hints: 0,
            ready: true,
            needs_repair: false,
        }],
        partitions: 1024,
        partition_digests: partitions.then(|| vec!["0".repeat(32)]),
    }
}

/// A door that is being served.
struct Served {
    address: SocketAddr,
    node: Arc<FakeNode>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn served(bounds: Bounds, stuck: bool) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let node = Arc::new(FakeNode {
        ready: AtomicBool::new(true),
        leaving: AtomicBool::new(false),
        stuck,
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move {
        let _ = stopped.await;
    };
    let view = Arc::clone(&node);
    let metrics = crate::metrics::install();
    let task = tokio::spawn(serve_within(bounds, listener, view, metrics, shutdown));
    Served {
        address,
        node,
        stop,
        task,
    }
}

/// The status line, the headers and the body of the answer to `method path`.
async fn ask(address: SocketAddr, method: &str, path: &str) -> (String, String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let (line, headers) = head.split_once("\r\n").unwrap();
    (line.to_owned(), headers.to_owned(), body.to_owned())
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    timeout(PATIENCE, read).await.unwrap().unwrap();
    answer
}

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_process_is_live_while_it_runs() {
    let served = served(Bounds::default(), false).await;
    let (line, _, body) = ask(served.address, "GET", "/health/live").await;
    assert_eq!(line, "HTTP/1.1 200 OK");
    assert_eq!(body, r#"{"live":true}"#);
}

#[tokio::test]
async fn a_node_that_is_not_ready_says_why() {
    let served = served(Bounds::default(), false).await;
    let (line, _, body) = ask(served.address, "GET", "/health/ready").await;
    assert_eq!(line, "HTTP/1.1 200 OK");
    assert_eq!(body, r#"{"ready":true,"reasons":[]}"#);

    served.node.ready.store(false, Ordering::Relaxed);
    let (line, _, body) = ask(served.address, "GET", "/health/ready").await;
    assert_eq!(line, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(
        body,
        r#"{"ready":false,"reasons":[{"kind":"disk","detail":"2 MiB are free"}]}"#
    );
}

#[tokio::test]
async fn verbs_are_carried_out_or_refused_with_the_reason() {
    let served = served(Bounds::default(), false).await;
    for (node, code, words) in [
        ("gone", "200 OK", "forgotten"),
        ("lives", "409 Conflict", "lives"),
        ("nobody", "404 Not Found", "no node 'nobody'"),
        ("full", "503 Service Unavailable", "the disk is full"),
        ("NO-NAME", "400 Bad Request", "NO-NAME"),
    ] {
        let path = format!("/v1/forget?node={node}");
        let (line, _, body) = ask(served.address, "POST", &path).await;
        assert_eq!(line, format!("HTTP/1.1 {code}"), "{body}");
        assert!(body.contains(words), "{body}");
    }
    let (line, _, _) = ask(served.address, "GET", "/v1/leave").await;
    assert!(line.contains("405"), "{line}");
    assert!(!served.node.leaving.load(Ordering::Relaxed));
    let (line, _, body) = ask(served.address, "POST", "/v1/leave").await;
    assert_eq!(line, "HTTP/1.1 409 Conflict");
    assert!(body.contains("eu has not taken 3"), "{body}");
    assert!(!served.node.leaving.load(Ordering::Relaxed));
    for how in ["within_ms=5", "force=1"] {
        let path = format!("/v1/leave?{how}");
        let (line, _, _) = ask(served.address, "POST", &path).await;
        assert_eq!(line, "HTTP/1.1 202 Accepted");
        assert!(served.node.leaving.swap(false, Ordering::Relaxed));
    }
}

#[tokio::test]
async fn what_is_owed_and_what_speaks_against_a_stop_is_said() {
    let served = served(Bounds::default(), false).await;
    for (path, code, words) in [
        (
            "/v1/handoff",
            "200 OK",
            r#"{"owed":3,"lacking":["region eu has not taken 3"],"lost":[]}"#,
        ),
        (
            "/v1/handoff?within_ms=5",
            "200 OK",
            r#"{"owed":0,"lacking":[],"lost":[]}"#,
        ),
        ("/v1/handoff?within_ms=long", "400 Bad Request", "within_ms"),
        (
            "/v1/drain-check?of=us-1",
            "200 OK",
            r#"{"safe":true,"reasons":[]}"#,
        ),
        ("/v1/drain-check?of=us", "200 OK", r#""safe":false"#),
        (
            "/v1/drain-check?of=mars",
            "404 Not Found",
            "no node and no region 'mars'",
        ),
        ("/v1/drain-check", "400 Bad Request", "of"),
    ] {
        let (line, _, body) = ask(served.address, "POST", path).await;
        assert_eq!(line, format!("HTTP/1.1 {code}"), "{path}: {body}");
        assert!(body.contains(words), "{path}: {body}");
    }
}

#[tokio::test]
async fn conflicts_are_an_array_as_long_as_asked_for() {
    let served = served(Bounds::default(), false).await;
    let (line, _, body) = ask(served.address, "GET", "/v1/conflicts?count=1").await;
    assert!(line.contains("200 OK"), "{line}");
    let expected = serde_json::json!([{
        "key": "k\u{fffd}",
        "kind": "overwritten",
        "kept": {"stamp": "2.0@a/0", "region": "us"},
        "lost": {"stamp": "1.0@b/0", "region": null},
        "at-ms": 7,
    }]);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&body).unwrap(),
        expected
    );
    let (_, _, body) = ask(served.address, "GET", "/v1/conflicts").await;
    assert!(body.contains("older"), "{body}");
    let (line, _, _) = ask(served.address, "GET", "/v1/conflicts?count=many").await;
    assert!(line.contains("400"), "{line}");
}

#[tokio::test]
async fn the_status_is_one_json_with_digests_of_partitions_where_asked_for() {
    let served = served(Bounds::default(), false).await;
    let (line, headers, body) = ask(served.address, "GET", "/v1/status").await;
    assert_eq!(line, "HTTP/1.1 200 OK");
    assert!(headers.contains("content-type: application/json"));
    let shown: Status = serde_json::from_str(&body).unwrap();
    assert_eq!(shown, status(Vec::new(), false));
    assert!(!body.contains("partition_digests"));

    let (_, _, body) = ask(served.address, "GET", "/v1/status?partitions=1").await;
    let shown: Status = serde_json::from_str(&body).unwrap();
    assert_eq!(shown, status(Vec::new(), true));
}

#[tokio::test]
async fn a_query_that_means_nothing_is_refused() {
    let served = served(Bounds::default(), false).await;
    for query in ["partitions=maybe", "partition=1"] {
        let (line, _, body) = ask(served.address, "GET", &format!("/v1/status?{query}")).await;
        assert_eq!(line, "HTTP/1.1 400 Bad Request");
        assert!(body.starts_with(r#"{"error":"#), "{body}");
    }
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_a_503_in_time() {
    let bounds = Bounds {
        answer: Duration::from_millis(20),
        ..Bounds::default()
    };
    let served = served(bounds, true).await;
    let (line, _, body) = ask(served.address, "GET", "/v1/status").await;
    assert_eq!(line, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(body, r#"{"error":"the node did not answer within 20ms"}"#);
}

#[tokio::test]
async fn metrics_are_prometheus_text_and_know_the_process() {
    let served = served(Bounds::default(), false).await;
    let (line, headers, body) = ask(served.address, "GET", "/metrics").await;
    assert_eq!(line, "HTTP/1.1 200 OK");
    assert!(headers.contains("content-type: text/plain; version=0.0.4"));
    for name in [
        "meridian_process_resident_memory_bytes",
        "meridian_process_open_fds",
        "meridian_process_uptime_seconds",
        "meridian_build_info{version=",
        "meridian_hints_dropped_total",
    ] {
        assert!(body.contains(&format!("\n{name}")), "{name}: {body}");
    }
}

#[tokio::test]
async fn the_page_is_whole_in_itself() {
    let served = served(Bounds::default(), false).await;
    let (line, headers, body) = ask(served.address, "GET", "/").await;
    assert_eq!(line, "HTTP/1.1 200 OK");
    assert!(headers.contains("content-security-policy: default-src 'none'"));
    assert!(body.contains("/v1/status"));
    assert!(!body.contains("http://") && !body.contains("https://"));
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let served = served(Bounds::default(), false).await;
    let (line, _, body) = ask(served.address, "GET", "/v2/status").await;
    assert_eq!(line, "HTTP/1.1 404 Not Found");
    assert!(body.contains("/health/ready"));
    let (line, _, _) = ask(served.address, "POST", "/v1/status").await;
    assert_eq!(line, "HTTP/1.1 405 Method Not Allowed");
}

#[tokio::test]
async fn a_caller_that_never_ends_its_request_is_closed_and_frees_its_place() {
    let bounds = Bounds {
        connections: NonZeroUsize::MIN,
        // Long enough for a busy machine to answer the one that waits.
        silence: Duration::from_secs(1),
        ..Bounds::default()
    };
    let served = served(bounds, false).await;
    let mut slow = TcpStream::connect(served.address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nX-Slow:").await.unwrap();
    // Waits in the backlog until the slow one is gone.
    let (line, _, _) = ask(served.address, "GET", "/health/live").await;
    assert_eq!(line, "HTTP/1.1 200 OK");
    assert_eq!(read_to_end(&mut slow).await, "");
}

#[tokio::test]
async fn a_header_without_an_end_is_refused() {
    let served = served(Bounds::default(), false).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let mut request = b"GET / HTTP/1.1\r\nX-Long: ".to_vec();
    request.resize(1 << 20, b'x');
    // The door may close before it has read everything: then writing fails, and reading is cut.
    let _ = stream.write_all(&request).await;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let _ = timeout(PATIENCE, read).await.expect("it ends");
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn shutdown_ends_idle_connections_at_once_and_hanging_ones_after_the_grace() {
    let served_idle = served(Bounds::default(), false).await;
    let mut idle = TcpStream::connect(served_idle.address).await.unwrap();
    let request = b"GET /health/live HTTP/1.1\r\nHost: node\r\n\r\n";
    idle.write_all(request).await.unwrap();
    assert_ne!(idle.read(&mut [0; 1024]).await.unwrap(), 0);
    served_idle.stop.send(()).unwrap();
    timeout(PATIENCE, served_idle.task).await.unwrap().unwrap();

    let bounds = Bounds {
        grace: Duration::from_millis(20),
        ..Bounds::default()
    };
    let served_stuck = served(bounds, true).await;
    let mut stuck = TcpStream::connect(served_stuck.address).await.unwrap();
    let request = b"GET /v1/status HTTP/1.1\r\nHost: node\r\n\r\n";
    stuck.write_all(request).await.unwrap();
    served_stuck.stop.send(()).unwrap();
    timeout(PATIENCE, served_stuck.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(served_stuck.address).await.is_err());
}
