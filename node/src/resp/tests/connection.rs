//! What a client can rely on, and what it cannot do to the node.

use std::time::Duration;

use tokio::{io::AsyncWriteExt, time::timeout};

use super::wire::{House, PATIENCE, client, encode};
use crate::resp::Limits;

fn small() -> Limits {
    Limits {
        value_bytes: 100_000,
        command_bytes: 200_000,
        clients: 2,
        output_bytes: 300_000,
        stuck_after: Duration::from_secs(60),
    }
}

#[tokio::test]
async fn a_pipeline_is_answered_in_order_and_reads_its_own_writes() {
    for cold in [false, true] {
        let (mut client, house) = client();
        if cold {
            house.model.turn_cold();
        }
        let mut pipeline = Vec::new();
        for number in 0..300 {
            let value = number.to_string();
            pipeline.extend(encode(&[b"SET", b"k", value.as_bytes()]));
            pipeline.extend(encode(&[b"GET", b"k"]));
            pipeline.extend(encode(&[b"NOPE"]));
        }
        client.send(&pipeline).await;
        for number in 0..300 {
            let value = number.to_string();
            assert_eq!(client.reply().await, "+OK\r\n");
            let expected = format!("${}\r\n{value}\r\n", value.len());
            assert_eq!(client.reply().await, expected);
            assert!(client.reply().await.starts_with("-ERR unknown command"));
        }
    }
}

#[tokio::test]
async fn a_pipeline_of_a_thousand_writes_is_a_few_commits() {
    let (mut client, house) = client();
    let pipeline = encode(&[b"INCR", b"counter"]).repeat(1_000);
    client.send(&pipeline).await;
    for number in 1..=1_000 {
        assert_eq!(client.reply().await, format!(":{number}\r\n"));
    }
    let commits = house.model.submitted();
    assert_eq!(commits.iter().sum::<usize>(), 1_000);
    assert!(commits.len() <= 5, "{commits:?}");
}

#[tokio::test]
async fn reads_that_are_not_in_memory_go_together_and_before_later_writes() {
    let (mut client, house) = client();
    house.model.turn_cold();
    let pipeline = [
        encode(&[b"GET", b"a"]),
        encode(&[b"MGET", b"a", b"b"]),
        encode(&[b"SET", b"a", b"1"]),
        encode(&[b"EXISTS", b"a", b"a"]),
        encode(&[b"SMEMBERS", b"s"]),
    ]
    .concat();
    client.send(&pipeline).await;
    assert_eq!(client.reply().await, "$-1\r\n");
    assert_eq!(client.reply().await, "*2\r\n$-1\r\n$-1\r\n");
    assert_eq!(client.reply().await, "+OK\r\n");
    assert_eq!(client.reply().await, ":2\r\n");
    assert_eq!(client.reply().await, "*0\r\n");
    // Reads before the write; the write with the short read behind it; the read of a whole set apart from commits.
    assert_eq!(house.model.submitted(), [3]);
    assert_eq!(house.model.batches_read(), [3, 1]);
}

#[tokio::test]
async fn values_that_wait_together_are_few() {
    let (mut client, house) = client();
    house.model.turn_cold();
    client.send(&encode(&[b"GET", b"k"]).repeat(1_000)).await;
    for _ in 0..1_000 {
        assert_eq!(client.reply().await, "$-1\r\n");
    }
    assert!(
        house
            .model
            .batches_read()
            .into_iter()
            .all(|batch| batch <= 64)
    );
}

#[tokio::test]
async fn hello_changes_the_protocol_of_its_own_and_later_replies() {
    let (mut client, house) = client();
    house.model.turn_cold();
    let pipeline = [
        encode(&[b"GET", b"k"]),
        encode(&[b"HELLO", b"3", b"SETNAME", b"me"]),
        encode(&[b"GET", b"k"]),
        encode(&[b"RESET"]),
        encode(&[b"GET", b"k"]),
    ]
    .concat();
    client.send(&pipeline).await;
    assert_eq!(client.reply().await, "$-1\r\n");
    assert_eq!(
        client.reply().await,
        "%7\r\n$6\r\nserver\r\n$8\r\nmeridian\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n\
         $4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
    );
    assert_eq!(client.reply().await, "_\r\n");
    assert_eq!(client.reply().await, "+RESET\r\n");
    assert_eq!(client.reply().await, "$-1\r\n");
    assert_eq!(client.call("CLIENT GETNAME").await, "$-1\r\n");
}

