//! What a node shows to others and checks them against: its certificate, its key, and the cluster's CA.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, InconsistentKeys, RootCertStore, ServerConfig,
    client::{Resumption, danger::ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    server::{NoServerSessionStorage, ParsedCertificate},
    sign::CertifiedKey,
    version::TLS13,
};
use rustls_pki_types::{
    CertificateDer, DnsName, PrivateKeyDer, ServerName, UnixTime,
    pem::{self, PemObject},
};

use super::{
    ALPN_PEER,
    expiry::{Ending, Endings, Role},
    name::{cluster_dns_name, dns_names, node_dns_name},
    verify::{AnyClient, AnyServer, named_server},
};
use crate::names::{ClusterName, NodeName};

/// A node's certificate and key with the CA that vouches for it, loaded and checked.
#[derive(Clone)]
pub struct Credentials {
    cluster: ClusterName,
    node: NodeName,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
    provider: Arc<CryptoProvider>,
    endings: [Ending; 2],
}

/// Why a node cannot use its certificate. Every variant but the last names the file to look at.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read. *State unchanged.*
    #[error("{}: {source}", .path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds no such thing in PEM. *State unchanged.*
    #[error("{}: no {what} in PEM form: {reason}", .path.display())]
    NotPem {
        /// Which file.
        path: PathBuf,
        /// What should have been in it.
        what: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// The certificate or key is well-formed PEM that TLS cannot use. *State unchanged.*
    #[error("{}: cannot be used: {reason}", .path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The key is another certificate's. *State unchanged.*
    #[error("{}: is not the key of {}: issue both again", .key.display(), .certificate.display())]
    KeyMismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// The certificate is another node's or another cluster's. *State unchanged.*
    #[error("{}: is for {found}, but this node is {expected} ([node] name and cluster)", .path.display())]
    WrongName {
        /// The certificate's file.
        path: PathBuf,
        /// The names in it.
        found: String,
        /// The name that it should have.
        expected: String,
    },
    /// The certificate's time is over. *State unchanged.*
    #[error("{}: expired: issue a new one with `meridian tls issue`", .0.display())]
    Expired(PathBuf),
    /// The certificate's time has not come, or this machine's clock is behind. *State unchanged.*
    #[error("{}: not valid yet: check this machine's clock", .0.display())]
    NotYetValid(PathBuf),
    /// The CA did not sign the certificate. *State unchanged.*
    #[error("{}: not signed by the CA in {}", .certificate.display(), .ca.display())]
    UnknownIssuer {
        /// The certificate's file.
        certificate: PathBuf,
        /// The CA's file.
        ca: PathBuf,
    },
    /// TLS refuses the whole set-up. *State unchanged.*
    #[error("TLS cannot be set up: {0}")]
    Rejected(String),
}

impl Credentials {
    /// Reads the three files and checks that they fit each other, this node and today: what a peer would refuse is
    /// found out here, with the file's name, and not by a peer that can only say "bad certificate".
    pub fn load(
        ca: &Path,
        certificate: &Path,
        key: &Path,
        cluster: &ClusterName,
        node: &NodeName,
    ) -> Result<Self, CredentialsError> {
        let credentials = Self::read(ca, certificate, key, cluster, node)?;
        let Self {
            chain,
            roots,
            provider,
            ..
        } = &credentials;
        check_key(chain, &credentials.key, provider, certificate, key)?;
        check_chain(chain, roots, provider, ca, certificate)?;
        check_name(&chain[0], cluster, node, certificate)?;
        Ok(credentials)
    }

    /// Reads the three files without checking what is in them: what a peer may have that is up to no good.
    pub(crate) fn read(
        ca: &Path,
        certificate: &Path,
        key: &Path,
        cluster: &ClusterName,
        node: &NodeName,
    ) -> Result<Self, CredentialsError> {
        let authorities = read_certificates(ca, "CA certificate")?;
        let chain = read_certificates(certificate, "certificate")?;
        let endings = [
            ending(Role::Node, certificate, &chain)?,
            ending(Role::Ca, ca, &authorities)?,
        ];
        Ok(Self {
            cluster: cluster.clone(),
            node: node.clone(),
            roots: Arc::new(roots(ca, authorities)?),
            chain,
            key: Arc::new(read_key(key)?),
            provider: Arc::new(ring::default_provider()),
            endings,
        })
    }

    /// When the node's certificate and its CA's end.
    pub fn endings(&self) -> Endings {
        Endings::new(self.endings.clone())
    }

    /// The cluster that the certificate is for.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// The node that the certificate is for.
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// The private key's bytes, to derive other secrets of this node from. Never shown, never logged.
    pub(crate) fn secret(&self) -> &[u8] {
        self.key.secret_der()
    }

