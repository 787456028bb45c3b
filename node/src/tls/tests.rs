use std::{fs, num::NonZeroU32, os::unix::fs::PermissionsExt, path::Path};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use super::{
    AuthorityError, Credentials, CredentialsError, DAYS_DEFAULT, Ending, Nearness, expiry::Role,
    init, issue, node_name_of,
};
use crate::names::{ClusterName, NodeName};

fn cluster(name: &str) -> ClusterName {
    name.parse().unwrap()
}

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

/// A folder with a CA for `demo` and a certificate for `us-1`.
fn folder() -> TempDir {
    let dir = TempDir::new().unwrap();
    init(dir.path(), None).unwrap();
    issue(dir.path(), &node("us-1"), DAYS_DEFAULT).unwrap();
    dir
}

fn load(dir: &Path, name: &str) -> Result<Credentials, CredentialsError> {
    load_as(dir, name, "demo", "us-1")
}

fn load_as(
    dir: &Path,
    file: &str,
    cluster_name: &str,
    node_name: &str,
) -> Result<Credentials, CredentialsError> {
    Credentials::load(
        &dir.join("ca.pem"),
        &dir.join(format!("{file}.pem")),
        &dir.join(format!("{file}.key")),
        &cluster(cluster_name),
        &node(node_name),
    )
}

/// Signs a certificate for `us-1.demo.meridian` with the folder's CA, changed by `change`, as `odd.pem`.
fn issue_odd(dir: &Path, change: impl FnOnce(&mut CertificateParams)) {
    let ca_key = KeyPair::from_pem(&fs::read_to_string(dir.join("ca.key")).unwrap()).unwrap();
    let ca_pem = fs::read_to_string(dir.join("ca.pem")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&ca_pem, ca_key).unwrap();
    let mut params = CertificateParams::new(vec!["us-1.demo.meridian".to_owned()]).unwrap();
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    fs::write(dir.join("odd.pem"), certificate.pem()).unwrap();
    fs::write(dir.join("odd.key"), key.serialize_pem()).unwrap();
}

#[test]
fn an_issued_certificate_loads_and_names_its_node() {
    let dir = folder();
    let credentials = load(dir.path(), "us-1").unwrap();
    assert_eq!(credentials.node(), &node("us-1"));
    let pem = fs::read(dir.path().join("us-1.pem")).unwrap();
    let leaf = CertificateDer::from_pem_slice(&pem).unwrap();
    assert_eq!(node_name_of(&leaf, &cluster("demo")), Some(node("us-1")));
    assert_eq!(node_name_of(&leaf, &cluster("prod")), None);
    credentials.accepting().unwrap();
    credentials.dialling(None).unwrap();
    credentials.dialling(Some(&node("eu-1"))).unwrap();
}

