//! Decoded heads of committed keys, shared by all connections: a read of a key that was read before costs a look into a map
//! instead of RocksDB's memory tables, whose lists of random keys are a cache miss at every step.
//!
//! It never shows anything older than storage does. A shard forgets the keys of a batch after its commit and before it tells anyone, and
//! every forgetting turns the stripe's epoch:
//!
//! ```text
//!   reader   look: miss, epoch 7 ── read storage (old) ─────────────────────── offer, epoch 7: refused, it is 8
//!   shard                             commit (new) ── forget, epoch 8 ── reply
//! ```
//! What was read before a commit was visible is either offered before the forgetting, which removes it, or after, when its epoch is
//! past. After the forgetting, readers find the new state in storage.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    core::generations::Generations,
    placement::Position,
    storage::{
        Batch, Change, Family,
        record::head::{Head, user_key},
    },
};

/// The cache.
pub struct HotHeads {
    stripes: Vec<Mutex<Stripe>>,
    head_bytes_max: usize,
}

struct Stripe {
    epoch: u64,
    heads: Generations<Arc<Head>>,
}

/// What a look found.
pub enum Look {
    /// The head.
    Hit(Arc<Head>),
    /// Not here: ask storage, and offer what it says.
    Miss(Epoch),
}

/// When a look was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch(u64);

impl HotHeads {
    /// Nothing yet; of about `capacity` bytes at most.
    pub fn new(capacity: usize) -> Self {
        let share = capacity / STRIPES;
        let stripe = || {
            Mutex::new(Stripe {
                epoch: 0,
                heads: Generations::new(share),
            })
        };
        Self {
            stripes: (0..STRIPES).map(|_| stripe()).collect(),
            head_bytes_max: share / 8,
        }
    }

    /// Looks for a key's head.
    pub fn look(&self, position: &Position, key: &[u8]) -> Look {
        let mut stripe = self.stripe(position);
        stripe.heads.touch(key);
        match stripe.heads.get_mut(key) {
            Some(head) => Look::Hit(Arc::clone(head)),
            None => Look::Miss(Epoch(stripe.epoch)),
        }
    }

    /// Offers what storage said after a miss: `bytes` encoded. Taken only if nothing of the stripe was forgotten since, and if it is
    /// not so large that it would crowd out the rest.
    pub fn offer(
        &self,
        position: &Position,
        key: &[u8],
        head: &Arc<Head>,
        bytes: usize,
        seen: Epoch,
    ) {
        if bytes > self.head_bytes_max {
            return;
        }
        let mut stripe = self.stripe(position);
        if stripe.epoch == seen.0 {
            stripe.heads.insert(key, Arc::clone(head), bytes);
            stripe.heads.rotate();
        }
    }

    /// Forgets the keys of a batch that was committed, or may have been.
    pub fn forget(&self, batch: &Batch) {
        for change in &batch.changes {
            match change {
                Change::Put { family, key, .. } | Change::Delete { family, key }
                    if *family == Family::Head =>
                {
                    match user_key(key) {
                        Ok((position, key)) => self.stripe(&position).forget(key),
                        Err(_) => self.clear(),
                    }
                }
                Change::DeleteRange { family, .. } if *family == Family::Head => self.clear(),
                Change::Put { .. } | Change::Delete { .. } | Change::DeleteRange { .. } => {}
            }
        }
    }

    /// Forgets everything: storage was opened again, and a commit whose outcome was unknown may show now.
    pub fn clear(&self) {
        for stripe in &self.stripes {
            let mut stripe = lock(stripe);
            stripe.epoch += 1;
            stripe.heads.clear();
        }
    }

    fn stripe(&self, position: &Position) -> MutexGuard<'_, Stripe> {
        // The upper bits choose the partition, and with it often the shard: the lower ones spread over all stripes.
        lock(&self.stripes[position.hash as usize % STRIPES])
    }
}

impl Stripe {
    fn forget(&mut self, key: &[u8]) {
        self.epoch += 1;
        self.heads.remove(key);
    }
}

