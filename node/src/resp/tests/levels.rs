//! Every request carries the level of its connection, or of the AT before it.

use super::wire::{House, client, encode};
use crate::{
    level::Level,
    resp::{Levels, Limits},
};

fn pair(read: &str, write: &str) -> String {
    let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    format!("*2\r\n{}{}", bulk(read), bulk(write))
}

#[tokio::test]
async fn a_connection_begins_with_the_configured_levels_and_returns_to_them() {
    let levels = Levels {
        read: Level::Quorum,
        write: Level::EachQuorum,
    };
    let house = House::at(Limits::default(), levels);
    let (mut client, _) = house.connect(1 << 20);
    assert_eq!(
        client.call("CONSISTENCY").await,
        pair("quorum", "each_quorum")
    );
    assert_eq!(
        client.call("consistency write TWO").await,
        pair("quorum", "two")
    );
    assert_eq!(
        client.call("CONSISTENCY write all read 4").await,
        pair("4", "all")
    );
    let (mut other, _) = house.connect(1 << 20);
    assert_eq!(
        other.call("CONSISTENCY").await,
        pair("quorum", "each_quorum")
    );
    assert_eq!(client.call("RESET").await, "+RESET\r\n");
    assert_eq!(
        client.call("CONSISTENCY").await,
        pair("quorum", "each_quorum")
    );
}

#[tokio::test]
async fn what_is_no_choice_of_levels_changes_nothing() {
    let (mut client, _house) = client();
    for (words, error) in [
        ("CONSISTENCY READ", "-ERR syntax error\r\n"),
        ("CONSISTENCY one", "-ERR syntax error\r\n"),
        ("CONSISTENCY READ one WRITE", "-ERR syntax error\r\n"),
        ("CONSISTENCY READ one READ two", "-ERR syntax error\r\n"),
        ("CONSISTENCY READ one BOTH two", "-ERR syntax error\r\n"),
        (
            "CONSISTENCY READ one WRITE Most",
            "-ERR unknown consistency level 'Most'\r\n",
        ),
        (
            "CONSISTENCY WRITE 0",
            "-ERR unknown consistency level '0'\r\n",
        ),
        (
            "CONSISTENCY WRITE one READ each_quorum",
            "-ERR EACH_QUORUM is for writes\r\n",
        ),
    ] {
        assert_eq!(client.call(words).await, error, "{words}");
    }
    assert_eq!(
        client.call("CONSISTENCY").await,
        pair("local_quorum", "local_quorum")
    );
}

#[tokio::test]
async fn requests_carry_the_levels_of_their_connection_in_the_order_of_a_pipeline() {
    for cold in [false, true] {
        let (mut client, house) = client();
        if cold {
            house.model.turn_cold();
        }
        let pipeline = [
            encode(&[b"GET", b"k"]),
            encode(&[b"CONSISTENCY", b"READ", b"one", b"WRITE", b"all"]),
            encode(&[b"MGET", b"k", b"l"]),
            encode(&[b"MSET", b"k", b"1", b"l", b"2"]),
            encode(&[b"GET", b"k"]),
        ]
        .concat();
        client.send(&pipeline).await;
        assert_eq!(client.reply().await, "$-1\r\n");
        assert_eq!(client.reply().await, pair("one", "all"));
        assert_eq!(client.reply().await, "*2\r\n$-1\r\n$-1\r\n");
        assert_eq!(client.reply().await, "+OK\r\n");
        assert_eq!(client.reply().await, "$1\r\n1\r\n");
        assert_eq!(
            house.model.levels(),
            [
                "read local_quorum",
                "read one",
                "read one",
                "write all",
                "write all",
                "read one"
            ]
        );
    }
}

#[tokio::test]
async fn at_is_for_one_command() {
    let (mut client, house) = client();
    assert_eq!(client.call("AT each_quorum SET k v").await, "+OK\r\n");
    assert_eq!(client.call("at One get k").await, "$1\r\nv\r\n");
    assert_eq!(client.call("GET k").await, "$1\r\nv\r\n");
    assert_eq!(
        house.model.levels(),
        ["write each_quorum", "read one", "read local_quorum"]
    );
    assert_eq!(
        client.call("CONSISTENCY").await,
        pair("local_quorum", "local_quorum")
    );
}

