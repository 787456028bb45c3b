//! Requests that were asked together, by where they are carried out.

use super::{Place, Topology};
use crate::{core::op::Op, names::NodeName, placement::Partition};

/// Requests by where they are carried out.
#[derive(Debug)]
pub struct Split {
    /// How many there are.
    pub count: usize,
    /// Those on keys that this node holds.
    pub here: Vec<Op>,
    /// Where the replies to those belong.
    pub places: Vec<usize>,
    /// The others.
    pub there: Vec<Elsewhere>,
}

/// Requests that another node carries out.
#[derive(Debug)]
pub struct Elsewhere {
    /// Any of these, the first one first.
    pub nodes: Vec<NodeName>,
    /// The requests, in order.
    pub ops: Vec<Op>,
    /// Where the replies belong.
    pub places: Vec<usize>,
}

impl Split {
    /// All of them here.
    pub fn here(ops: Vec<Op>) -> Self {
        Self {
            count: ops.len(),
            places: (0..ops.len()).collect(),
            here: ops,
            there: Vec::new(),
        }
    }

    /// What goes to one node goes together and in order; what may be large goes alone, because a message has a bound.
    pub fn of(ops: Vec<Op>, topology: &Topology) -> Self {
        let mut split = Self::here(Vec::new());
        split.count = ops.len();
        for (place, op) in ops.into_iter().enumerate() {
            match topology.place(Partition::of(&op.key)) {
                Place::Here => {
                    split.here.push(op);
                    split.places.push(place);
                }
                Place::There(nodes) => split.there_too(nodes, op, place),
            }
        }
        debug_assert_eq!(
            split.here.len()
                + split
                    .there
                    .iter()
                    .map(|share| share.ops.len())
                    .sum::<usize>(),
            split.count,
            "each request is carried out somewhere, once"
        );
        split
    }

    fn there_too(&mut self, nodes: Vec<NodeName>, op: Op, place: usize) {
        let is_alone = op.profile().is_large;
        let known = self.there.iter_mut().find(|share| {
            let has_room = share.ops.len() < OPS_PER_FORWARD
                && !share.ops.iter().any(|op| op.profile().is_large);
            !is_alone && has_room && share.nodes == nodes
        });
        match known {
            Some(share) => {
                share.ops.push(op);
                share.places.push(place);
            }
            None => self.there.push(Elsewhere {
                nodes,
                ops: vec![op],
                places: vec![place],
            }),
        }
    }
}

/// Requests in one message to another node.
const OPS_PER_FORWARD: usize = 256;
