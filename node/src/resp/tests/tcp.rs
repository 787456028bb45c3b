//! The listener, over real sockets.

use tokio::{net::TcpStream, sync::watch, time::timeout};

use super::{
    model::Model,
    wire::{Client, PATIENCE},
};
use crate::resp::{Door, Levels, Limits, Server};

#[tokio::test]
async fn a_server_serves_many_and_stops_when_told() {
    let address = "127.0.0.1:0".parse().expect("an address");
    let server = Server::bind(address).expect("a free port");
    let address = server.local_addr().expect("bound");
    let (stop, stopped) = watch::channel(false);
    let door = Door::new(Model::default(), Limits::default(), Levels::default());
    let serving = tokio::spawn(server.serve(door, stopped));

    let mut clients = Vec::new();
    for number in 0..20 {
        let stream = TcpStream::connect(address).await.expect("accepted");
        let mut client = Client::new(stream);
        assert_eq!(client.call("INCR k").await, format!(":{}\r\n", number + 1));
        clients.push(client);
    }
    let info = clients[0].call("INFO server").await;
    assert!(info.contains(&format!("tcp_port:{}\r\n", address.port())));

    stop.send(true).expect("the server listens");
    timeout(PATIENCE, serving)
        .await
        .expect("in time")
        .expect("no panic");
    for mut client in clients {
        assert_eq!(client.rest().await, b"");
    }
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn an_error_is_read_even_by_a_client_that_keeps_sending() {
    let address = "127.0.0.1:0".parse().expect("an address");
    let server = Server::bind(address).expect("a free port");
    let address = server.local_addr().expect("bound");
    let (_stop, stopped) = watch::channel(false);
    let door = Door::new(Model::default(), Limits::default(), Levels::default());
    let serving = tokio::spawn(server.serve(door, stopped));

    let stream = TcpStream::connect(address).await.expect("accepted");
    let mut client = Client::new(stream);
    client.send(b"*1\r\nbad\r\n").await;
    client.send(&[b'x'; 100_000]).await;
    assert_eq!(
        client.reply().await,
        "-ERR Protocol error: expected '$', got 'b'\r\n"
    );
    serving.abort();
}
