//! A transaction that is refused has done nothing.

use super::wire::{Client, client, encode};

const NOT_RUN: &str = "-EXECABORT MULTI was refused on this connection";
const ABORTED: &str = "-EXECABORT Transaction discarded because of previous errors.\r\n";

async fn expect_refused_multi(client: &mut Client) {
    let reply = client.reply().await;
    assert!(reply.starts_with("-ERR unknown command 'MULTI'"), "{reply}");
}

#[tokio::test]
async fn nothing_between_multi_and_exec_is_carried_out() {
    let (mut client, _house) = client();
    let pipeline = [
        encode(&[b"SET", b"before", b"1"]),
        encode(&[b"MULTI"]),
        encode(&[b"INCR", b"counter"]),
        encode(&[b"FLUSHALL"]),
        encode(&[b"SELECT", b"0"]),
        encode(&[b"NOPE"]),
        encode(&[b"WATCH", b"before"]),
        encode(&[b"AT", b"ONE", b"SET", b"before", b"2"]),
        encode(&[b"MULTI"]),
        encode(&[b"HELLO", b"3"]),
        encode(&[b"EXEC"]),
        encode(&[b"GET", b"before"]),
        encode(&[b"EXISTS", b"counter"]),
    ];
    client.send(&pipeline.concat()).await;
    assert_eq!(client.reply().await, "+OK\r\n");
    expect_refused_multi(&mut client).await;
    for _ in 0..8 {
        let reply = client.reply().await;
        assert!(reply.starts_with(NOT_RUN), "{reply}");
    }
    assert_eq!(client.reply().await, ABORTED);
    assert_eq!(client.reply().await, "$1\r\n1\r\n");
    assert_eq!(client.reply().await, ":0\r\n");
}

#[tokio::test]
async fn discard_and_reset_end_it_and_quit_closes() {
    let (mut client, _house) = client();
    for (end, reply) in [("DISCARD", "+OK\r\n"), ("reset", "+RESET\r\n")] {
        client.send(&encode(&[b"multi"])).await;
        assert!(client.reply().await.starts_with("-ERR unknown command"));
        assert!(client.call("SET k v").await.starts_with(NOT_RUN));
        assert_eq!(client.call(end).await, reply);
        assert_eq!(client.call("GET k").await, "$-1\r\n");
    }
    let pipeline = [
        encode(&[b"MULTI"]),
        encode(&[b"SET", b"k", b"v"]),
        encode(&[b"QUIT"]),
    ];
    client.send(&pipeline.concat()).await;
    expect_refused_multi(&mut client).await;
    assert!(client.reply().await.starts_with(NOT_RUN));
    assert_eq!(client.rest().await, b"+OK\r\n");
}

#[tokio::test]
async fn a_transaction_behind_at_or_with_words_too_many_is_refused_as_a_whole_too() {
    let (mut client, _house) = client();
    for (begin, end) in [
        ("AT ONE MULTI", "EXEC"),
        ("AT nonsense MULTI", "AT ONE EXEC"),
        ("MULTI now", "EXEC"),
    ] {
        let refused = client.call(begin).await;
        assert!(refused.starts_with("-ERR unknown command"), "{refused}");
        assert!(client.call("SET k v").await.starts_with(NOT_RUN));
        assert_eq!(client.call(end).await, ABORTED, "{begin}");
        assert_eq!(client.call("EXISTS k").await, ":0\r\n");
    }
}

#[tokio::test]
async fn one_connection_s_transaction_is_no_other_s() {
    let (mut client, house) = client();
    client.send(&encode(&[b"MULTI"])).await;
    expect_refused_multi(&mut client).await;
    let (mut other, _) = house.connect(1_024);
    assert_eq!(other.call("SET k v").await, "+OK\r\n");
    // Outside of a transaction these two are as unknown as MULTI.
    assert!(other.call("EXEC").await.starts_with("-ERR unknown command"));
    assert!(
        other
            .call("DISCARD")
            .await
            .starts_with("-ERR unknown command")
    );
}

#[tokio::test]
async fn a_web_page_cannot_use_a_transaction_to_stay_connected() {
    let (mut client, _house) = client();
    client.send(&encode(&[b"MULTI"])).await;
    expect_refused_multi(&mut client).await;
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.rest().await, b"");
}
