//! A connection to a node.

use std::{
    io::{self, BufReader, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use super::answer::{Answer, AnswerError};

/// Why a node could not be talked to.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The host has no address. *State unchanged.*
    #[error("no address of '{host}': {reason}")]
    Unresolved { host: String, reason: io::Error },
    /// Nobody takes the connection. *State unchanged, safe to retry.*
    #[error("cannot connect to {host}:{port}: {reason}")]
    Unreachable {
        host: String,
        port: u16,
        reason: io::Error,
    },
    /// The command could not be sent whole. *The node did not carry it out.*
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// No reply, or none that is one. *Whether the command was carried out is unknown.*
    #[error("no reply: {0}")]
    Unanswered(#[from] AnswerError),
}

/// A connection to a node, RESP3 where it speaks that.
pub struct Session {
    replies: BufReader<TcpStream>,
}

impl Session {
    /// Connects to the first address of `host` that answers.
    pub fn connect(host: &str, port: u16) -> Result<Self, ClientError> {
        let addresses =
            (host, port)
                .to_socket_addrs()
                .map_err(|reason| ClientError::Unresolved {
                    host: host.to_owned(),
                    reason,
                })?;
        let mut reason = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match TcpStream::connect_timeout(&address, CONNECT_PATIENCE) {
                Ok(stream) => return Self::greet(stream),
                Err(error) => reason = error,
            }
        }
        Err(ClientError::Unreachable {
            host: host.to_owned(),
            port,
            reason,
        })
    }

    fn greet(stream: TcpStream) -> Result<Self, ClientError> {
        stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(REPLY_PATIENCE)))
            .and_then(|()| stream.set_write_timeout(Some(REPLY_PATIENCE)))
            .map_err(ClientError::Broken)?;
        let mut session = Self {
            replies: BufReader::new(stream),
        };
        // An old Redis answers with an error and goes on in RESP2, which is understood too.
        session.ask(&["HELLO", "3"])?;
        Ok(session)
    }

    /// Sends a command and waits for its reply. After an error the session is of no use.
    pub fn ask(&mut self, words: &[impl AsRef<[u8]>]) -> Result<Answer, ClientError> {
        let command = encode(words);
        self.replies
            .get_mut()
            .write_all(&command)
            .map_err(ClientError::Broken)?;
        Ok(Answer::read(&mut self.replies)?)
    }
}

fn encode(words: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut command = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        command.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        command.extend_from_slice(word);
        command.extend_from_slice(b"\r\n");
    }
    command
}

const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
const REPLY_PATIENCE: Duration = Duration::from_secs(60);
