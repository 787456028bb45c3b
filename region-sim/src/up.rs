//! `up`: starts a cluster and stays with it.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    sync::Arc,
};

use region_sim::{
    live::{Cluster, Error, Layout, control::Door},
    output::{self, Reader},
};

use crate::{cli::UpArgs, interrupt::Interrupts, screen::Screen};

/// Starts a cluster, says where it is, and stays until it is interrupted or told `down`.
pub async fn up(dir: &Path, args: Box<UpArgs>) -> Result<(), Error> {
    let on_screen = io::stderr().is_terminal();
    let mut builder = args.builder().dir(dir).control(true);
    if !on_screen {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_writer(io::stderr)
            .init();
        // A launcher whose stderr is gone still has nodes to look after.
        builder = builder.on_event(|event| drop(writeln!(io::stderr(), "{event}")));
    }
    let mut interrupts = Interrupts::new()?;
    let mut cluster = tokio::select! {
        biased;
        () = interrupts.next() => return Err(Error::Refused("interrupted before every node was ready".to_owned())),
        cluster = builder.start() => cluster?,
    };
    let door = cluster.door();
    if say_ready(cluster.dir())? == Reader::HasEnough {
        return cluster.down().await;
    }
    stay(Arc::new(cluster), door, interrupts, on_screen).await
}

/// Prints the one line that scripts wait for. Where nobody can be told, nobody would stop it either: then the cluster ends.
fn say_ready(dir: &Path) -> Result<Reader, Error> {
    let file = Layout::existing(dir)?.cluster_file();
    let said = output::print(|out| writeln!(out, "ready {}", file.display()));
    said.map_err(|source| Error::Io {
        what: "say that the cluster is ready".to_owned(),
        source,
    })
}

async fn stay(
    cluster: Arc<Cluster>,
    door: Option<Door>,
    mut interrupts: Interrupts,
    on_screen: bool,
) -> Result<(), Error> {
    let screen = on_screen.then(|| tokio::spawn(Screen::new(cluster.clone()).show()));
    let told_down = async {
        match door {
            Some(door) => door.serve(cluster.clone()).await,
            None => std::future::pending().await,
        }
    };
    let interrupted = tokio::select! {
        () = told_down => false,
        () = interrupts.next() => true,
    };
    let down = async {
        if interrupted {
            return cluster.down().await;
        }
        Ok(())
    };
    let done = tokio::select! {
        done = down => done,
        // Twice is an order: what is left is killed when the cluster is dropped.
        () = interrupts.next() => Ok(()),
    };
    if let Some(screen) = screen {
        screen.abort();
    }
    done
}
