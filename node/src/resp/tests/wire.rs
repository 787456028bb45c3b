//! A client that sends words or raw bytes, and reads raw replies.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use super::model::Model;
use crate::resp::{Door, Levels, Limits, server::Ends};

/// The client's end of a connection.
#[derive(Debug)]
pub(super) struct Client<S = DuplexStream> {
    pub(super) stream: S,
    buffer: BytesMut,
}

/// A node's door that clients can be connected to.
pub(super) struct House {
    pub(super) model: Model,
    pub(super) door: Door<Model>,
    pub(super) stop: watch::Sender<bool>,
}

impl House {
    pub(super) fn new(limits: Limits) -> Self {
        Self::at(limits, Levels::default())
    }

    /// With the levels of connections that choose none.
    pub(super) fn at(limits: Limits, levels: Levels) -> Self {
        let model = Model::default();
        let door = Door::new(model.clone(), limits, levels);
        let (stop, _) = watch::channel(false);
        Self { model, door, stop }
    }

    /// A client over a stream that holds so many bytes each way.
    pub(super) fn connect(&self, buffered: usize) -> (Client, JoinHandle<std::io::Result<()>>) {
        let (near, far) = duplex(buffered);
        let (door, stop) = (self.door.clone(), self.stop.subscribe());
        let ends = Ends {
            remote: "test:1".to_owned(),
            local: "test:2".to_owned(),
        };
        let task = tokio::spawn(async move { door.serve(far, ends, stop).await });
        (Client::new(near), task)
    }
}

/// A client of a house of its own with the default limits.
pub(super) fn client() -> (Client, House) {
    let house = House::new(Limits::default());
    let (client, _) = house.connect(1 << 20);
    (client, house)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(super) fn new(stream: S) -> Self {
        let buffer = BytesMut::new();
        Self { stream, buffer }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream
            .write_all(bytes)
            .await
            .expect("the other end reads");
    }

    /// Sends words separated by blanks and returns the reply, byte by byte.
    pub(super) async fn call(&mut self, words: &str) -> String {
        let words: Vec<&[u8]> = words.split_whitespace().map(str::as_bytes).collect();
        self.send(&encode(&words)).await;
        self.reply().await
    }

    /// The next reply as it came, lossily as text.
    pub(super) async fn reply(&mut self) -> String {
        let bytes = self.reply_bytes().await.expect("a reply, not the end");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The next reply; `None` at the end of the stream.
    pub(super) async fn reply_bytes(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = reply_length(&self.buffer) {
                return Some(self.buffer.split_to(length).to_vec());
            }
            let read = self.stream.read_buf(&mut self.buffer);
            let read = timeout(PATIENCE, read).await.expect("a reply in time");
            if !matches!(read, Ok(bytes) if bytes > 0) {
                return None;
            }
        }
    }

    /// Everything up to the end of the stream.
    pub(super) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = self.buffer.copy_to_bytes(self.buffer.remaining()).to_vec();
        let read = self.stream.read_to_end(&mut rest);
        // A reset is an end as well.
        let _ = timeout(PATIENCE, read).await.expect("the end in time");
        rest
    }
}

/// A command as an array of bulk strings.
pub(super) fn encode(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// How many bytes the reply at the front takes; `None` if it is not complete.
fn reply_length(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let count = || {
        let text = std::str::from_utf8(&bytes[1..line - 2]).expect("a number");
        text.parse::<i64>().expect("a number")
    };
    let items = match bytes[0] {
        b'$' | b'=' => {
            let length = usize::try_from(count()).map_or(0, |length| length + 2);
            return (bytes.len() >= line + length).then_some(line + length);
        }
        b'*' | b'~' => usize::try_from(count()).unwrap_or(0),
        b'%' => 2 * usize::try_from(count()).unwrap_or(0),
        _ => 0,
    };
    let mut at = line;
    for _ in 0..items {
        at += reply_length(&bytes[at..])?;
    }
    Some(at)
}

/// Far longer than anything takes; a hang fails instead of hanging.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
