//! All links of a cluster: for each pair of nodes two lanes, one for each direction, and two relays,
//! one for what each of them dials.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc};

use super::{
    notation::Change,
    relay::{Bounds, Lane, Pacer, Relay, Tally},
    topology::{Pair, Topology},
};
use crate::link::Settings;

/// The links between the nodes of one cluster.
#[derive(Debug)]
pub(super) struct Mesh {
    links: BTreeMap<Pair, Wire>,
    _pacer: Pacer,
}

/// What joins two nodes, from the lower index to the higher one and back.
#[derive(Debug)]
struct Wire {
    up: Arc<Lane>,
    down: Arc<Lane>,
    /// What the lower node dials to reach the higher one.
    dialled_by_low: Relay,
    /// What the higher node dials to reach the lower one.
    dialled_by_high: Relay,
}

/// What a link does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LinkState {
    pub settings: Settings,
    pub cut: bool,
}

impl Mesh {
    /// Binds the relays of every pair, without faults. Call it inside a tokio runtime.
    pub fn bind(topology: &Topology, seed: u64) -> io::Result<Self> {
        let pacer = Pacer::new()?;
        let wires = topology
            .pairs()
            .map(|pair| Ok((pair, Wire::bind(pair, seed, &pacer)?)));
        Ok(Self {
            links: wires.collect::<io::Result<_>>()?,
            _pacer: pacer,
        })
    }

    /// The address under which `from` reaches `to`.
    pub fn dial(&self, from: usize, to: usize) -> Option<SocketAddr> {
        let wire = self.links.get(&Pair::new(from, to)?)?;
        let relay = if from < to {
            &wire.dialled_by_low
        } else {
            &wire.dialled_by_high
        };
        Some(relay.local())
    }

    /// Says where a node listens now.
    pub fn set_target(&self, node: usize, target: SocketAddr) {
        for (pair, wire) in &self.links {
            if pair.high == node {
                wire.dialled_by_low.set_target(target);
            } else if pair.low == node {
                wire.dialled_by_high.set_target(target);
            }
        }
    }

    /// Changes both directions of some links. Cuts stay.
    pub fn change(&self, pairs: &[Pair], change: &Change) {
        for lane in self.lanes(pairs) {
            lane.set(change.apply(lane.settings()));
        }
    }

    /// Cuts both directions of some links, or mends them. Settings stay.
    pub fn set_cut(&self, pairs: &[Pair], cut: bool) {
        self.lanes(pairs).for_each(|lane| lane.set_cut(cut));
    }

    /// Cuts what one node sends to another, or mends it. The other direction stays.
    pub fn set_cut_towards(&self, from: usize, to: usize, cut: bool) {
        let wire = Pair::new(from, to).and_then(|pair| self.links.get(&pair));
        if let Some(wire) = wire {
            let lane = if from < to { &wire.up } else { &wire.down };
            lane.set_cut(cut);
        }
    }

    /// Mends every link.
    pub fn mend_all(&self) {
        self.links
            .values()
            .for_each(|wire| wire.lanes().for_each(|lane| lane.set_cut(false)));
    }

    /// What a pair's link does now. Both directions have the same settings; it is cut if one of them is.
    pub fn state(&self, pair: Pair) -> Option<LinkState> {
        let wire = self.links.get(&pair)?;
        Some(LinkState {
            settings: wire.up.settings(),
            cut: wire.lanes().any(Lane::is_cut),
        })
    }

    /// What became of the datagrams between two nodes, both directions added up.
    pub fn tally(&self, pair: Pair) -> Tally {
        let tallies = self
            .links
            .get(&pair)
            .into_iter()
            .flat_map(Wire::lanes)
            .map(Lane::tally);
        tallies.fold(Tally::default(), |a, b| a + b)
    }

    fn lanes<'a>(&'a self, pairs: &'a [Pair]) -> impl Iterator<Item = &'a Lane> {
        pairs
            .iter()
            .filter_map(|pair| self.links.get(pair))
            .flat_map(Wire::lanes)
    }
}

impl Wire {
    fn bind(pair: Pair, seed: u64, pacer: &Pacer) -> io::Result<Self> {
        let seed = seed ^ ((pair.low as u64) << 32 | (pair.high as u64) << 1);
        let up = Arc::new(Lane::new(Settings::default(), seed));
        let down = Arc::new(Lane::new(Settings::default(), seed | 1));
        let dialled_by_low = Relay::bind(up.clone(), down.clone(), pacer, Bounds::default())?;
        let dialled_by_high = Relay::bind(down.clone(), up.clone(), pacer, Bounds::default())?;
        Ok(Self {
            up,
            down,
            dialled_by_low,
            dialled_by_high,
        })
    }

    fn lanes(&self) -> impl Iterator<Item = &Lane> {
        [&*self.up, &*self.down].into_iter()
    }
}
