//! Writers that go on until they are told to stop or are cut off, and remember what was acknowledged.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    client::{Client, Value},
    patience::{eventually, holds},
};

/// A connection that writes strings, a counter and a set in long pipelines.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    thread: JoinHandle<Written>,
}

/// What a load wrote.
#[derive(Debug)]
pub struct Written {
    name: String,
    /// Rounds of one SET, one INCR and one SADD that were sent.
    pub sent: u64,
    /// Rounds whose SET was acknowledged.
    pub strings: BTreeSet<u64>,
    /// How many increments were acknowledged.
    pub increments: u64,
    /// Rounds whose SADD was acknowledged.
    pub members: BTreeSet<u64>,
}

impl Load {
    /// Begins to write to `address` under keys that begin with `name`.
    pub fn start(name: &str, address: &str) -> Self {
        let mut client = Client::connect(address).expect("a node that is ready takes clients");
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (stopped, counted) = (stop.clone(), acknowledged.clone());
        let mut written = Written::new(name);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if written.pipeline(&mut client, &counted).is_err() {
                    break;
                }
            }
            written
        });
        Self {
            stop,
            acknowledged,
            thread,
        }
    }

    /// Waits until this many commands were acknowledged.
    pub fn await_acknowledged(&self, commands: u64) {
        eventually(LOAD_LIMIT, "a load is acknowledged", || {
            let seen = self.acknowledged.load(Ordering::Relaxed);
            holds(seen >= commands, || format!("{seen} of {commands}"))
        });
    }

    /// Ends the load behind its last pipeline, if it has not ended with its connection.
    pub fn finish(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a writer does not panic")
    }
}

impl Written {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            sent: 0,
            strings: BTreeSet::new(),
            increments: 0,
            members: BTreeSet::new(),
        }
    }

    fn pipeline(&mut self, client: &mut Client, acknowledged: &AtomicU64) -> std::io::Result<()> {
        let rounds = self.sent..self.sent + ROUNDS;
        let commands: Vec<_> = rounds.clone().flat_map(|round| self.round(round)).collect();
        self.sent = rounds.end;
        client.send(&commands)?;
        for round in rounds {
            for kind in 0..3 {
                let reply = client.receive()?;
                if reply.is_error() {
                    continue; // it may have taken effect: it is sent, and no more
                }
                match kind {
                    0 => drop(self.strings.insert(round)),
                    1 => self.increments += 1,
                    _ => drop(self.members.insert(round)),
                }
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn round(&self, round: u64) -> [Vec<String>; 3] {
        let name = &self.name;
        [
            vec!["SET".into(), format!("{name}:{round}"), round.to_string()],
            vec!["INCR".into(), format!("{name}:count")],
            vec!["SADD".into(), format!("{name}:set"), round.to_string()],
        ]
    }

    /// Whether all that was acknowledged is there, and nothing that was never sent.
    ///
    /// # Errors
    /// If something is missing or too much.
    pub fn check(&self, client: &mut Client) -> Result<(), String> {
        self.check_strings(client)?;
        self.check_members(client)?;
        let key = format!("{}:count", self.name);
        let count = client.text(&["GET", &key]).unwrap_or_default();
        let count: u64 = count.parse().unwrap_or_default();
        holds((self.increments..=self.sent).contains(&count), || {
            let (acknowledged, sent) = (self.increments, self.sent);
            format!("{key} is {count}; {acknowledged} acknowledged, {sent} sent")
        })
    }

    fn check_strings(&self, client: &mut Client) -> Result<(), String> {
        let rounds: Vec<u64> = self.strings.iter().copied().collect();
        for chunk in rounds.chunks(CHUNK) {
            let gets: Vec<_> = chunk
                .iter()
                .map(|round| vec!["GET".to_owned(), format!("{}:{round}", self.name)])
                .collect();
            for (round, reply) in chunk.iter().zip(client.pipeline(&gets)) {
                holds(reply.text() == Some(round.to_string()), || {
                    format!("{}:{round} is {reply:?}", self.name)
                })?;
            }
        }
        Ok(())
    }

    fn check_members(&self, client: &mut Client) -> Result<(), String> {
        let key = format!("{}:set", self.name);
        let present: BTreeSet<u64> = client
            .texts(&["SMEMBERS", &key])
            .iter()
            .filter_map(|member| member.parse().ok())
            .collect();
        let missing = self.members.difference(&present).next();
        holds(missing.is_none(), || format!("{key} lacks {missing:?}"))?;
        let unheard = present.iter().find(|member| **member >= self.sent);
        holds(unheard.is_none(), || format!("{key} has {unheard:?}"))
    }
}

/// Sends commands as one pipeline; every one must be acknowledged.
///
/// # Panics
/// If one is not.
pub fn write_all(client: &mut Client, commands: &[Vec<String>]) {
    for (command, reply) in commands.iter().zip(client.pipeline(commands)) {
        assert!(
            !matches!(reply, Value::Error(_)),
            "{command:?} gave {reply:?}"
        );
    }
}

/// Rounds of three commands in one pipeline.
const ROUNDS: u64 = 100;
/// Reads in one pipeline.
const CHUNK: usize = 500;
const LOAD_LIMIT: Duration = Duration::from_secs(60);
