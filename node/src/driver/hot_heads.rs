//! Decoded heads of committed keys, shared by all connections: a read of a key that was read before costs a look into a map
//! instead of RocksDB's memory tables, whose lists of random keys are a cache miss at every step.
//!
//! What it holds is always what storage shows: not an older state, which a connection may have seen past already, reading from storage.
//! While a shard commits, the stripes of the batch's keys are closed, and when it has they begin another epoch:
//!
//! ```text
//!   reader   look: miss, epoch 7 ── read storage (old) ──┬─ offer: refused, closed ─┬─ offer: refused, it is epoch 8
//!   shard                  forget the keys, close ── commit (new) ── open, epoch 8 ── reply
//! ```
//! So an offer is taken only if no commit of its stripe began since the look, and what it says goes before the next one begins.

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
    /// Changes that are being committed: while there are any, it is closed.
    commits: usize,
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
                commits: 0,
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

    /// Offers what storage said after a miss: `bytes` encoded. Taken only if no commit of the stripe began since, and if it is
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
        if stripe.commits == 0 && stripe.epoch == seen.0 {
            stripe.heads.insert(key, Arc::clone(head), bytes);
            stripe.heads.rotate();
        }
    }

    /// Commits a batch: its keys are forgotten before, and nothing of their stripes is taken until it is over, whatever came of it.
    pub fn around<T>(&self, batch: &Batch, commit: impl FnOnce() -> T) -> T {
        self.touched(batch, |stripe, key| {
            stripe.commits += 1;
            match key {
                Some(key) => stripe.heads.remove(key),
                None => stripe.heads.clear(),
            }
        });
        let outcome = commit();
        self.touched(batch, |stripe, _| {
            stripe.commits -= 1;
            stripe.epoch += 1;
        });
        outcome
    }

    /// Visits the stripe of every head that a batch changes, with its key; every stripe for a change of heads that are not named.
    fn touched(&self, batch: &Batch, mut visit: impl FnMut(&mut Stripe, Option<&[u8]>)) {
        for change in &batch.changes {
            let named = match change {
                Change::Put { family, key, .. } | Change::Delete { family, key } => {
                    (*family == Family::Head).then(|| user_key(key).ok())
                }
                Change::DeleteRange { family, .. } => (*family == Family::Head).then_some(None),
            };
            match named {
                None => {}
                Some(Some((position, key))) => visit(&mut self.stripe(&position), Some(key)),
                Some(None) => {
                    let stripes = self.stripes.iter();
                    stripes.for_each(|stripe| visit(&mut lock(stripe), None));
                }
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

/// A panic while it was held left it whole: every change is one call.
fn lock(stripe: &Mutex<Stripe>) -> MutexGuard<'_, Stripe> {
    stripe.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks, so that connections and shards seldom wait for each other.
const STRIPES: usize = 128;

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
        hot.around(&batch(2), || {
            hot.offer(&position, KEY, &Arc::new(head(1)), 10, before);
            assert_eq!(shown(&hot), None);
        });
        hot.offer(&position, KEY, &Arc::new(head(1)), 10, before);
        assert_eq!(shown(&hot), None);
        let after = miss(&hot);
        hot.offer(&position, KEY, &Arc::new(head(2)), 10, after);
        assert_eq!(shown(&hot), Some(2));
        hot.around(&batch(3), || assert_eq!(shown(&hot), None));
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
                commit(&hot, &storage, &batch(at_ms));
                acknowledged.store(at_ms, Ordering::SeqCst);
            }
        });
    }

    /// A connection may read from storage itself (off the workers, together with a key that is not in memory) and then through the cache.
    #[test]
    fn no_reader_goes_back_from_what_it_saw_in_storage() {
        let (hot, storage) = (HotHeads::new(1 << 20), MemoryStorage::default());
        let is_over = AtomicU64::new(0);
        storage.commit(&batch(0), Durability::Process).unwrap();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while is_over.load(Ordering::SeqCst) == 0 {
                        let seen = read_stored(&storage);
                        let next = read_through(&hot, &storage);
                        assert!(next >= seen, "saw {next} after {seen}");
                    }
                });
            }
            for at_ms in 1..=WRITES {
                commit(&hot, &storage, &batch(at_ms));
            }
            is_over.store(1, Ordering::SeqCst);
        });
    }

    fn read_stored(storage: &MemoryStorage) -> u64 {
        let stored = head::stored_key(&Position::of(KEY), KEY);
        let value = storage.get(Family::Head, &stored).unwrap().unwrap();
        Head::decode(KEY, &value).unwrap().expiry.at_ms.unwrap()
    }

    fn commit(hot: &HotHeads, storage: &MemoryStorage, batch: &Batch) {
        hot.around(batch, || storage.commit(batch, Durability::Process))
            .unwrap();
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
