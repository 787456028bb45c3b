use super::*;
use crate::core::identity::DirectoryId;

const SHARDS: NonZeroU16 = NonZeroU16::new(2).unwrap();

/// An opening of the directory by node `us-1` of cluster `shop`, in the boot `one`, not synced always.
fn opening<'a>(path: &'a Path, names: &'a (NodeName, ClusterName)) -> Opening<'a> {
    Opening {
        path,
        node: &names.0,
        cluster: &names.1,
        shards: SHARDS,
        fsync_always: false,
        options: RocksOptions {
            cache: 1 << 20,
            memtables: 4 << 20,
            wal: 4 << 20,
            background_jobs: 2,
            open_files: 64,
        },
        boot: BootId("one".to_owned()),
    }
}

fn names(node: &str, cluster: &str) -> (NodeName, ClusterName) {
    (node.parse().unwrap(), cluster.parse().unwrap())
}

fn open(path: &Path) -> Result<DataDirectory, DirectoryError> {
    opening(path, &names("us-1", "shop")).open()
}

fn open_in_boot(path: &Path, boot: &str) -> DataDirectory {
    let names = names("us-1", "shop");
    let opening = Opening {
        boot: BootId(boot.to_owned()),
        ..opening(path, &names)
    };
    opening.open().unwrap()
}

/// The refusal, which names the path.
fn refusal(opened: Result<DataDirectory, DirectoryError>, path: &Path) -> DirectoryError {
    let error = opened.err().unwrap();
    let text = error.to_string();
    assert!(text.contains(&path.display().to_string()), "{text}");
    error
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep").join("data");
    (folder, path)
}

#[test]
fn a_directory_is_created_once_and_keeps_its_number() {
    let (_folder, path) = folder();
    let created = open(&path).unwrap();
    assert_eq!(created.renewal, None);
    let identity = created.identity.clone();
    drop(created);
    let opened = open(&path).unwrap();
    assert_eq!(opened.identity, identity);
    let stored = Identity::load(&*opened.storage).unwrap();
    assert_eq!(stored, Some(identity));
}

#[test]
fn the_real_kernel_and_its_randomness_serve() {
    let (_folder, path) = folder();
    let (node, cluster) = names("us-1", "shop");
    let options = RocksOptions::default();
    let opened = DataDirectory::open(&path, &node, &cluster, SHARDS, true, options).unwrap();
    assert!(!opened.identity.boot.0.is_empty());
    assert!(opened.identity.synced_always);
    assert_ne!(draw().unwrap(), draw().unwrap());
}

#[test]
fn a_directory_closed_cleanly_goes_on_after_a_reboot() {
    let (_folder, path) = folder();
    let created = open(&path).unwrap();
    created.mark_clean().unwrap();
    let number = created.identity.directory;
    drop(created);
    let opened = open_in_boot(&path, "two");
    assert_eq!(opened.renewal, None);
    assert_eq!(opened.identity.directory, number);
    assert!(!opened.identity.clean);
}

#[test]
fn a_directory_not_closed_cleanly_renews_after_a_reboot_and_only_then() {
    let (_folder, path) = folder();
    let number = open(&path).unwrap().identity.directory;
    let same_boot = open(&path).unwrap();
    assert_eq!(same_boot.renewal, None);
    drop(same_boot);
    let opened = open_in_boot(&path, "two");
    let renewed = opened.identity.directory;
    let expected = Renewal {
        closed: number,
        opened: renewed,
    };
    assert_eq!(opened.renewal, Some(expected));
    assert_eq!(opened.identity.former, [number]);
    drop(opened);
    let again = open_in_boot(&path, "two");
    assert_eq!((again.renewal, again.identity.directory), (None, renewed));
}

#[test]
fn a_clean_close_keeps_a_renewal_that_came_after_the_opening() {
    let (_folder, path) = folder();
    let opened = open(&path).unwrap();
    let (renewed, _) = opened.identity.renewed(99);
    store(&opened.storage, &renewed).unwrap();
    opened.mark_clean().unwrap();
    drop(opened);
    let after = open_in_boot(&path, "two").identity;
    assert_eq!(after.directory, DirectoryId(99));
}

#[test]
fn a_wiped_directory_has_another_number() {
    let (_folder, path) = folder();
    let number = open(&path).unwrap().identity.directory;
    fs::remove_dir_all(&path).unwrap();
    assert_ne!(open(&path).unwrap().identity.directory, number);
}

