//! The load of quorum.sh: closed loops over one connection each, the same for every system, until the time is over.
//!
//!     quorum-load OPERATION HOST:PORT CONNECTIONS SECONDS KEYS VALUE_BYTES
//!
//! It prints operations per second, and the median and 99th percentile of their latency in microseconds, between tabs. `fill` and
//! `etcd-fill` write every key once instead, however long it takes. An answer that is not the one hoped for ends it with an error.
//!
//! One file without dependencies, so that `rustc -O` builds it in seconds. etcd is spoken to in its own language, gRPC: HTTP/2 frames
//! with one stream at a time, whose headers are in the table of the connection after the first request, as a real client's are.
use std::{
    env,
    io::{self, Read, Write},
    net::TcpStream,
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    /// SET of the Redis protocol.
    Set,
    /// SET and `WAIT 1 0` in one packet; done when both are answered.
    SetWait,
    /// GET of a key that is there.
    Get,
    EtcdPut,
    /// A range of one key from the store of the node that is asked.
    EtcdSerializable,
    /// The same, after the leader has made sure that it still is one.
    EtcdLinearizable,
}

struct Plan {
    operation: Operation,
    fill: bool,
    address: String,
    connections: u64,
    time: Duration,
    keys: u64,
    value: Vec<u8>,
}

fn main() {
    let plan = Plan::from_args().unwrap_or_else(|| {
        eprintln!(
            "usage: quorum-load fill|set|set-wait|get|etcd-fill|etcd-put|etcd-serializable|etcd-linearizable \
             HOST:PORT CONNECTIONS SECONDS KEYS VALUE_BYTES"
        );
        std::process::exit(2);
    });
    match run(&plan) {
        Ok((mut latencies, took)) => {
            latencies.sort_unstable();
            println!(
                "{:.0}\t{:.1}\t{:.1}",
                latencies.len() as f64 / took.as_secs_f64(),
                percentile_us(&latencies, 50),
                percentile_us(&latencies, 99)
            );
        }
        Err(error) => {
            eprintln!("quorum-load: {}: {error}", plan.address);
            std::process::exit(1);
        }
    }
}

impl Plan {
    fn from_args() -> Option<Self> {
        let args: Vec<String> = env::args().skip(1).collect();
        let [operation, address, connections, seconds, keys, value_bytes] = args.as_slice() else {
            return None;
        };
        Some(Self {
            operation: match operation.as_str() {
                "fill" | "set" => Operation::Set,
                "set-wait" => Operation::SetWait,
                "get" => Operation::Get,
                "etcd-fill" | "etcd-put" => Operation::EtcdPut,
                "etcd-serializable" => Operation::EtcdSerializable,
                "etcd-linearizable" => Operation::EtcdLinearizable,
                _ => return None,
            },
            fill: operation.ends_with("fill"),
            address: address.clone(),
            connections: connections.parse().ok()?,
            time: Duration::from_secs_f64(seconds.parse().ok()?),
            keys: keys.parse().ok()?,
            value: vec![b'x'; value_bytes.parse().ok()?],
        })
    }
}

/// Every latency in nanoseconds, and the time from the first request to the last answer.
fn run(plan: &Plan) -> io::Result<(Vec<u64>, Duration)> {
    let connected = Barrier::new(plan.connections as usize);
    let next_key = AtomicU64::new(0);
    let one = |seed| {
        let mut connection = Connection::open(plan);
        connected.wait();
        let began = Instant::now();
        let latencies = connection
            .as_mut()
            .map_err(|e| io::Error::new(e.kind(), e.to_string()))
            .and_then(|connection| repeat(plan, connection, seed, &next_key));
        latencies.map(|latencies| (latencies, began.elapsed()))
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.connections)
            .map(|i| {
                let one = &one;
                scope.spawn(move || one(i))
            })
            .collect();
        let mut all = (Vec::new(), Duration::ZERO);
        for thread in threads {
            let (latencies, took) = thread.join().map_err(|_| failed("a thread panicked"))??;
            all.0.extend(latencies);
            all.1 = all.1.max(took);
        }
        Ok(all)
    })
}