#[tokio::test]
async fn the_default_user_needs_no_password_and_there_is_no_other() {
    const WRONG: &str = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    let (mut client, _house) = client();
    assert_eq!(client.call("AUTH default x").await, "+OK\r\n");
    assert_eq!(client.call("AUTH Default x").await, WRONG);
    let alone = client.call("AUTH x").await;
    assert_eq!(
        alone,
        "-ERR AUTH <password> called without any password configured for the default user. \
         Are you sure your configuration is correct?\r\n"
    );
    assert_eq!(client.call("HELLO 3 AUTH nobody x").await, WRONG);
    assert_eq!(client.call("GET k").await, "$-1\r\n");
    let greeting = client.call("HELLO 3 AUTH default x SETNAME me").await;
    assert!(greeting.starts_with("%7\r\n"), "{greeting}");
    assert_eq!(client.call("CLIENT GETNAME").await, "$2\r\nme\r\n");
}

#[tokio::test]
async fn too_large_a_value_or_command_is_refused_and_the_connection_lives() {
    let house = House::new(small());
    let (mut client, _) = house.connect(4_096);
    let value = vec![b'x'; 100_001];
    client.send(&encode(&[b"SET", b"k", &value])).await;
    assert!(client.reply().await.starts_with("-TOOLARGE "));
    let value = vec![b'x'; 100_000];
    client.send(&encode(&[b"SET", b"k", &value])).await;
    assert_eq!(client.reply().await, "+OK\r\n");
    client
        .send(&encode(&[b"MSET", b"a", &value, b"b", &value]))
        .await;
    assert!(client.reply().await.starts_with("-TOOLARGE "));
    assert_eq!(client.call("EXISTS a b k").await, ":1\r\n");
    assert_eq!(client.call("STRLEN k").await, ":100000\r\n");
}

#[tokio::test]
async fn a_broken_protocol_is_answered_after_what_came_before_and_closed() {
    for (bytes, error) in [
        (&b"*1000000000\r\n"[..], "invalid multibulk length"),
        (b"*1\r\n$99999999999\r\n", "invalid bulk length"),
        (b"*1\r\n$-5\r\n", "invalid bulk length"),
        (b"*1\r\nfoo\r\n", "expected '$', got 'f'"),
        (b"set \"x\r\n", "unbalanced quotes in request"),
    ] {
        let (mut client, _house) = client();
        client.send(&encode(&[b"SET", b"k", b"v"])).await;
        client.send(bytes).await;
        client.send(&encode(&[b"SET", b"k", b"late"])).await;
        client.stream.shutdown().await.expect("open");
        let rest = String::from_utf8(client.rest().await).expect("text");
        assert_eq!(rest, format!("+OK\r\n-ERR Protocol error: {error}\r\n"));
    }
}

#[tokio::test]
async fn random_bytes_end_in_an_error_or_silence_and_never_in_a_panic() {
    let mut state = 7_u64;
    for _ in 0..200 {
        let (mut client, house) = client();
        let mut bytes = vec![0; 3_000];
        for byte in &mut bytes {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = (state >> 33) as u8;
        }
        // The node may hang up while this is being sent.
        let _ = client.stream.write_all(&bytes).await;
        let _ = client.stream.shutdown().await;
        client.rest().await;
        let (mut other, _) = house.connect(1_024);
        assert_eq!(other.call("PING").await, "+PONG\r\n");
    }
}

