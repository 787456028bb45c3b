//! A cluster's certificate authority: made once, then it issues one certificate per node.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    num::NonZeroU32,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, DnsName, pem::PemObject};
use time::{Duration, OffsetDateTime};

use super::name::{cluster_dns_name, cluster_of, dns_names, node_dns_name};
use crate::names::{ClusterName, NodeName};

/// Days that a node's certificate is valid for unless told otherwise. Renewing is `issue` again and a restart; too long
/// and a stolen key stays good, too short and a forgotten renewal stops the cluster.
pub const DAYS_DEFAULT: NonZeroU32 = NonZeroU32::new(365).expect("365 is not zero");

/// The longest validity that is issued, in days: dates stay within what X.509 can write.
pub const DAYS_MAX: u32 = 36_500;

/// Why the authority could not be made, or could not issue.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file of the authority is there already: a second CA would lock out every node that the first one vouches for. *State unchanged.*
    #[error("{} exists: this folder has a CA already, and a new one would lock out its nodes", .0.display())]
    Exists(PathBuf),
    /// A file could not be read or written. *State unchanged, or one of two files written: safe to retry after removing it.*
    #[error("{}: {source}", .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the authority does not hold what it should. *State unchanged.*
    #[error("{}: {reason}", .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate cannot carry the name. *State unchanged.*
    #[error("'{0}' cannot be the name in a certificate: {1}")]
    Name(String, &'static str),
    /// The validity asked for is longer than [`DAYS_MAX`]. *State unchanged.*
    #[error("{0} days are too many: at most {DAYS_MAX}")]
    Days(u32),
    /// Making a key or signing failed. *State unchanged.*
    #[error("making a certificate failed: {0}")]
    Crypto(#[from] rcgen::Error),
}

/// Makes a cluster's CA: `ca.pem`, for every node, and `ca.key`, which only `issue` needs. The cluster is `demo` unless
/// named. Refuses to touch a folder that has one.
pub fn init(dir: &Path, cluster: Option<ClusterName>) -> Result<(), AuthorityError> {
    let cluster = cluster.unwrap_or_else(cluster_default);
    let name = cluster_dns_name(&cluster)
        .map_err(|_| AuthorityError::Name(cluster.to_string(), HYPHENS))?;
    let (certificate_path, key_path) = (dir.join(CA_CERTIFICATE), dir.join(CA_KEY));
    for path in [&certificate_path, &key_path] {
        if path.exists() {
            return Err(AuthorityError::Exists(path.clone()));
        }
    }
    fs::create_dir_all(dir).map_err(in_file(dir))?;
    let key = KeyPair::generate()?;
    let certificate = ca_params(&name)?.self_signed(&key)?;
    create(&key_path, &key.serialize_pem(), SECRET)?;
    create(&certificate_path, &certificate.pem(), PUBLIC)
}

/// Issues `NAME.pem` and `NAME.key`, good for both ends of a connection, valid from an hour ago (clocks differ) for
/// `days` days. A certificate that is there is replaced: that is how one is renewed.
pub fn issue(dir: &Path, name: &NodeName, days: NonZeroU32) -> Result<(), AuthorityError> {
    if format!("{name}.pem") == CA_CERTIFICATE {
        return Err(AuthorityError::Name(
            name.to_string(),
            "it would overwrite the CA",
        ));
    }
    if days.get() > DAYS_MAX {
        return Err(AuthorityError::Days(days.get()));
    }
    let (issuer, cluster) = open(dir)?;
    let dns_name = node_dns_name(name, &cluster)
        .map_err(|_| AuthorityError::Name(name.to_string(), HYPHENS))?;
    let key = KeyPair::generate()?;
    let certificate = node_params(&dns_name, days)?.signed_by(&key, &issuer)?;
    // The key first: a certificate is never there without the key that it names.
    replace(
        &dir.join(format!("{name}.key")),
        &key.serialize_pem(),
        SECRET,
    )?;
    replace(&dir.join(format!("{name}.pem")), &certificate.pem(), PUBLIC)
}

fn cluster_default() -> ClusterName {
    "demo".parse().expect("'demo' fits the pattern of names")
}

fn ca_params(name: &DnsName<'_>) -> Result<CertificateParams, AuthorityError> {
    let mut params = params(name, Duration::days(CA_DAYS))?;
    // Two CAs of one cluster name must not look alike: a peer then says "unknown issuer", not "bad signature".
    let unique = format!("{:016x}", rand::random::<u64>());
    params
        .distinguished_name
        .push(DnType::OrganizationalUnitName, unique);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn node_params(name: &DnsName<'_>, days: NonZeroU32) -> Result<CertificateParams, AuthorityError> {
    let mut params = params(name, Duration::days(i64::from(days.get())))?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// The common name is for people; the alternative name is what is checked, and how `issue` knows the cluster.
fn params(name: &DnsName<'_>, validity: Duration) -> Result<CertificateParams, AuthorityError> {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, name.as_ref());
    params
        .distinguished_name
        .push(DnType::OrganizationName, ORGANIZATION);
    params.subject_alt_names = vec![SanType::DnsName(name.as_ref().try_into()?)];
    params.not_before = now - CLOCK_SLACK;
    params.not_after = now + validity;
    Ok(params)
}

/// Reads the CA and the cluster that it is for.
fn open(dir: &Path) -> Result<(Issuer<'static, KeyPair>, ClusterName), AuthorityError> {
    let (certificate_path, key_path) = (dir.join(CA_CERTIFICATE), dir.join(CA_KEY));
    let certificate_pem = fs::read(&certificate_path).map_err(in_file(&certificate_path))?;
    let key_pem = fs::read_to_string(&key_path).map_err(in_file(&key_path))?;
    let key = KeyPair::from_pem(&key_pem).map_err(malformed(&key_path))?;
    let certificate =
        CertificateDer::from_pem_slice(&certificate_pem).map_err(malformed(&certificate_path))?;
    let cluster = dns_names(&certificate)
        .iter()
        .find_map(|name| cluster_of(name))
        .ok_or_else(|| {
            malformed(&certificate_path)(
                "it does not name a cluster: not made by `meridian tls init`",
            )
        })?;
    let issuer =
        Issuer::from_ca_cert_der(&certificate, key).map_err(malformed(&certificate_path))?;
    Ok((issuer, cluster))
}

fn create(path: &Path, text: &str, mode: u32) -> Result<(), AuthorityError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    options
        .open(path)
        .and_then(|file| write(file, text))
        .map_err(in_file(path))
}

/// By rename, so that a node which starts meanwhile reads the old file or the new one.
fn replace(path: &Path, text: &str, mode: u32) -> Result<(), AuthorityError> {
    let staged = path.with_extension("new");
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(in_file(&staged)(error));
        }
        Ok(()) | Err(_) => {}
    }
    create(&staged, text, mode)?;
    fs::rename(&staged, path).map_err(in_file(path))
}

fn write(mut file: File, text: &str) -> io::Result<()> {
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn in_file(path: &Path) -> impl Fn(io::Error) -> AuthorityError {
    move |source| AuthorityError::File {
        path: path.to_owned(),
        source,
    }
}

fn malformed<E: ToString>(path: &Path) -> impl Fn(E) -> AuthorityError {
    move |reason| AuthorityError::Malformed {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

const CA_CERTIFICATE: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
const CA_DAYS: i64 = 7_300;
const CLOCK_SLACK: Duration = Duration::hours(1);
const HYPHENS: &str = "DNS names may not begin or end with '-'";
const ORGANIZATION: &str = "Meridian";
const PUBLIC: u32 = 0o644;
const SECRET: u32 = 0o600;
