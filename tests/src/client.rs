//! A client as plain as can be: what it sends and what it has read are told apart, so that a test knows which commands
//! of a broken pipeline were acknowledged.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

/// A reply, in RESP2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A null of either kind.
    Nil,
    /// An integer.
    Int(i64),
    /// `+OK` and the like.
    Simple(String),
    /// An error, without its `-`.
    Error(String),
    /// A bulk string.
    Bulk(Vec<u8>),
    /// An array.
    Array(Vec<Value>),
}

impl Value {
    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }

    /// What it says, of a string of any kind.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Simple(text) => Some(text.clone()),
            Self::Bulk(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Self::Nil | Self::Int(_) | Self::Error(_) | Self::Array(_) => None,
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    output: TcpStream,
    input: BufReader<TcpStream>,
}

impl Client {
    /// Connects to `host:port`. A reply that takes more than 30 s is an error.
    ///
    /// # Errors
    /// If nobody listens there.
    pub fn connect(address: &str) -> io::Result<Self> {
        let output = TcpStream::connect(address)?;
        output.set_nodelay(true)?;
        output.set_read_timeout(Some(REPLY_LIMIT))?;
        output.set_write_timeout(Some(REPLY_LIMIT))?;
        let input = BufReader::new(output.try_clone()?);
        Ok(Self { output, input })
    }

    /// Sends commands in one write; their replies are to be received.
    ///
    /// # Errors
    /// If the connection is broken.
    pub fn send<S: AsRef<str>>(&mut self, commands: &[Vec<S>]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for command in commands {
            encode(command, &mut bytes);
        }
        self.output.write_all(&bytes)
    }

    /// The next reply.
    ///
    /// # Errors
    /// If the connection is broken, or what comes is no RESP2.
    pub fn receive(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        self.input.read_line(&mut line)?;
        let Some(line) = line.strip_suffix("\r\n") else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| strange(line))?;
        match kind {
            "+" => Ok(Value::Simple(rest.to_owned())),
            "-" => Ok(Value::Error(rest.to_owned())),
            ":" => rest.parse().map(Value::Int).map_err(|_| strange(line)),
            "$" => self.bulk(rest.parse().map_err(|_| strange(line))?),
            "*" => self.array(rest.parse().map_err(|_| strange(line))?),
            _ => Err(strange(line)),
        }
    }

    /// Sends a command and gives its reply.
    ///
    /// # Panics
    /// If the connection breaks.
    pub fn call(&mut self, command: &[&str]) -> Value {
        self.try_call(command)
            .unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Sends a command and gives its reply.
    ///
    /// # Errors
    /// If the connection is broken.
    pub fn try_call(&mut self, command: &[&str]) -> io::Result<Value> {
        self.send(&[command.to_vec()])?;
        self.receive()
    }

    /// Sends commands as one pipeline and gives their replies.
    ///
    /// # Panics
    /// If the connection breaks.
    pub fn pipeline<S: AsRef<str>>(&mut self, commands: &[Vec<S>]) -> Vec<Value> {
        self.send(commands).expect("the connection takes commands");
        commands
            .iter()
            .map(|_| self.receive().expect("each command is answered"))
            .collect()
    }

    /// A command that is answered with a string, or with nothing.
    ///
    /// # Panics
    /// If it is answered otherwise.
    pub fn text(&mut self, command: &[&str]) -> Option<String> {
        let reply = self.call(command);
        if reply == Value::Nil {
            return None;
        }
        Some(
            reply
                .text()
                .unwrap_or_else(|| panic!("{command:?}: {reply:?}")),
        )
    }

    /// A command that is answered with an integer.
    ///
    /// # Panics
    /// If it is answered otherwise.
    pub fn int(&mut self, command: &[&str]) -> i64 {
        match self.call(command) {
            Value::Int(int) => int,
            other => panic!("{command:?}: {other:?}"),
        }
    }

    /// A command that is answered with an array of strings, which are sorted.
    ///
    /// # Panics
    /// If it is answered otherwise.
    pub fn texts(&mut self, command: &[&str]) -> Vec<String> {
        let reply = self.call(command);
        let Value::Array(items) = reply else {
            panic!("{command:?}: {reply:?}");
        };
        let mut texts: Vec<String> = items.iter().filter_map(Value::text).collect();
        texts.sort();
        texts
    }

    fn bulk(&mut self, length: i64) -> io::Result<Value> {
        let Ok(length) = usize::try_from(length) else {
            return Ok(Value::Nil);
        };
        let mut bytes = vec![0; length + 2];
        self.input.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(Value::Bulk(bytes))
    }

    fn array(&mut self, length: i64) -> io::Result<Value> {
        let Ok(length) = usize::try_from(length) else {
            return Ok(Value::Nil);
        };
        let items = (0..length).map(|_| self.receive());
        items.collect::<Result<_, _>>().map(Value::Array)
    }
}

fn encode<S: AsRef<str>>(command: &[S], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
    for part in command {
        let part = part.as_ref();
        bytes.extend_from_slice(format!("${}\r\n{part}\r\n", part.len()).as_bytes());
    }
}

fn strange(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no reply: {line:?}"))
}

const REPLY_LIMIT: Duration = Duration::from_secs(30);
