//! Names in certificates: `NODE.CLUSTER.meridian`.

use rustls_pki_types::{CertificateDer, DnsName, InvalidDnsNameError};

use crate::names::{ClusterName, NodeName};

/// The DNS name of a node. Fails for names that DNS cannot carry: those that begin or end with `-`.
pub(super) fn node_dns_name(
    node: &NodeName,
    cluster: &ClusterName,
) -> Result<DnsName<'static>, InvalidDnsNameError> {
    DnsName::try_from(format!("{node}.{cluster}.{SUFFIX}"))
}

/// The DNS name of a cluster, which its CA carries. Fails as [`node_dns_name`] does.
pub(super) fn cluster_dns_name(
    cluster: &ClusterName,
) -> Result<DnsName<'static>, InvalidDnsNameError> {
    DnsName::try_from(format!("{cluster}.{SUFFIX}"))
}

/// The cluster that a CA's DNS name names.
pub(super) fn cluster_of(dns_name: &str) -> Option<ClusterName> {
    dns_name
        .strip_suffix(SUFFIX)?
        .strip_suffix('.')?
        .parse()
        .ok()
}

/// The node of `cluster` that a certificate names: its first name of the form `NODE.CLUSTER.meridian`. Says nothing of who signed it.
pub fn node_name_of(certificate: &CertificateDer<'_>, cluster: &ClusterName) -> Option<NodeName> {
    dns_names(certificate)
        .iter()
        .find_map(|name| node_of(name, cluster))
}

/// The DNS names of a certificate; none if it cannot be parsed.
pub(super) fn dns_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    webpki::EndEntityCert::try_from(certificate)
        .map(|certificate| certificate.valid_dns_names().map(str::to_owned).collect())
        .unwrap_or_default()
}

fn node_of(dns_name: &str, cluster: &ClusterName) -> Option<NodeName> {
    let (node, rest) = dns_name.split_once('.')?;
    if cluster_of(rest)? != *cluster {
        return None;
    }
    node.parse().ok()
}

const SUFFIX: &str = "meridian";