#[tokio::test]
async fn a_command_of_several_steps_reads_and_writes_at_its_levels() {
    let (mut client, house) = client();
    assert_eq!(client.call("SADD from a b c").await, ":3\r\n");
    house.model.levels();
    assert_eq!(
        client.call("CONSISTENCY READ one WRITE two").await,
        pair("one", "two")
    );
    for (words, read, write) in [
        ("SMOVE from to a", "read one", "write two"),
        ("AT all SMOVE from to b", "read all", "write all"),
        // A majority in every region is for writes.
        (
            "AT each_quorum SMOVE from to c",
            "read one",
            "write each_quorum",
        ),
    ] {
        assert_eq!(client.call(words).await, ":1\r\n");
        assert_eq!(
            house.model.levels(),
            [read, read, read, write, write],
            "{words}"
        );
    }
    assert!(
        client
            .call("AT three SUNION from to")
            .await
            .starts_with("*3\r\n")
    );
    assert!(
        house
            .model
            .levels()
            .iter()
            .all(|level| level == "read three")
    );
}

#[tokio::test]
async fn at_before_what_has_no_keys_is_just_that() {
    let (mut client, _house) = client();
    assert_eq!(client.call("AT each_quorum PING").await, "+PONG\r\n");
    assert_eq!(client.call("AT one DBSIZE").await, ":0\r\n");
    assert_eq!(
        client.call("AT one CONSISTENCY READ two").await,
        pair("two", "local_quorum")
    );
    client.send(&encode(&[b"AT", b"one", b"QUIT"])).await;
    assert_eq!(client.rest().await, b"+OK\r\n");
}

#[tokio::test]
async fn at_refuses_what_it_cannot_run() {
    let (mut client, house) = client();
    for (words, error) in [
        ("AT", "-ERR wrong number of arguments for 'at' command\r\n"),
        (
            "AT one",
            "-ERR wrong number of arguments for 'at' command\r\n",
        ),
        ("AT Most GET k", "-ERR unknown consistency level 'Most'\r\n"),
        ("AT 256 GET k", "-ERR unknown consistency level '256'\r\n"),
        ("AT EACH_QUORUM GET k", "-ERR EACH_QUORUM is for writes\r\n"),
        (
            "AT each_quorum SUNION a b",
            "-ERR EACH_QUORUM is for writes\r\n",
        ),
        ("AT one AT two GET k", "-ERR AT calls can not be nested\r\n"),
        (
            "AT one NOPE k",
            "-ERR unknown command 'NOPE', with args beginning with: 'k' \r\n",
        ),
        (
            "AT one CLIENT NOPE",
            "-ERR unknown subcommand 'NOPE'. Try CLIENT HELP.\r\n",
        ),
        (
            "AT one GET",
            "-ERR wrong number of arguments for 'get' command\r\n",
        ),
    ] {
        assert_eq!(client.call(words).await, error, "{words}");
    }
    assert!(house.model.levels().is_empty());
}

#[tokio::test]
async fn at_is_counted_under_the_name_of_its_command() {
    let (mut client, _house) = client();
    assert_eq!(client.call("AT one SET k v").await, "+OK\r\n");
    assert!(client.call("AT one GET").await.starts_with("-ERR wrong"));
    assert!(client.call("AT most GET k").await.starts_with("-ERR unkn"));
    let stats = client.call("INFO commandstats").await;
    for field in [
        "cmdstat_set:calls=1,",
        "cmdstat_get:calls=0,usec=0,usec_per_call=0.00,rejected_calls=1,",
        "cmdstat_at:calls=0,usec=0,usec_per_call=0.00,rejected_calls=1,",
    ] {
        assert!(stats.contains(field), "{field} in {stats}");
    }
}

#[tokio::test]
async fn tools_find_the_keys_of_the_command_behind_at() {
    let (mut client, _house) = client();
    for (words, reply) in [
        ("AT one MSET a 1 b 2", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        ("AT one SINTERCARD 2 a b", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        ("AT one PING", "-ERR The command has no key arguments\r\n"),
        ("AT one NOPE", "-ERR Invalid command specified\r\n"),
        (
            "AT one AT one GET k",
            "-ERR Invalid arguments specified for command\r\n",
        ),
        (
            "AT one",
            "-ERR Invalid number of arguments specified for command\r\n",
        ),
        (
            "CONSISTENCY READ one",
            "-ERR The command has no key arguments\r\n",
        ),
    ] {
        let reply_here = client.call(&format!("COMMAND GETKEYS {words}")).await;
        assert_eq!(reply_here, reply, "{words}");
    }
    let rows = client.call("COMMAND INFO at consistency").await;
    assert!(rows.contains("$2\r\nat\r\n:-3\r\n") && rows.contains("movablekeys"));
    assert!(rows.contains("$11\r\nconsistency\r\n:-1\r\n"));
}
