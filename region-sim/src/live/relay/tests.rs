//! Goal: processes on both ends of a relay see what the lanes' settings say, and nothing else.
//! Method: a UDP echo behind a relay on loopback, real time; delays are checked as lower bounds only.

use tokio::{net::UdpSocket, time::timeout};

use super::*;
use crate::link::{Loss, Rate, Settings};

const PATIENCE: Duration = Duration::from_secs(10);

struct Bench {
    there: Arc<Lane>,
    back: Arc<Lane>,
    relay: Relay,
    _pacer: Pacer,
    echo: JoinHandle<()>,
}

impl Bench {
    async fn new(settings: Settings, bounds: Bounds) -> Self {
        let there = Arc::new(Lane::new(settings, 1));
        let back = Arc::new(Lane::new(settings, 2));
        let pacer = Pacer::new().unwrap();
        let relay = Relay::bind(there.clone(), back.clone(), &pacer, bounds).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        relay.set_target(socket.local_addr().unwrap());
        let echo = tokio::spawn(async move {
            let mut buffer = vec![0; 65536];
            while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
                socket.send_to(&buffer[..len], from).await.unwrap();
            }
        });
        Self {
            there,
            back,
            relay,
            _pacer: pacer,
            echo,
        }
    }

    fn set(&self, settings: Settings) {
        self.there.set(settings);
        self.back.set(settings);
    }

    async fn client(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(self.relay.local()).await.unwrap();
        socket
    }

    /// Waits until as many datagrams as sent have met a fate on the way there.
    async fn settled(&self, sent: u64) -> Tally {
        let settled = async {
            loop {
                let tally = self.there.tally();
                if tally.passed + tally.lost + tally.cut + tally.queue_full + tally.unsent >= sent {
                    return tally;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, settled).await.unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.echo.abort();
    }
}

async fn receive(client: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65536];
    let len = timeout(PATIENCE, client.recv(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    buffer.truncate(len);
    buffer
}

async fn round_trip(client: &UdpSocket, payload: &[u8]) -> Duration {
    let sent = Instant::now();
    client.send(payload).await.unwrap();
    assert_eq!(receive(client).await, payload);
    sent.elapsed()
}

fn rtt(ms: u64) -> Settings {
    Settings::with_rtt(Duration::from_millis(ms))
}

#[tokio::test]
async fn datagrams_of_any_size_pass_unchanged_and_in_order() {
    let bench = Bench::new(rtt(0), Bounds::default()).await;
    let client = bench.client().await;
    for size in [1, 1200, 1452, 9000, 60_000] {
        let payload: Vec<u8> = (0..size).map(|i| i as u8).collect();
        round_trip(&client, &payload).await;
    }
}

#[tokio::test]
async fn a_burst_over_a_delayed_link_arrives_whole_and_in_order() {
    let bench = Bench::new(rtt(20), Bounds::default()).await;
    let client = bench.client().await;
    for i in 0..200u32 {
        client.send(&i.to_be_bytes()).await.unwrap();
    }
    for i in 0..200u32 {
        assert_eq!(receive(&client).await, i.to_be_bytes());
    }
}

#[tokio::test]
async fn a_round_trip_takes_the_delay_at_least() {
    let bench = Bench::new(rtt(40), Bounds::default()).await;
    let client = bench.client().await;
    for _ in 0..5 {
        assert!(round_trip(&client, b"ping").await >= Duration::from_millis(40));
    }
}

#[tokio::test]
async fn settings_change_while_datagrams_flow() {
    let bench = Bench::new(rtt(0), Bounds::default()).await;
    let client = bench.client().await;
    round_trip(&client, b"fast").await;
    bench.set(rtt(60));
    assert!(round_trip(&client, b"slow").await >= Duration::from_millis(60));
    bench.set(rtt(0));
    round_trip(&client, b"fast again").await;
    bench.there.set(Settings {
        loss: Loss::ALL,
        ..Settings::default()
    });
    client.send(b"lost").await.unwrap();
    assert_eq!(bench.settled(4).await.lost, 1);
    bench.there.set(Settings::default());
    round_trip(&client, b"back").await;
}

#[tokio::test]
async fn nothing_arrives_over_a_link_that_loses_all() {
    let bench = Bench::new(
        Settings {
            loss: Loss::ALL,
            ..Settings::default()
        },
        Bounds::default(),
    )
    .await;
    let client = bench.client().await;
    for _ in 0..100 {
        client.send(b"lost").await.unwrap();
    }
    assert_eq!(
        bench.settled(100).await,
        Tally {
            lost: 100,
            ..Tally::default()
        }
    );
}

#[tokio::test]
async fn a_cut_link_loses_also_what_is_on_its_way_and_mends() {
    let bench = Bench::new(rtt(100), Bounds::default()).await;
    let client = bench.client().await;
    client.send(b"on its way").await.unwrap();
    let entered = async {
        while bench.there.waiting() == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, entered).await.unwrap();
    bench.there.set_cut(true);
    client.send(b"too late").await.unwrap();
    assert_eq!(
        bench.settled(2).await,
        Tally {
            cut: 2,
            ..Tally::default()
        }
    );
    bench.there.set_cut(false);
    assert!(round_trip(&client, b"mended").await >= Duration::from_millis(100));
}

#[tokio::test]
async fn a_slow_link_spreads_a_burst_over_time() {
    // 40 datagrams of 1,250 bytes are 400,000 bits: 400 ms at 1 Mbit/s.
    let bench = Bench::new(rtt(0), Bounds::default()).await;
    bench.there.set(Settings {
        rate: Rate::from_bits(1_000_000),
        ..Settings::default()
    });
    let client = bench.client().await;
    let start = Instant::now();
    for _ in 0..40 {
        client.send(&[7; 1250]).await.unwrap();
    }
    for _ in 0..40 {
        receive(&client).await;
    }
    assert!(start.elapsed() >= Duration::from_millis(400));
}

#[tokio::test]
async fn flows_are_bounded_and_make_room_when_idle() {
    let bounds = Bounds {
        flows: 4,
        idle: Duration::from_millis(200),
    };
    let bench = Bench::new(rtt(0), bounds).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let client = bench.client().await;
        round_trip(&client, b"in").await;
        clients.push(client);
    }
    let late = bench.client().await;
    let unsent = async {
        while bench.there.tally().unsent == 0 {
            late.send(b"no room").await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, unsent).await.unwrap();
    let mut buffer = [0; 16];
    let makes_room = async {
        loop {
            late.send(b"room").await.unwrap();
            if timeout(Duration::from_millis(20), late.recv(&mut buffer))
                .await
                .is_ok()
            {
                return;
            }
        }
    };
    timeout(PATIENCE, makes_room).await.unwrap();
}

#[tokio::test]
async fn two_clients_get_their_own_answers() {
    let bench = Bench::new(rtt(10), Bounds::default()).await;
    let (one, two) = (bench.client().await, bench.client().await);
    one.send(b"one").await.unwrap();
    two.send(b"two").await.unwrap();
    assert_eq!(receive(&two).await, b"two");
    assert_eq!(receive(&one).await, b"one");
}

#[tokio::test]
async fn a_target_that_was_down_is_reached_when_it_returns_elsewhere() {
    let bench = Bench::new(rtt(0), Bounds::default()).await;
    let client = bench.client().await;
    round_trip(&client, b"here").await;
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    bench.relay.set_target(closed.local_addr().unwrap());
    drop(closed);
    for _ in 0..10 {
        client.send(b"to nobody").await.unwrap();
    }
    bench.settled(11).await;
    let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    bench.relay.set_target(back.local_addr().unwrap());
    let mut buffer = [0; 16];
    let reached = async {
        loop {
            client.send(b"hello").await.unwrap();
            if timeout(Duration::from_millis(20), back.recv(&mut buffer))
                .await
                .is_ok()
            {
                return;
            }
        }
    };
    timeout(PATIENCE, reached).await.unwrap();
    assert_eq!(&buffer[..5], b"hello");
}
