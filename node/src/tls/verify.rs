//! Checks the certificate at the other end of a connection between nodes.
//!
//! webpki checks that the cluster's CA signed it for this use and that it is valid now; what is added here is the name.
//! Whoever dials a node by name insists on that name. Whoever dials a seed, or is dialled, takes any node of the
//! cluster and learns from the certificate which one it is.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{
    CredentialsError,
    name::{cluster_dns_name, dns_names, node_name_of},
};
use crate::names::ClusterName;

/// The dialler's check where the name at the other end is known beforehand.
pub(super) fn named_server(
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, CredentialsError> {
    WebPkiServerVerifier::builder_with_provider(roots, provider)
        .build()
        .map(|verifier| verifier as Arc<dyn ServerCertVerifier>)
        .map_err(|error| CredentialsError::Rejected(error.to_string()))
}

/// The dialler's check where any node of the cluster will do.
pub(super) struct AnyServer {
    pub(super) cluster: ClusterName,
    pub(super) roots: Arc<RootCertStore>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        belongs(end_entity, &self.cluster)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General(
            "TLS 1.2 is not spoken between nodes".to_owned(),
        ))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl fmt::Debug for AnyServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyServer")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// The acceptor's check: any node of the cluster, and nobody without a certificate. When users come in through the same
/// endpoint, this is where theirs becomes optional, and the ALPN then decides who needed one.
#[derive(Debug)]
pub(super) struct AnyClient {
    cluster: ClusterName,
    inner: Arc<dyn ClientCertVerifier>,
}

impl AnyClient {
    pub(super) fn new(
        cluster: ClusterName,
        roots: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, CredentialsError> {
        let inner = WebPkiClientVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(|error| CredentialsError::Rejected(error.to_string()))?;
        Ok(Self { cluster, inner })
    }
}

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .inner
            .verify_client_cert(end_entity, intermediates, now)?;
        belongs(end_entity, &self.cluster)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Whether a certificate whose signatures were checked names a node of the cluster.
fn belongs(certificate: &CertificateDer<'_>, cluster: &ClusterName) -> Result<(), Error> {
    if node_name_of(certificate, cluster).is_some() {
        return Ok(());
    }
    let expected = cluster_dns_name(cluster)
        .map_err(|error| Error::General(format!("cluster '{cluster}': {error}")))?;
    Err(Error::InvalidCertificate(
        CertificateError::NotValidForNameContext {
            expected: ServerName::DnsName(expected),
            presented: dns_names(certificate),
        },
    ))
}