#[test]
fn keys_are_readable_by_their_owner_only() {
    let dir = folder();
    for name in ["ca.key", "us-1.key"] {
        let mode = fs::metadata(dir.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_second_authority_in_a_folder_is_refused_and_changes_nothing() {
    let dir = folder();
    let before = fs::read(dir.path().join("ca.pem")).unwrap();
    assert!(matches!(
        init(dir.path(), None),
        Err(AuthorityError::Exists(_))
    ));
    fs::remove_file(dir.path().join("ca.pem")).unwrap();
    assert!(
        matches!(init(dir.path(), None), Err(AuthorityError::Exists(_))),
        "a key alone counts"
    );
    assert!(!before.is_empty() && !dir.path().join("ca.pem").exists());
}

#[test]
fn issuing_remembers_the_cluster_of_the_authority() {
    let dir = TempDir::new().unwrap();
    init(dir.path(), Some(cluster("prod-7"))).unwrap();
    issue(dir.path(), &node("eu-2"), DAYS_DEFAULT).unwrap();
    load_as(dir.path(), "eu-2", "prod-7", "eu-2").unwrap();
}

#[test]
fn issuing_again_renews_certificate_and_key_together() {
    let dir = folder();
    let before = fs::read(dir.path().join("us-1.key")).unwrap();
    issue(dir.path(), &node("us-1"), DAYS_DEFAULT).unwrap();
    assert_ne!(fs::read(dir.path().join("us-1.key")).unwrap(), before);
    load(dir.path(), "us-1").unwrap();
}

#[test]
fn a_node_named_ca_does_not_overwrite_the_authority() {
    let dir = folder();
    let before = fs::read(dir.path().join("ca.pem")).unwrap();
    assert!(matches!(
        issue(dir.path(), &node("ca"), DAYS_DEFAULT),
        Err(AuthorityError::Name(..))
    ));
    assert_eq!(fs::read(dir.path().join("ca.pem")).unwrap(), before);
}

#[test]
fn names_that_dns_cannot_carry_and_absurd_validities_are_refused() {
    let dir = folder();
    assert!(matches!(
        issue(dir.path(), &node("-a"), DAYS_DEFAULT),
        Err(AuthorityError::Name(..))
    ));
    let error = issue(dir.path(), &node("us-2"), NonZeroU32::MAX).unwrap_err();
    assert!(matches!(error, AuthorityError::Days(_)), "{error}");
    let elsewhere = TempDir::new().unwrap();
    let error = init(elsewhere.path(), Some(cluster("a-"))).unwrap_err();
    assert!(matches!(error, AuthorityError::Name(..)), "{error}");
}

#[test]
fn issuing_without_an_authority_names_the_missing_file() {
    let dir = TempDir::new().unwrap();
    let error = issue(dir.path(), &node("us-1"), DAYS_DEFAULT).unwrap_err();
    assert!(error.to_string().contains("ca.pem"), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    let dir = folder();
    fs::remove_file(dir.path().join("us-1.key")).unwrap();
    let error = load(dir.path(), "us-1").unwrap_err();
    assert!(
        matches!(&error, CredentialsError::Unreadable { path, .. } if path.ends_with("us-1.key"))
    );
}

#[test]
fn a_file_that_is_not_pem_is_named() {
    let dir = folder();
    for (file, what) in [
        ("ca.pem", "CA certificate"),
        ("us-1.pem", "certificate"),
        ("us-1.key", "private key"),
    ] {
        let dir_path = dir.path().join(file);
        let before = fs::read(&dir_path).unwrap();
        fs::write(&dir_path, b"\x00\xffnot pem").unwrap();
        let error = load(dir.path(), "us-1").unwrap_err();
        assert!(
            matches!(&error, CredentialsError::NotPem { path, what: w, .. } if path.ends_with(file) && *w == what),
            "{error}"
        );
        fs::write(&dir_path, before).unwrap();
    }
}

#[test]
fn garbage_inside_pem_armour_is_refused() {
    let dir = folder();
    let armoured = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(dir.path().join("us-1.pem"), armoured).unwrap();
    assert!(matches!(
        load(dir.path(), "us-1"),
        Err(CredentialsError::Unusable { .. })
    ));
}

#[test]
fn the_key_of_another_certificate_is_refused() {
    let dir = folder();
    issue(dir.path(), &node("us-2"), DAYS_DEFAULT).unwrap();
    fs::copy(dir.path().join("us-2.key"), dir.path().join("us-1.key")).unwrap();
    assert!(matches!(
        load(dir.path(), "us-1"),
        Err(CredentialsError::KeyMismatch { .. })
    ));
}

#[test]
fn the_certificate_of_another_node_or_cluster_is_refused_with_both_names() {
    let dir = folder();
    for (cluster_name, node_name) in [("demo", "us-2"), ("prod", "us-1")] {
        let error = load_as(dir.path(), "us-1", cluster_name, node_name)
            .unwrap_err()
            .to_string();
        assert!(error.contains("us-1.demo.meridian"), "{error}");
        assert!(
            error.contains(&format!("{node_name}.{cluster_name}.meridian")),
            "{error}"
        );
    }
}

#[test]
fn an_expired_certificate_and_one_of_the_future_are_refused() {
    let dir = folder();
    let now = OffsetDateTime::now_utc();
    issue_odd(dir.path(), |params| {
        params.not_before = now - Duration::days(2);
        params.not_after = now - Duration::days(1);
    });
    assert!(matches!(
        load(dir.path(), "odd"),
        Err(CredentialsError::Expired(_))
    ));
    issue_odd(dir.path(), |params| {
        params.not_before = now + Duration::days(1);
        params.not_after = now + Duration::days(2);
    });
    assert!(matches!(
        load(dir.path(), "odd"),
        Err(CredentialsError::NotYetValid(_))
    ));
}

#[test]
fn a_certificate_for_one_end_only_is_refused() {
    let dir = folder();
    issue_odd(dir.path(), |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    assert!(matches!(
        load(dir.path(), "odd"),
        Err(CredentialsError::Unusable { .. })
    ));
}

#[test]
fn a_certificate_of_another_authority_is_refused_even_if_the_authority_has_the_same_name() {
    let (dir, other) = (folder(), folder());
    for file in ["us-1.pem", "us-1.key"] {
        fs::copy(other.path().join(file), dir.path().join(file)).unwrap();
    }
    let error = load(dir.path(), "us-1").unwrap_err();
    assert!(
        matches!(error, CredentialsError::UnknownIssuer { .. }),
        "{error}"
    );
}

#[test]
fn the_end_of_a_certificate_and_of_its_authority_are_known() {
    let dir = folder();
    let end = OffsetDateTime::now_utc() + Duration::seconds(90);
    issue_odd(dir.path(), |params| params.not_after = end);
    let credentials = load(dir.path(), "odd").unwrap();
    let mut endings = credentials.endings();
    let files: Vec<_> = endings.all().map(|ending| ending.file.clone()).collect();
    assert_eq!(
        files,
        [dir.path().join("odd.pem"), dir.path().join("ca.pem")]
    );
    let ends: Vec<i64> = endings.all().map(|ending| ending.at_s).collect();
    assert_eq!(ends[0], end.unix_timestamp());
    assert!(ends[1] > end.unix_timestamp() + 19 * 365 * 24 * 60 * 60);
    // The clock is the caller's.
    let due = endings.due(end.unix_timestamp() - 60);
    let roles: Vec<_> = due
        .iter()
        .map(|(ending, near)| (ending.role.name(), *near))
        .collect();
    assert_eq!(roles, [("node", Nearness::Day)]);
    assert_eq!(endings.due(end.unix_timestamp() + 1)[0].1, Nearness::Over);
}

#[test]
fn of_several_certificates_in_a_file_the_first_to_end_counts() {
    let end = OffsetDateTime::now_utc();
    let certificate = |days: i64| {
        let mut params = CertificateParams::default();
        params.not_after = end + Duration::days(days);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    };
    let first_of = |certificates: &[CertificateDer<'_>]| {
        let ending = Ending::first_of(Role::Ca, Path::new("ca.pem"), certificates);
        ending.map(|ending| ending.at_s)
    };
    let certificates = [certificate(9), certificate(3), certificate(7)];
    let day_s = 24 * 60 * 60;
    assert_eq!(
        first_of(&certificates),
        Some(end.unix_timestamp() + 3 * day_s)
    );
    assert_eq!(first_of(&[]), None);
    assert_eq!(first_of(&[CertificateDer::from(vec![1, 2, 3])]), None);
}
