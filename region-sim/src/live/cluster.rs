//! A cluster to hold in the hand: real processes, and verbs that do to them what the world does.

use std::{future::Future, path::Path, sync::Arc, time::Duration};

use super::{
    builder::Builder,
    control::Door,
    error::Error,
    event::Event,
    log_tail,
    notation::Change,
    process::Exit,
    program,
    seat::Seat,
    site::{NodeEntry, Site},
    status::{self, ClusterStatus},
    threads::Threads,
    topology::{Pair, Topology},
};

/// A running cluster. Dropping it kills every node; [`Cluster::down`] stops them in order.
///
/// Its relays and the care for its processes run on threads of its own, so a caller may block, and
/// any executor may await its methods. A verb that was begun is carried through even if its future is dropped.
#[derive(Debug)]
pub struct Cluster {
    site: Arc<Site>,
    threads: Threads,
    door: Option<Door>,
}

impl Cluster {
    /// Says what cluster to start.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(super) fn new(site: Arc<Site>, threads: Threads, door: Option<Door>) -> Self {
        Self {
            site,
            threads,
            door,
        }
    }

    /// Makes keys, and links as they are to begin with.
    pub(super) async fn prepare(&self, links: &[(Vec<Pair>, Change)]) -> Result<(), Error> {
        links
            .iter()
            .for_each(|(pairs, change)| self.site.mesh.change(pairs, change));
        let site = self.site.clone();
        self.carry(async move { program::issue(&site.program, &site.layout, &site.topology).await })
            .await
    }

    pub(super) async fn start_all(&self) -> Result<(), Error> {
        let site = self.site.clone();
        self.carry(async move { site.start_all().await }).await
    }

    /// The control socket, to be served, if there is to be one. It is given away once.
    pub fn door(&mut self) -> Option<Door> {
        self.door.take()
    }

    /// The cluster's shape.
    pub fn topology(&self) -> &Topology {
        &self.site.topology
    }

    /// The cluster's directory.
    pub fn dir(&self) -> &Path {
        self.site.layout.dir()
    }

    /// The certificate of its authority, which clients over QUIC trust.
    pub fn ca(&self) -> std::path::PathBuf {
        self.site.layout.tls().join("ca.pem")
    }

    /// Where a node is now.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn node(&self, name: &str) -> Result<NodeEntry, Error> {
        Ok(NodeEntry::of(self.seat(name)?))
    }

    /// Where every node is now, in order of index.
    pub fn nodes(&self) -> Vec<NodeEntry> {
        self.site
            .seats
            .iter()
            .map(|seat| NodeEntry::of(seat))
            .collect()
    }

    /// The last lines of a node's log.
    ///
    /// # Errors
    /// If there is no node of that name.
    pub fn log_tail(&self, name: &str, lines: usize) -> Result<String, Error> {
        Ok(log_tail::since(&self.seat(name)?.layout.log(), 0, lines).join("\n"))
    }

    /// What happened lately, oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.site.events.latest()
    }

    /// What every node and link does now. A node that does not answer within `patience` is shown without its own words.
    ///
    /// # Errors
    /// If the cluster is going down.
    pub async fn status(&self, patience: Duration) -> Result<ClusterStatus, Error> {
        let site = self.site.clone();
        self.carry(async move { Ok(status::observe(&site, patience).await) })
            .await
    }

    /// Kills a node with SIGKILL; returns when it is reaped. A dead one stays dead.
    ///
    /// # Errors
    /// If there is none of that name, or it does not die.
    pub async fn kill(&self, node: &str) -> Result<(), Error> {
        let (site, seat) = self.both(node)?;
        self.carry(async move { site.kill(&seat).await }).await
    }

    /// Asks a node to stop with SIGTERM, and kills it if it takes more than 15 s; returns how it ended,
    /// `None` if it was dead.
    ///
    /// # Errors
    /// If there is none of that name, or it does not die.
    pub async fn stop(&self, node: &str) -> Result<Option<Exit>, Error> {
        let (site, seat) = self.both(node)?;
        self.carry(async move { site.stop(&seat).await }).await
    }

    /// Stops a node like [`Cluster::stop`] if it is alive and starts it; returns when it is ready.
    ///
    /// # Errors
    /// If there is none of that name or it does not become ready; then it is dead.
    pub async fn restart(&self, node: &str) -> Result<(), Error> {
        let (site, seat) = self.both(node)?;
        self.carry(async move { site.restart(&seat).await }).await
    }

    /// Stops a node like [`Cluster::stop`] if it is alive, and starts it with another program; returns when it is ready.
    ///
    /// # Errors
    /// If there is none of that name, there is no such program, or it does not become ready; then the node is dead, and
    /// [`Cluster::restart`] starts it with the program that it had.
    pub async fn upgrade(&self, node: &str, program: &Path) -> Result<(), Error> {
        let (site, seat) = self.both(node)?;
        let program = program::find(Some(program))?;
        self.carry(async move { site.upgrade(&seat, program).await })
            .await
    }

    /// Stops a node's process where it stands; it keeps its sockets. Nothing changes if it is paused.
    ///
    /// # Errors
    /// If there is none of that name or it is dead.
    pub async fn pause(&self, node: &str) -> Result<(), Error> {
        let (site, seat) = self.both(node)?;
        self.carry(async move { site.set_paused(&seat, true).await })
            .await
    }

    /// Lets a paused node go on. Nothing changes if it is not paused.
    ///
    /// # Errors
    /// If there is none of that name or it is dead.
    pub async fn resume(&self, node: &str) -> Result<(), Error> {
        let (site, seat) = self.both(node)?;
        self.carry(async move { site.set_paused(&seat, false).await })
            .await
    }

    /// Kills a node, deletes its data and starts it; returns when it is ready.
    ///
    /// # Errors
    /// If there is none of that name or it does not become ready; then it is dead.
    pub async fn wipe(&self, node: &str) -> Result<(), Error> {
        let (site, seat) = self.both(node)?;
        self.carry(async move { site.wipe(&seat).await }).await
    }

    /// Cuts every link between `a` and `b`, each a node or a region. Also what is on its way is lost.
    ///
    /// # Errors
    /// If a name is unknown or there is no link between them.
    pub fn partition(&self, a: &str, b: &str) -> Result<(), Error> {
        let pairs = self.site.topology.pairs_between(a, b)?;
        self.cut(&pairs, true, format!("{a} and {b} were partitioned"));
        Ok(())
    }

    /// Cuts every link between a node or region and all others.
    ///
    /// # Errors
    /// If the name is unknown or there is nothing else.
    pub fn isolate(&self, a: &str) -> Result<(), Error> {
        let pairs = self.site.topology.pairs_around(a)?;
        self.cut(&pairs, true, format!("{a} was partitioned from all others"));
        Ok(())
    }

    /// Loses all that `from` sends to `to`, each a node or a region; what comes back arrives.
    ///
    /// # Errors
    /// If a name is unknown.
    pub fn cut_one_way(&self, from: &str, to: &str) -> Result<(), Error> {
        self.set_cut_one_way(from, to, true)?;
        let text = format!("what {from} sends to {to} is lost");
        self.site.events.add(text);
        Ok(())
    }

    /// Ends [`Cluster::cut_one_way`].
    ///
    /// # Errors
    /// If a name is unknown.
    pub fn mend_one_way(&self, from: &str, to: &str) -> Result<(), Error> {
        self.set_cut_one_way(from, to, false)?;
        let text = format!("what {from} sends to {to} arrives again");
        self.site.events.add(text);
        Ok(())
    }

    /// Ends every partition. Links keep their settings.
    pub fn heal(&self) {
        self.site.mesh.mend_all();
        self.site.events.add("all partitions ended".to_owned());
    }

    /// Ends partitions between `a` and `b`, each a node or a region.
    ///
    /// # Errors
    /// If a name is unknown or there is no link between them.
    pub fn heal_between(&self, a: &str, b: &str) -> Result<(), Error> {
        let pairs = self.site.topology.pairs_between(a, b)?;
        self.cut(
            &pairs,
            false,
            format!("partitions between {a} and {b} ended"),
        );
        Ok(())
    }

    /// Ends partitions between a node or region and all others.
    ///
    /// # Errors
    /// If the name is unknown or there is nothing else.
    pub fn heal_around(&self, a: &str) -> Result<(), Error> {
        let pairs = self.site.topology.pairs_around(a)?;
        self.cut(&pairs, false, format!("partitions of {a} ended"));
        Ok(())
    }

    /// Changes both directions of every link between `a` and `b`, each a node or a region.
    ///
    /// # Errors
    /// If a name is unknown or there is no link between them.
    pub fn link(&self, a: &str, b: &str, change: Change) -> Result<(), Error> {
        let pairs = self.site.topology.pairs_between(a, b)?;
        self.site.mesh.change(&pairs, &change);
        let settings = pairs.first().and_then(|&pair| self.site.mesh.state(pair));
        let settings = settings
            .map(|state| status::describe(&state.settings))
            .unwrap_or_default();
        self.site.events.add(format!("link {a},{b}: {settings}"));
        Ok(())
    }

    /// Sets a node's clock ahead of the machine's by `offset_ms`, or behind; 0 sets it right. The node
    /// notices within 100 ms.
    ///
    /// # Errors
    /// If there is none of that name, or its file cannot be written.
    pub fn skew(&self, node: &str, offset_ms: i64) -> Result<(), Error> {
        self.site.skew(self.seat(node)?, offset_ms)
    }

    /// Stops every node like [`Cluster::stop`], all at a time, and gives the directory free.
    ///
    /// # Errors
    /// If a node does not die.
    pub async fn down(&self) -> Result<(), Error> {
        let site = self.site.clone();
        self.carry(async move { site.down().await }).await
    }

    fn cut(&self, pairs: &[Pair], cut: bool, text: String) {
        self.site.mesh.set_cut(pairs, cut);
        self.site.events.add(text);
    }

    fn set_cut_one_way(&self, from: &str, to: &str, cut: bool) -> Result<(), Error> {
        let topology = &self.site.topology;
        let (from, to) = (topology.select(from)?, topology.select(to)?);
        for (i, j) in from.iter().flat_map(|i| to.iter().map(move |j| (*i, *j))) {
            self.site.mesh.set_cut_towards(i, j, cut);
        }
        Ok(())
    }

    fn seat(&self, name: &str) -> Result<&Arc<Seat>, Error> {
        self.site
            .topology
            .node(name)
            .map(|index| &self.site.seats[index])
    }

    fn both(&self, name: &str) -> Result<(Arc<Site>, Arc<Seat>), Error> {
        Ok((self.site.clone(), self.seat(name)?.clone()))
    }

    /// Carries a verb through on the cluster's own threads.
    async fn carry<T: Send + 'static>(
        &self,
        verb: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        self.threads
            .handle()
            .spawn(verb)
            .await
            .unwrap_or(Err(Error::GoingDown))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let Some(runtime) = self.threads.take() else {
            return;
        };
        let site = self.site.clone();
        let kill_all = move || {
            let alive: Vec<_> = site.seats.iter().filter(|seat| seat.kill_now()).collect();
            runtime.block_on(async {
                for seat in alive {
                    if let Err(e) = seat.await_rest().await {
                        tracing::warn!(error = %e, "a node may still be there");
                    }
                }
            });
            if let Err(e) = site.leave() {
                tracing::warn!(error = %e, "the directory is left untidy");
            }
            // Whatever was just starting dies with its task.
            runtime.shutdown_timeout(DROP_LIMIT);
        };
        // On a thread of its own, because a runtime must not be waited for inside of another.
        if std::thread::spawn(kill_all).join().is_err() {
            tracing::error!("killing the nodes failed; they end with this process");
        }
    }
}

const DROP_LIMIT: Duration = Duration::from_secs(2);
