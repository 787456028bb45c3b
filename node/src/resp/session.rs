//! What a connection remembers about its client.

use std::sync::Arc;

use super::{clients::Client, levels::Levels, transaction::Transaction, writer::Protocol};

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Session {
    /// The client as others see it (CLIENT LIST).
    pub(super) client: Arc<Client>,
    /// Version of the protocol of the next reply.
    pub(super) protocol: Protocol,
    /// The levels of its commands.
    pub(super) levels: Levels,
    /// Whether a transaction was refused and is not over yet.
    pub(super) transaction: Transaction,
    /// Those that it began with.
    default_levels: Levels,
}

impl Session {
    pub(super) fn new(client: Arc<Client>, levels: Levels) -> Self {
        Self {
            client,
            protocol: Protocol::default(),
            levels,
            transaction: Transaction::default(),
            default_levels: levels,
        }
    }

    /// Switches the version of the protocol.
    pub(super) fn speak(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        self.client.set_protocol(protocol);
    }

    /// Forgets everything that the client set (RESET).
    pub(super) fn reset(&mut self) {
        self.speak(Protocol::default());
        self.client.set_name(String::new());
        self.levels = self.default_levels;
        self.transaction = Transaction::default();
    }
}
