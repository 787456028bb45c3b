//! Certificates: who a node is, and how it knows that another one belongs to its cluster.
//!
//! ```text
//!   ca.pem  CN demo.meridian            one per cluster, key kept off the nodes
//!     └── us-1.pem  SAN us-1.demo.meridian   one per node, for both ends of a connection
//! ```
//!
//! A node is whoever its certificate says it is, never whoever its address suggests: addresses are rewritten by relays
//! and NAT. Both sides of every connection between nodes show a certificate, and both check that the cluster's CA signed
//! it, that it is valid today, and that its name belongs to the cluster.

pub mod authority;
pub mod credentials;
pub mod expiry;
mod name;
mod verify;

pub use authority::{AuthorityError, DAYS_DEFAULT, DAYS_MAX, init, issue};
pub use credentials::{Credentials, CredentialsError};
pub use expiry::{Ending, Endings, Nearness};
pub use name::node_name_of;

/// The ALPN protocol of connections between nodes.
pub const ALPN_PEER: &[u8] = b"meridian-peer";

#[cfg(test)]
mod tests;