#[tokio::test]
async fn a_client_that_never_reads_is_not_read_for_ever() {
    let house = House::new(Limits {
        value_bytes: 10_000,
        command_bytes: 20_000,
        ..small()
    });
    let (mut client, task) = house.connect(1_024);
    let value = vec![b'x'; 5_000];
    client.send(&encode(&[b"SET", b"k", &value])).await;
    assert_eq!(client.reply().await, "+OK\r\n");
    let get = encode(&[b"GET", b"k"]);
    let mut sent = 0;
    // It takes requests until as many bytes of them wait as a command may have, behind as many replies as may be unread; then no more.
    while timeout(Duration::from_millis(200), client.stream.write_all(&get))
        .await
        .is_ok()
    {
        sent += 1;
        assert!(sent < 5_000, "the node reads without end");
    }
    // As soon as the client reads, it is served again.
    for _ in 0..sent {
        assert_eq!(client.reply().await.len(), 5_000 + 9);
    }
    drop(client);
    timeout(PATIENCE, task)
        .await
        .expect("ends")
        .expect("no panic")
        .ok();
}

#[tokio::test]
async fn a_client_that_sends_a_whole_pipeline_before_it_reads_gets_every_reply() {
    for half_closed in [false, true] {
        let house = House::new(small());
        let (mut client, task) = house.connect(1_024);
        let value = vec![b'x'; 50_000];
        client.send(&encode(&[b"SET", b"k", &value])).await;
        assert_eq!(client.reply().await, "+OK\r\n");
        // Far more than the streams hold, and replies of far more than may be unread.
        let pipeline = encode(&[b"GET", b"k"]).repeat(400);
        timeout(PATIENCE, client.send(&pipeline))
            .await
            .expect("it is taken in, although nothing is read");
        if half_closed {
            client.stream.shutdown().await.expect("open");
        }
        for _ in 0..400 {
            assert_eq!(client.reply().await.len(), 50_000 + 10);
        }
        if !half_closed {
            assert_eq!(client.call("PING").await, "+PONG\r\n");
            client.stream.shutdown().await.expect("open");
        }
        assert_eq!(client.rest().await, b"");
        let ended = timeout(PATIENCE, task).await.expect("ends");
        ended.expect("no panic").expect("closed in order");
    }
}