#[test]
fn a_directory_keeps_its_number_of_shards() {
    let (_folder, path) = folder();
    drop(open(&path).unwrap());
    let names = names("us-1", "shop");
    let wanted = Opening {
        shards: NonZeroU16::new(8).unwrap(),
        ..opening(&path, &names)
    };
    assert_eq!(wanted.open().unwrap().identity.shards, SHARDS);
}

#[test]
fn a_directory_in_use_is_refused_with_its_holder() {
    let (_folder, path) = folder();
    let held = open(&path).unwrap();
    let error = refusal(open(&path), &path);
    let DirectoryError::Locked { by, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(by, format!("node us-1, process {}", std::process::id()));
    drop(held);
    open(&path).unwrap();
}

#[test]
fn a_directory_stays_locked_while_its_storage_is_held() {
    let (_folder, path) = folder();
    let storage = Arc::clone(&open(&path).unwrap().storage);
    let error = refusal(open(&path), &path);
    assert!(matches!(error, DirectoryError::Storage { .. }), "{error}");
    drop(storage);
    open(&path).unwrap();
}

#[test]
fn the_directory_of_another_node_or_cluster_is_refused_and_left_alone() {
    let (_folder, path) = folder();
    let identity = open(&path).unwrap().identity.clone();
    let other_node = opening(&path, &names("eu-1", "shop")).open();
    let error = refusal(other_node, &path);
    assert!(matches!(error, DirectoryError::OtherNode { .. }), "{error}");
    let other_cluster = opening(&path, &names("us-1", "bank")).open();
    let error = refusal(other_cluster, &path);
    assert!(
        matches!(error, DirectoryError::OtherCluster { .. }),
        "{error}"
    );
    assert_eq!(open(&path).unwrap().identity, identity);
}

#[test]
fn a_newer_format_is_refused() {
    let (_folder, path) = folder();
    drop(open(&path).unwrap());
    fs::write(path.join("FORMAT"), "meridian data directory, format 7\n").unwrap();
    let error = refusal(open(&path), &path);
    let newer = matches!(
        error,
        DirectoryError::NewerFormat {
            found: 7,
            known: 1,
            ..
        }
    );
    assert!(newer, "{error}");
}

#[test]
fn an_identity_of_a_newer_version_is_refused() {
    let (_folder, path) = folder();
    let opened = open(&path).unwrap();
    let mut bytes = opened.identity.encode();
    bytes[0] = 9;
    let mut batch = Batch::default();
    batch.put(Family::Meta, b"identity".to_vec(), bytes);
    opened.storage.commit(&batch, Durability::Power).unwrap();
    drop(opened);
    let error = refusal(open(&path), &path);
    assert!(error.to_string().contains("newer binary"), "{error}");
}

#[test]
fn a_folder_of_something_else_is_refused_and_left_alone() {
    let (_folder, path) = folder();
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("holiday.jpg"), "beach").unwrap();
    let error = refusal(open(&path), &path);
    assert!(error.to_string().contains("holiday.jpg"), "{error}");
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    for content in ["", "meridian data directory, format x", "\u{fffd}"] {
        fs::write(path.join("FORMAT"), content).unwrap();
        let error = refusal(open(&path), &path);
        assert!(matches!(error, DirectoryError::Foreign { .. }), "{error}");
    }
}

#[test]
fn a_file_is_no_directory() {
    let (_folder, path) = folder();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "").unwrap();
    let error = refusal(open(&path), &path);
    assert!(
        matches!(error, DirectoryError::NotADirectory { .. }),
        "{error}"
    );
    let below = path.join("data");
    let error = refusal(open(&below), &path);
    assert!(
        matches!(error, DirectoryError::NotADirectory { .. }),
        "{error}"
    );
}

#[test]
fn a_folder_whose_creation_was_interrupted_is_created_now() {
    let (_folder, path) = folder();
    fs::create_dir_all(path.join("lost+found")).unwrap();
    fs::write(path.join("meridian.lock"), "node us-1, process 1\n").unwrap();
    fs::write(path.join("FORMAT.new"), "meri").unwrap();
    open(&path).unwrap();
}

#[test]
fn rows_without_an_identity_are_not_taken_for_a_new_directory() {
    let (_folder, path) = folder();
    let opened = open(&path).unwrap();
    let mut batch = Batch::default();
    batch.delete(Family::Meta, b"identity".to_vec());
    batch.put(Family::Row, b"k".to_vec(), b"v".to_vec());
    opened.storage.commit(&batch, Durability::Power).unwrap();
    let marked = opened.mark_clean();
    assert!(matches!(marked, Err(DirectoryError::NoIdentity { .. })));
    drop(opened);
    let error = refusal(open(&path), &path);
    assert!(
        matches!(error, DirectoryError::NoIdentity { .. }),
        "{error}"
    );
}
