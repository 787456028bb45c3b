//! The node's program: where it is, and the keys it makes.

use std::{
    env,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::{AccessFlags, access};

use super::{
    error::{Doing, Error},
    layout::Layout,
    process,
    topology::Topology,
};

/// Finds the node's program: the one given, else the one that `MERIDIAN_BIN` names, else the one
/// beside this executable (or one folder up, where cargo puts it beside test programs' folder). The path is absolute.
///
/// # Errors
/// If there is no such file, or it may not be executed.
pub fn find(given: Option<&Path>) -> Result<PathBuf, Error> {
    let named = given
        .map(Path::to_path_buf)
        .or_else(|| env::var_os("MERIDIAN_BIN").map(PathBuf::from));
    let candidates = match named {
        Some(path) => vec![path],
        None => beside_us()?,
    };
    match candidates.iter().find(|path| path.is_file()) {
        // Absolute, because nodes are started in directories of their own.
        Some(found) => {
            access(found, AccessFlags::X_OK)
                .map_err(io::Error::from)
                .doing(|| format!("execute {}", found.display()))?;
            found
                .canonicalize()
                .doing(|| format!("open {}", found.display()))
        }
        None => {
            let tried: Vec<String> = candidates
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            Err(Error::NoBinary {
                tried: tried.join(" or "),
            })
        }
    }
}

fn beside_us() -> Result<Vec<PathBuf>, Error> {
    let own = env::current_exe().doing(|| "find this executable".to_owned())?;
    Ok(own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join("meridian"))
        .collect())
}

/// Makes the certificate authority and every node's certificate that are not there yet.
pub(super) async fn issue(
    program: &Path,
    layout: &Layout,
    topology: &Topology,
) -> Result<(), Error> {
    let dir = layout.tls();
    if !(dir.join("ca.pem").exists() && dir.join("ca.key").exists()) {
        let cluster = topology.cluster().as_str();
        tls(
            program,
            &[
                "init".into(),
                dir.clone().into(),
                "--cluster".into(),
                cluster.into(),
            ],
        )
        .await?;
    }
    for (node, _) in topology.members() {
        if !(dir.join(format!("{node}.pem")).exists() && dir.join(format!("{node}.key")).exists()) {
            tls(
                program,
                &["issue".into(), dir.clone().into(), node.as_str().into()],
            )
            .await?;
        }
    }
    Ok(())
}

async fn tls(program: &Path, args: &[OsString]) -> Result<(), Error> {
    let args: Vec<OsString> = std::iter::once("tls".into())
        .chain(args.iter().cloned())
        .collect();
    process::run(program, &args, TLS_LIMIT)
        .await
        .map_err(|output| {
            let args: Vec<String> = args
                .iter()
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect();
            Error::Tls {
                command: format!("{} {}", program.display(), args.join(" ")),
                output,
            }
        })
}

const TLS_LIMIT: Duration = Duration::from_secs(30);