/// A panic while it was held left it whole: every change is one call.
fn lock(stripe: &Mutex<Stripe>) -> MutexGuard<'_, Stripe> {
    stripe.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks, so that connections and shards seldom wait for each other.
const STRIPES: usize = 64;

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        thread,
    };

    use super::*;
    use crate::storage::{Durability, Storage, memory::MemoryStorage, record::head};

    const KEY: &[u8] = b"key";

    fn head(at_ms: u64) -> Head {
        let mut head = Head::default();
        head.expiry.at_ms = Some(at_ms);
        head
    }

    fn batch(at_ms: u64) -> Batch {
        let mut batch = Batch::default();
        let stored = head::stored_key(&Position::of(KEY), KEY);
        batch.put(Family::Head, stored, head(at_ms).encode());
        batch
    }

    fn shown(hot: &HotHeads) -> Option<u64> {
        match hot.look(&Position::of(KEY), KEY) {
            Look::Hit(head) => head.expiry.at_ms,
            Look::Miss(_) => None,
        }
    }

    fn miss(hot: &HotHeads) -> Epoch {
        match hot.look(&Position::of(KEY), KEY) {
            Look::Hit(_) => panic!("nothing was offered"),
            Look::Miss(epoch) => epoch,
        }
    }

    #[test]
    fn what_was_read_before_a_commit_is_not_taken_after_it() {
        let (hot, position) = (HotHeads::new(1 << 20), Position::of(KEY));
        let before = miss(&hot);
        hot.forget(&batch(2));
        hot.offer(&position, KEY, &Arc::new(head(1)), 10, before);
        assert_eq!(shown(&hot), None);
        let after = miss(&hot);
        hot.offer(&position, KEY, &Arc::new(head(2)), 10, after);
        assert_eq!(shown(&hot), Some(2));
        hot.forget(&batch(3));
        assert_eq!(shown(&hot), None);
    }

    #[test]
    fn what_was_read_before_storage_was_reopened_is_not_taken_after_it() {
        let (hot, position) = (HotHeads::new(1 << 20), Position::of(KEY));
        let before = miss(&hot);
        hot.clear();
        hot.offer(&position, KEY, &Arc::new(head(1)), 10, before);
        assert_eq!(shown(&hot), None);
    }

    #[test]
    fn a_head_that_would_crowd_out_the_rest_is_not_kept() {
        let (hot, position) = (HotHeads::new(1 << 20), Position::of(KEY));
        let epoch = miss(&hot);
        hot.offer(&position, KEY, &Arc::new(head(1)), 1 << 20, epoch);
        assert_eq!(shown(&hot), None);
    }

    /// Readers race a writer through the cache: none may see less than what was told to be committed before it looked.
    #[test]
    fn no_reader_sees_an_older_state_than_was_acknowledged() {
        let (hot, storage) = (HotHeads::new(1 << 20), MemoryStorage::default());
        let acknowledged = AtomicU64::new(0);
        storage.commit(&batch(0), Durability::Process).unwrap();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    loop {
                        let least = acknowledged.load(Ordering::SeqCst);
                        let seen = read_through(&hot, &storage);
                        assert!(seen >= least, "saw {seen} after {least} was acknowledged");
                        if least == WRITES {
                            return;
                        }
                    }
                });
            }
            for at_ms in 1..=WRITES {
                let batch = batch(at_ms);
                storage.commit(&batch, Durability::Process).unwrap();
                hot.forget(&batch);
                acknowledged.store(at_ms, Ordering::SeqCst);
            }
        });
    }

    fn read_through(hot: &HotHeads, storage: &MemoryStorage) -> u64 {
        let position = Position::of(KEY);
        let head = match hot.look(&position, KEY) {
            Look::Hit(head) => head,
            Look::Miss(epoch) => {
                let stored = head::stored_key(&position, KEY);
                let value = storage.get(Family::Head, &stored).unwrap().unwrap();
                let head = Arc::new(Head::decode(KEY, &value).unwrap());
                hot.offer(&position, KEY, &head, value.len(), epoch);
                head
            }
        };
        head.expiry.at_ms.unwrap()
    }

    const WRITES: u64 = 20_000;
}
