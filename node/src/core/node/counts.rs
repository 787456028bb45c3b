//! Keys of a region: of each partition as a replica of it counts them.

use crate::{
    core::{message::Answer, reply::Refusal},
    placement::PARTITIONS,
};

/// Keys in each partition, as far as anybody has counted them.
#[derive(Debug)]
pub struct Counts(Vec<Option<u64>>);

impl Default for Counts {
    fn default() -> Self {
        Self(vec![None; usize::from(PARTITIONS)])
    }
}

impl Counts {
    /// What one replica counted. The larger count of a partition stands: a replica that has taken less has counted less.
    pub fn add(&mut self, answer: Answer) {
        self.each(answer, |count, keys| *count = (*count).max(Some(keys)));
    }

    /// What a replica that lacks writes counted, where no other one did.
    pub fn fill_in(&mut self, answer: Answer) {
        self.each(answer, |count, keys| {
            count.get_or_insert(keys);
        });
    }

    /// Whether every partition has been counted.
    pub fn is_whole(&self) -> bool {
        self.0.iter().all(Option::is_some)
    }

    /// All of them.
    ///
    /// # Errors
    /// Where nobody has counted a partition.
    pub fn total(self) -> Result<u64, Refusal> {
        match self.0.iter().filter(|count| count.is_none()).count() {
            0 => Ok(self.0.into_iter().flatten().sum()),
            unknown => Err(Refusal::Unavailable(format!(
                "nobody answered for {unknown} of {PARTITIONS} partitions"
            ))),
        }
    }

    fn each(&mut self, answer: Answer, mut note: impl FnMut(&mut Option<u64>, u64)) {
        let Answer::Counts(known) = answer else {
            return;
        };
        for (partition, keys) in known {
            if let Some(count) = self.0.get_mut(usize::from(partition)) {
                note(count, keys);
            }
        }
    }
}