#[tokio::test]
async fn large_values_of_a_pipeline_are_all_read_by_a_slow_client() {
    for cold in [false, true] {
        let house = House::new(Limits::default());
        if cold {
            house.model.turn_cold();
        }
        // Small buffers make a slow client: every byte has to be asked for.
        let (mut client, _) = house.connect(64 << 10);
        let value = vec![b'x'; 16 << 20];
        client.send(&encode(&[b"SET", b"k", &value])).await;
        assert_eq!(client.reply().await, "+OK\r\n");
        client.send(&encode(&[b"GET", b"k"]).repeat(8)).await;
        for _ in 0..8 {
            let reply = client.reply_bytes().await.expect("a reply, not the end");
            assert_eq!(reply.len(), (16 << 20) + "$16777216\r\n\r\n".len());
        }
        assert_eq!(client.call("PING").await, "+PONG\r\n");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_for_too_long_is_closed() {
    let house = House::new(Limits {
        stuck_after: Duration::from_millis(100),
        ..small()
    });
    let (mut client, task) = house.connect(1_024);
    let value = vec![b'x'; 50_000];
    client.send(&encode(&[b"SET", b"k", &value])).await;
    assert_eq!(client.reply().await, "+OK\r\n");
    client.send(&encode(&[b"GET", b"k"]).repeat(20)).await;
    let ended = timeout(PATIENCE, task).await.expect("closed in time");
    ended.expect("no panic").expect("closed in order");
}

#[tokio::test]
async fn a_long_list_of_values_is_written_as_the_client_takes_it() {
    for cold in [false, true] {
        let house = House::new(small());
        if cold {
            house.model.turn_cold();
        }
        let (mut client, _) = house.connect(1_024);
        let value = vec![b'x'; 20_000];
        client.send(&encode(&[b"SET", b"k", &value])).await;
        assert_eq!(client.reply().await, "+OK\r\n");
        let mut words: Vec<&[u8]> = vec![b"MGET"];
        words.extend(std::iter::repeat_n(&b"k"[..], 500));
        words.push(b"missing");
        client.send(&encode(&words)).await;
        client.send(&encode(&[b"PING"])).await;
        let reply = client.reply().await;
        assert_eq!(reply.len(), "*501\r\n".len() + 500 * 20_010 - 500 + 5 + 500);
        assert!(reply.ends_with("$-1\r\n"));
        assert_eq!(client.reply().await, "+PONG\r\n");
    }
}

#[tokio::test]
async fn a_stop_finishes_what_is_in_flight_and_closes() {
    let house = House::new(Limits::default());
    house.model.hold_commits();
    let (mut client, task) = house.connect(1 << 20);
    client.send(&encode(&[b"INCR", b"k"]).repeat(10)).await;
    while house.model.submitted().is_empty() {
        tokio::task::yield_now().await;
    }
    house.stop.send(true).expect("a connection listens");
    house.model.allow_commits(100);
    let replies = String::from_utf8(client.rest().await).expect("text");
    assert_eq!(
        replies,
        (1..=10).map(|n| format!(":{n}\r\n")).collect::<String>()
    );
    task.await.expect("no panic").expect("closed in order");
}

#[tokio::test]
async fn one_client_too_many_is_told_and_a_place_becomes_free_again() {
    let house = House::new(small());
    let (first, first_task) = house.connect(1_024);
    let (mut second, _) = house.connect(1_024);
    assert_eq!(second.call("PING").await, "+PONG\r\n");
    let (mut third, _) = house.connect(1_024);
    assert_eq!(
        third.rest().await,
        b"-ERR max number of clients reached\r\n"
    );
    drop(first);
    first_task
        .await
        .expect("no panic")
        .expect("closed in order");
    let (mut fourth, _) = house.connect(1_024);
    assert_eq!(fourth.call("PING").await, "+PONG\r\n");
}

#[tokio::test]
async fn quit_is_answered_and_nothing_after_it_is_carried_out() {
    let (mut client, house) = client();
    let pipeline = [
        encode(&[b"SET", b"a", b"1"]),
        encode(&[b"QUIT"]),
        encode(&[b"SET", b"a", b"2"]),
    ];
    client.send(&pipeline.concat()).await;
    assert_eq!(client.rest().await, b"+OK\r\n+OK\r\n");
    let (mut other, _) = house.connect(1_024);
    assert_eq!(other.call("GET a").await, "$1\r\n1\r\n");
}

#[tokio::test]
async fn an_http_request_is_closed_without_a_word() {
    let (mut client, _house) = client();
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn a_half_closed_client_still_gets_its_replies() {
    let (mut client, _house) = client();
    client.send(b"SET k v\r\nGET k\r\n").await;
    client.stream.shutdown().await.expect("open");
    assert_eq!(client.rest().await, b"+OK\r\n$1\r\nv\r\n");
}

#[tokio::test]
async fn clients_see_each_other() {
    let (mut client, house) = client();
    let (mut other, _) = house.connect(1_024);
    assert_eq!(other.call("CLIENT SETNAME other").await, "+OK\r\n");
    assert_eq!(
        other.call("CLIENT SETINFO LIB-NAME redis-rs").await,
        "+OK\r\n"
    );
    assert_eq!(client.call("CLIENT ID").await, ":1\r\n");
    let list = client.call("CLIENT LIST").await;
    assert!(list.contains("\nid=1 addr=test:1 laddr=test:2 ") || list.contains("id=1 "));
    assert!(
        list.contains(" name=other ") && list.contains(" lib-name=redis-rs "),
        "{list}"
    );
    assert!(list.contains(" cmd=client|list "), "{list}");
    let one = client.call("CLIENT LIST ID 2 77").await;
    assert!(one.contains("id=2 ") && !one.contains("id=1 "), "{one}");
}

#[tokio::test]
async fn info_has_the_sections_asked_for_once() {
    let (mut client, _house) = client();
    assert_eq!(client.call("SET k v").await, "+OK\r\n");
    let info = client.call("INFO").await;
    for field in [
        "redis_version:7.0.15",
        "meridian_version:",
        "used_cpu_user:",
        "used_memory:",
        "role:master",
        "master_repl_offset:",
        "meridian_lag_seconds:1",
        "# Meridian",
        "db0:keys=1,expires=0",
    ] {
        assert!(info.contains(field), "{field} in {info}");
    }
    assert!(!info.contains("rejected_calls"));
    let all = client.call("INFO cpu ALL").await;
    assert!(all.contains("cmdstat_set:calls=1,") && all.contains("rejected_calls"));
    assert_eq!(all.matches("used_cpu_user_children").count(), 1);
    let some = client.call("INFO commandSTATS sentinel").await;
    assert!(some.contains("# Commandstats\r\n") && !some.contains("used_memory"));
}

#[tokio::test]
async fn keys_are_found_page_by_page() {
    let (mut client, _house) = client();
    for number in 0..25 {
        let set = format!("SET key:{number} v");
        assert_eq!(client.call(&set).await, "+OK\r\n");
    }
    assert_eq!(client.call("SADD other a b").await, ":2\r\n");
    assert_eq!(client.call("DBSIZE").await, ":26\r\n");
    assert!(
        client
            .call("SCAN 0")
            .await
            .starts_with("*2\r\n$2\r\n10\r\n*10\r\n")
    );
    assert_eq!(
        client.call("SCAN 0 TYPE SET COUNT 1000").await,
        "*2\r\n$1\r\n0\r\n*1\r\n$5\r\nother\r\n"
    );
    assert_eq!(
        client.call("SCAN 0 TYPE hash").await,
        "*2\r\n$1\r\n0\r\n*0\r\n"
    );
    assert!(client.call("KEYS key:1?").await.starts_with("*10\r\n"));
    assert!(client.call("KEYS *").await.starts_with("*26\r\n"));
    assert_eq!(client.call("FLUSHALL ASYNC").await, "+OK\r\n");
    assert_eq!(client.call("RANDOMKEY").await, "$-1\r\n");
    assert_eq!(
        client.call("CLUSTER.STATUS").await,
        "$16\r\n{\"node\":\"model\"}\r\n"
    );
}

#[tokio::test]
async fn conflicts_are_maps_the_newest_first() {
    let (mut client, _house) = client();
    let side = |stamp: &str, region: &str| {
        format!("*4\r\n$5\r\nstamp\r\n$7\r\n{stamp}\r\n$6\r\nregion\r\n{region}\r\n")
    };
    let newer = format!(
        "*10\r\n$3\r\nkey\r\n$5\r\nnewer\r\n$4\r\nkind\r\n$11\r\noverwritten\r\n$4\r\nkept\r\n{}$4\r\nlost\r\n{}$5\r\nat-ms\r\n:7\r\n",
        side("2.0@a/0", "$2\r\nus"),
        side("1.0@b/0", "$-1"),
    );
    assert_eq!(
        client.call("CONFLICTS COUNT 1").await,
        format!("*1\r\n{newer}")
    );
    let both = client.call("conflicts").await;
    assert!(both.starts_with(&format!("*2\r\n{newer}")), "{both}");
    for wrong in [
        "CONFLICTS COUNT",
        "CONFLICTS COUNT 0",
        "CONFLICTS COUNT -1",
        "CONFLICTS 1",
    ] {
        assert_eq!(client.call(wrong).await, "-ERR syntax error\r\n", "{wrong}");
    }
}

#[tokio::test]
async fn a_move_adds_before_it_removes() {
    let (mut client, house) = client();
    assert_eq!(client.call("SADD from a b").await, ":2\r\n");
    assert_eq!(client.call("SADD to x").await, ":1\r\n");
    house.model.hold_commits();
    client
        .send(&encode(&[b"SMOVE", b"from", b"to", b"a"]))
        .await;
    let (mut other, _) = house.connect(1_024);
    house.model.allow_commits(1);
    // One commit later it is in the target, and still in the source.
    while other.call("SISMEMBER to a").await == ":0\r\n" {}
    assert_eq!(other.call("SISMEMBER from a").await, ":1\r\n");
    house.model.allow_commits(1);
    assert_eq!(client.reply().await, ":1\r\n");
    assert_eq!(other.call("SISMEMBER from a").await, ":0\r\n");
}

#[tokio::test]
async fn too_many_repetitions_are_refused() {
    let (mut client, _house) = client();
    assert_eq!(client.call("SADD s a").await, ":1\r\n");
    let reply = client.call("SRANDMEMBER s -9223372036854775807").await;
    assert!(reply.starts_with("-TOOLARGE "), "{reply}");
}
