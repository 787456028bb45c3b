//! `meridian cli`: commands to a node and its replies, one command or one a line, much as `redis-cli` does.

mod answer;
mod session;
mod show;
mod words;

use std::{
    io::{self, BufRead, IsTerminal, Write},
    os::unix::ffi::OsStrExt,
};

pub use self::session::ClientError;
use self::{answer::Answer, session::Session, show::Style};
use super::{ClientArgs, complaint::complain, failure::Failure};

/// Sends the command of `args`, or those on stdin.
pub fn run(args: &ClientArgs, mut out: impl Write) -> Result<(), Failure> {
    let style = if args.raw || !(args.no_raw || io::stdout().is_terminal()) {
        Style::Raw
    } else {
        Style::Typed
    };
    let mut client = Client {
        host: args.host.clone(),
        port: args.port,
        session: None,
    };
    if args.command.is_empty() {
        let prompt = io::stdin().is_terminal();
        return client.talk(io::stdin().lock(), prompt, style, out);
    }
    let command: Vec<_> = args.command.iter().map(|word| word.as_bytes()).collect();
    let answer = client.ask(&command)?;
    style.write(&answer, &mut out)?;
    match answer {
        Answer::Error(_) => Err(Failure::Refused),
        _ => Ok(()),
    }
}

/// A node's address, and the session with it while there is one.
struct Client {
    host: String,
    port: u16,
    session: Option<Session>,
}

impl Client {
    /// Sends each line until the end of input. A failure is shown and the next line tried; one that a script did not
    /// see is told at the end.
    fn talk(
        &mut self,
        mut lines: impl BufRead,
        prompt: bool,
        style: Style,
        mut out: impl Write,
    ) -> Result<(), Failure> {
        let mut refused = false;
        let mut line = Vec::new();
        loop {
            if prompt {
                write!(out, "{}:{}> ", self.host, self.port)?;
                out.flush()?;
            }
            line.clear();
            if lines.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            match words::split(&line) {
                Ok(words) if words.is_empty() => {}
                Ok(words) if is_farewell(&words) => break,
                Ok(words) => refused |= !self.exchange(&words, style, &mut out)?,
                Err(error) => {
                    refused = true;
                    writeln!(out, "{error}")?;
                }
            }
        }
        if refused && !prompt {
            return Err(Failure::Refused);
        }
        Ok(())
    }

    /// One command and its reply; whether it was carried out.
    fn exchange(
        &mut self,
        words: &[Vec<u8>],
        style: Style,
        out: &mut impl Write,
    ) -> Result<bool, io::Error> {
        match self.ask(words) {
            Ok(answer) => {
                style.write(&answer, out)?;
                Ok(!matches!(answer, Answer::Error(_)))
            }
            Err(error) => {
                complain(error);
                Ok(false)
            }
        }
    }

    fn ask(&mut self, words: &[impl AsRef<[u8]>]) -> Result<Answer, ClientError> {
        // Taken out: a session that failed is not used again, as a late reply would be taken for the next one.
        let mut session = match self.session.take() {
            Some(session) => session,
            None => Session::connect(&self.host, self.port)?,
        };
        let answer = session.ask(words)?;
        self.session = Some(session);
        Ok(answer)
    }
}

fn is_farewell(words: &[Vec<u8>]) -> bool {
    let [word] = words else {
        return false;
    };
    word.eq_ignore_ascii_case(b"quit") || word.eq_ignore_ascii_case(b"exit")
}