    /// How this node dials: it shows its certificate, speaks TLS 1.3 and [`ALPN_PEER`], and takes the named node or,
    /// where none is named, any node of its cluster. Sessions are never resumed: every connection checks afresh.
    pub fn dialling(&self, expect: Option<&NodeName>) -> Result<ClientConfig, CredentialsError> {
        let verifier: Arc<dyn ServerCertVerifier> = match expect {
            Some(_) => named_server(self.roots.clone(), self.provider.clone())?,
            None => Arc::new(AnyServer {
                cluster: self.cluster.clone(),
                roots: self.roots.clone(),
                algorithms: self.provider.signature_verification_algorithms,
            }),
        };
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(rejected)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(rejected)?;
        config.alpn_protocols = vec![ALPN_PEER.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// How this node is dialled: by nodes of its cluster, with a certificate, over TLS 1.3. A door for users is one more
    /// protocol in this list, told apart after the handshake.
    pub fn accepting(&self) -> Result<ServerConfig, CredentialsError> {
        let verifier = AnyClient::new(
            self.cluster.clone(),
            self.roots.clone(),
            self.provider.clone(),
        )?;
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(rejected)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(rejected)?;
        config.alpn_protocols = vec![ALPN_PEER.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// The name to ask for when dialling: the node's, or the cluster's where any node will do.
    pub fn server_name(&self, expect: Option<&NodeName>) -> Result<String, CredentialsError> {
        let name = match expect {
            Some(node) => node_dns_name(node, &self.cluster),
            None => cluster_dns_name(&self.cluster),
        };
        name.map(|name| name.as_ref().to_owned())
            .map_err(|error| CredentialsError::Rejected(format!("{expect:?}: {error}")))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("cluster", &self.cluster)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

fn roots(
    ca: &Path,
    authorities: Vec<CertificateDer<'static>>,
) -> Result<RootCertStore, CredentialsError> {
    let mut roots = RootCertStore::empty();
    for certificate in authorities {
        roots.add(certificate).map_err(unusable(ca))?;
    }
    Ok(roots)
}

/// When the first of the certificates in a file ends.
fn ending(
    role: Role,
    path: &Path,
    certificates: &[CertificateDer<'_>],
) -> Result<Ending, CredentialsError> {
    let ending = Ending::first_of(role, path, certificates);
    ending.ok_or_else(|| unusable(path)("its period of validity cannot be read"))
}

/// The certificates in a file; at least one.
fn read_certificates(
    path: &Path,
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let text = read(path)?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, pem::Error>>();
    match found {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(not_pem(path, what, pem::Error::NoItemsFound)),
        Err(error) => Err(not_pem(path, what, error)),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, CredentialsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| not_pem(path, "private key", error))
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    fs::read(path).map_err(|source| CredentialsError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

fn check_key(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    provider: &CryptoProvider,
    certificate_path: &Path,
    key_path: &Path,
) -> Result<(), CredentialsError> {
    let signer = provider
        .key_provider
        .load_private_key(key.clone_key())
        .map_err(unusable(key_path))?;
    match CertifiedKey::new(chain.to_vec(), signer).keys_match() {
        Ok(()) => Ok(()),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(CredentialsError::KeyMismatch {
                key: key_path.to_owned(),
                certificate: certificate_path.to_owned(),
            })
        }
        Err(error) => Err(unusable(certificate_path)(error)),
    }
}

/// Checks signature, validity and both uses, as the two ends of a connection will.
fn check_chain(
    chain: &[CertificateDer<'static>],
    roots: &RootCertStore,
    provider: &CryptoProvider,
    ca: &Path,
    path: &Path,
) -> Result<(), CredentialsError> {
    let leaf = webpki::EndEntityCert::try_from(&chain[0]).map_err(unusable(path))?;
    let algorithms = provider.signature_verification_algorithms.all;
    let now = UnixTime::now();
    for usage in [
        webpki::KeyUsage::server_auth(),
        webpki::KeyUsage::client_auth(),
    ] {
        leaf.verify_for_usage(
            algorithms,
            &roots.roots,
            &chain[1..],
            now,
            usage,
            None,
            None,
        )
        .map_err(|error| chain_error(error, ca, path))?;
    }
    ParsedCertificate::try_from(&chain[0])
        .map(drop)
        .map_err(unusable(path))
}

fn chain_error(error: webpki::Error, ca: &Path, path: &Path) -> CredentialsError {
    match error {
        webpki::Error::CertExpired { .. } => CredentialsError::Expired(path.to_owned()),
        webpki::Error::CertNotValidYet { .. } => CredentialsError::NotYetValid(path.to_owned()),
        // A CA of the same name but another key fails at the signature, not at the name.
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            CredentialsError::UnknownIssuer {
                certificate: path.to_owned(),
                ca: ca.to_owned(),
            }
        }
        other => unusable(path)(other),
    }
}

fn check_name(
    leaf: &CertificateDer<'static>,
    cluster: &ClusterName,
    node: &NodeName,
    path: &Path,
) -> Result<(), CredentialsError> {
    let expected: DnsName<'static> = node_dns_name(node, cluster)
        .map_err(|error| CredentialsError::Rejected(format!("{node}.{cluster}: {error}")))?;
    let wrong = CredentialsError::WrongName {
        path: path.to_owned(),
        found: dns_names(leaf).join(", "),
        expected: expected.as_ref().to_owned(),
    };
    let certificate = webpki::EndEntityCert::try_from(leaf).map_err(unusable(path))?;
    certificate
        .verify_is_valid_for_subject_name(&ServerName::DnsName(expected))
        .map_err(|_| wrong)
}

fn not_pem(path: &Path, what: &'static str, error: pem::Error) -> CredentialsError {
    CredentialsError::NotPem {
        path: path.to_owned(),
        what,
        reason: error.to_string(),
    }
}

fn unusable<E: fmt::Display>(path: &Path) -> impl Fn(E) -> CredentialsError {
    move |reason| CredentialsError::Unusable {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn rejected(error: rustls::Error) -> CredentialsError {
    CredentialsError::Rejected(error.to_string())
}