/// One request after the other, until the time is over or every key is filled.
fn repeat(
    plan: &Plan,
    connection: &mut Connection,
    seed: u64,
    next_key: &AtomicU64,
) -> io::Result<Vec<u64>> {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ plan.time.as_nanos() as u64);
    let mut latencies = Vec::new();
    let began = Instant::now();
    loop {
        let key = if plan.fill {
            next_key.fetch_add(1, Ordering::Relaxed)
        } else {
            dice.roll() % plan.keys
        };
        if key >= plan.keys || (!plan.fill && began.elapsed() >= plan.time) {
            return Ok(latencies);
        }
        connection.prepare(plan, format!("key:{key:012}").as_bytes());
        let asked = Instant::now();
        connection.ask(plan.operation)?;
        latencies.push(asked.elapsed().as_nanos() as u64);
    }
}

/// A socket, the request that goes out, and what came in and is not read yet.
struct Connection {
    socket: TcpStream,
    request: Vec<u8>,
    input: Vec<u8>,
    read: usize,
    /// Of HTTP/2: the stream of the last request, odd; 0 before the first.
    stream: u32,
}

impl Connection {
    fn open(plan: &Plan) -> io::Result<Self> {
        let mut socket = TcpStream::connect(&plan.address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(ANSWER_LIMIT))?;
        if plan.operation.is_etcd() {
            let mut opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            frame(&mut opening, SETTINGS, 0, 0, &[]);
            // So much that the answers of one run never use it up.
            let window = (i32::MAX as u32 - 65_535).to_be_bytes();
            frame(&mut opening, WINDOW_UPDATE, 0, 0, &window);
            socket.write_all(&opening)?;
        }
        Ok(Self {
            socket,
            request: Vec::new(),
            input: Vec::new(),
            read: 0,
            stream: 0,
        })
    }

    fn prepare(&mut self, plan: &Plan, key: &[u8]) {
        self.request.clear();
        match plan.operation {
            Operation::Set => command(&mut self.request, &[b"SET", key, &plan.value]),
            Operation::SetWait => {
                command(&mut self.request, &[b"SET", key, &plan.value]);
                command(&mut self.request, &[b"WAIT", b"1", b"0"]);
            }
            Operation::Get => command(&mut self.request, &[b"GET", key]),
            Operation::EtcdPut => {
                let mut put = Vec::new();
                field(&mut put, 1, key);
                field(&mut put, 2, &plan.value);
                self.call(plan, "/etcdserverpb.KV/Put", &put);
            }
            Operation::EtcdSerializable | Operation::EtcdLinearizable => {
                let mut range = Vec::new();
                field(&mut range, 1, key);
                if plan.operation == Operation::EtcdSerializable {
                    range.extend([7 << 3, 1]);
                }
                self.call(plan, "/etcdserverpb.KV/Range", &range);
            }
        }
    }

    fn ask(&mut self, operation: Operation) -> io::Result<()> {
        self.socket.write_all(&self.request)?;
        match operation {
            Operation::Set => self.expect_ok(),
            Operation::SetWait => {
                self.expect_ok()?;
                let replicas = self.line()?;
                if replicas.starts_with(b":") && replicas != b":0" {
                    return Ok(());
                }
                Err(unexpected(&replicas))
            }
            Operation::Get => {
                let head = self.line()?;
                if !head.starts_with(b"$") || head.starts_with(b"$-") {
                    return Err(unexpected(&head));
                }
                self.line().map(drop)
            }
            Operation::EtcdPut => self.answer(1),
            // The answer holds the value: its length is in one byte, the value's own in another.
            Operation::EtcdSerializable | Operation::EtcdLinearizable => self.answer(64),
        }
    }

    fn expect_ok(&mut self) -> io::Result<()> {
        let line = self.line()?;
        if line == b"+OK" {
            Ok(())
        } else {
            Err(unexpected(&line))
        }
    }

    /// A line of the Redis protocol, without its end. Values here have no line ends in them.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let rest = &self.input[self.read..];
            if let Some(at) = rest.windows(2).position(|pair| pair == b"\r\n") {
                let line = rest[..at].to_vec();
                self.read += at + 2;
                return Ok(line);
            }
            self.receive()?;
        }
    }

    /// Appends a unary gRPC call to the request.
    fn call(&mut self, plan: &Plan, path: &str, message: &[u8]) {
        let first = self.stream == 0;
        self.stream = if first { 1 } else { self.stream + 2 };
        let mut headers = vec![0x83, 0x86]; // :method POST, :scheme http
        if first {
            // Literals that go into the table: names by their number in the static one, `te` by itself.
            for (name, value) in [
                (0x44, path),
                (0x41, plan.address.as_str()),
                (0x5f, "application/grpc"),
            ] {
                headers.push(name);
                text(&mut headers, value);
            }
            headers.push(0x40);
            text(&mut headers, "te");
            text(&mut headers, "trailers");
        } else {
            // Those four, the last one first in the table.
            headers.extend([0xc1, 0xc0, 0xbf, 0xbe]);
        }
        frame(
            &mut self.request,
            HEADERS,
            END_HEADERS,
            self.stream,
            &headers,
        );
        let mut body = vec![0]; // not compressed
        body.extend((message.len() as u32).to_be_bytes());
        body.extend(message);
        frame(&mut self.request, DATA, END_STREAM, self.stream, &body);
    }

    /// Reads frames until the call is over. A failed call has no message.
    fn answer(&mut self, least_bytes: usize) -> io::Result<()> {
        let mut message_bytes = 0;
        loop {
            let (kind, flags, stream, payload) = self.frame()?;
            match kind {
                DATA if stream == self.stream => message_bytes += payload.len(),
                SETTINGS if flags & ACK == 0 => self.send(SETTINGS, &[])?,
                PING if flags & ACK == 0 => self.send(PING, &payload)?,
                RESET | GO_AWAY => return Err(unexpected(&payload)),
                _ => {}
            }
            if stream == self.stream && flags & END_STREAM != 0 && matches!(kind, DATA | HEADERS) {
                if message_bytes >= least_bytes {
                    return Ok(());
                }
                return Err(unexpected(&payload));
            }
        }
    }

    fn frame(&mut self) -> io::Result<(u8, u8, u32, Vec<u8>)> {
        loop {
            let rest = &self.input[self.read..];
            if let [a, b, c, kind, flags, d, e, f, g, payload @ ..] = rest {
                let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                if payload.len() >= length {
                    let stream = u32::from_be_bytes([*d, *e, *f, *g]);
                    let frame = (*kind, *flags, stream, payload[..length].to_vec());
                    self.read += 9 + length;
                    return Ok(frame);
                }
            }
            self.receive()?;
        }
    }

    fn send(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame(&mut bytes, kind, ACK, 0, payload);
        self.socket.write_all(&bytes)
    }

    fn receive(&mut self) -> io::Result<()> {
        self.input.drain(..self.read);
        self.read = 0;
        let mut bytes = [0; 4096];
        match self.socket.read(&mut bytes)? {
            0 => Err(failed("the server closed the connection")),
            n => {
                self.input.extend(&bytes[..n]);
                Ok(())
            }
        }
    }
}

impl Operation {
    fn is_etcd(self) -> bool {
        match self {
            Self::Set | Self::SetWait | Self::Get => false,
            Self::EtcdPut | Self::EtcdSerializable | Self::EtcdLinearizable => true,
        }
    }
}

/// xorshift64*: keys need to be spread, not secret.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 |= u64::from(self.0 == 0);
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }
}

fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend(format!("*{}\r\n", words.len()).bytes());
    for word in words {
        out.extend(format!("${}\r\n", word.len()).bytes());
        out.extend(*word);
        out.extend(b"\r\n");
    }
}

/// A protobuf field of bytes, fewer than 128.
fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.extend([number << 3 | 2, small(bytes.len())]);
    out.extend(bytes);
}

/// A string of HPACK, plain.
fn text(out: &mut Vec<u8>, text: &str) {
    out.push(small(text.len()));
    out.extend(text.bytes());
}

/// Lengths are one byte in both encodings only below 127.
fn small(length: usize) -> u8 {
    assert!(length < 127, "keys, values and headers are short here");
    length as u8
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

fn percentile_us(sorted_ns: &[u64], percent: usize) -> f64 {
    let rank = (sorted_ns.len() * percent).div_ceil(100).max(1);
    sorted_ns
        .get(rank - 1)
        .map_or(0.0, |ns| *ns as f64 / 1000.0)
}

fn unexpected(answer: &[u8]) -> io::Error {
    failed(&format!(
        "unexpected answer {:?}",
        String::from_utf8_lossy(answer)
    ))
}

fn failed(what: &str) -> io::Error {
    io::Error::other(what)
}

const ANSWER_LIMIT: Duration = Duration::from_secs(30);

// Frames of HTTP/2 (RFC 9113, section 6) and their flags.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
