//! How RocksDB is set up: one shared cache, and each family tuned for how it is used.
//!
//! | family | read by | written | so |
//! | --- | --- | --- | --- |
//! | head | key; ranges for SCAN | random | whole-key bloom filter |
//! | row | key; ranges within one key | random | whole-key and prefix bloom filter |
//! | outbox, hint | ranges from a cursor | ascending, trimmed by ranges | no filter; memtable flushed early when full of trims |
//! | cursor, meta | key, all of it | the same few rows again and again | small memtable |

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel,
    Options, SliceTransform,
};

use crate::storage::Family;

/// The knobs of the engine. Its memory is about `cache + memtables`; its disk beside the data is about `wal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RocksOptions {
    /// Blocks, indexes and filters kept in memory, in bytes, all families together. Rule of thumb: a quarter of the
    /// machine's memory. Too small: reads of what was read a moment ago go to disk. Too large: the system swaps.
    pub cache: usize,
    /// Written rows kept in memory before they are sorted to disk, in bytes, all families together. Rule of thumb:
    /// 64 to 256 MiB. Too small: many small files and constant compaction. Too large: starting after a crash replays longer.
    pub memtables: usize,
    /// The write-ahead log's size, in bytes, past which the families that hold it back are flushed. Not below
    /// `memtables`, else the log decides when to flush. Too large: starting after a crash replays longer.
    pub wal: u64,
    /// Threads for flushing and compacting. Rule of thumb: the cores, 2 to 8. Too few: writes stall behind compaction.
    pub background_jobs: i32,
    /// Tables kept open: file descriptors, at least 20. Too few: tables are opened and closed again and again. Too many: they are taken
    /// from clients.
    pub open_files: u16,
}

impl Default for RocksOptions {
    fn default() -> Self {
        Self {
            cache: 256 << 20,
            memtables: 128 << 20,
            wal: 192 << 20,
            background_jobs: 2,
            open_files: 512,
        }
    }
}

/// The bytes of a row key that name its partition and its key's hash: scans within them use the prefix filter.
pub(super) const ROW_PREFIX_BYTES: usize = 10;

/// What opening does with the rows that it finds in the log alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replayed {
    /// Writes them to tables, synced, so that the log can go. Needs as much space as the log has.
    ToTables,
    /// Keeps them in memory, and the log, which may grow to twice its bound before anything is flushed. Needs next to no
    /// space: nothing is written but the log.
    ToMemory,
}

/// The options of the whole database.
pub(super) fn database(
    options: &RocksOptions,
    replayed: Replayed,
) -> Result<Options, rocksdb::Error> {
    // RocksDB's own resuming after a failed write is off where it can be: a handle that failed is closed and opened
    // again, which is the one path that is tested.
    let keep_log = replayed == Replayed::ToMemory;
    // Where space is short, none is reserved ahead for the log either.
    let mut database = Options::default().get_options_from_string(format!(
        "max_bgerror_resume_count=0;avoid_flush_during_recovery={keep_log};allow_fallocate={}",
        !keep_log
    ))?;
    database.create_if_missing(true);
    database.create_missing_column_families(true);
    recovery(&mut database);
    memory(&mut database, options, replayed);
    quiet_log(&mut database);
    Ok(database)
}

/// The families of the database and their options: ours and the one that RocksDB insists on.
pub(super) fn families(
    options: &RocksOptions,
    cache: &Cache,
    replayed: Replayed,
) -> Result<Vec<ColumnFamilyDescriptor>, rocksdb::Error> {
    let memtables = Memtables::new(options, replayed);
    let default = ColumnFamilyDescriptor::new(
        rocksdb::DEFAULT_COLUMN_FAMILY_NAME,
        small(&memtables, cache),
    );
    let mut families = vec![default];
    for family in Family::ALL {
        let tuned = match family {
            Family::Head => head(&memtables, cache),
            Family::Row => row(&memtables, cache),
            Family::Outbox | Family::Hint => queue(&memtables, cache)?,
            Family::Cursor | Family::Meta => small(&memtables, cache),
        };
        families.push(ColumnFamilyDescriptor::new(family.name(), tuned));
    }
    Ok(families)
}

/// How many bytes one family's memtable may take before it is flushed. All of them together are bounded by
/// [`RocksOptions::memtables`] besides.
struct Memtables {
    hot: usize,
    queue: usize,
    small: usize,
}

impl Memtables {
    fn new(options: &RocksOptions, replayed: Replayed) -> Self {
        // Whatever the log holds must fit, or replaying it writes a table.
        let log_fits = usize::try_from(options.wal).map_or(usize::MAX, |wal| wal.saturating_mul(2));
        let of = |share: usize| match replayed {
            Replayed::ToTables => share.max(MEMTABLE_BYTES_MIN),
            Replayed::ToMemory => log_fits.max(MEMTABLE_BYTES_MIN),
        };
        Self {
            hot: of(options.memtables / 4),
            queue: of(options.memtables / 8),
            small: of((options.memtables / 32).min(SMALL_MEMTABLE_BYTES_MAX)),
        }
    }
}

/// Point in time: the log is replayed up to its first damaged record, and what follows is dropped.
///
/// - After kill -9 the page cache holds every commit that returned; only a record half-written at the moment of death
///   is damaged, and nobody was told of it. `AbsoluteConsistency` would refuse to start for that one.
/// - After power loss the unsynced tail can be anything: short, zeros, or late blocks without the earlier ones.
///   `TolerateCorruptedTailRecords` forgives a short last record only and refuses to start for the rest; the tail was
///   never promised to survive. `SkipAnyCorruptedRecords` goes on behind a hole: then a batch is there and an earlier
///   one is not, so an actor's stamps are shipped with a gap that nobody sees.
/// - What is left is a prefix of the commits, and holds everything synced: that is the promise. Synced bytes that
///   rotted would be dropped in the same way, so log files that are complete are checked against the manifest
///   (`track_and_verify_wals_in_manifest`), and a table newer than the log's end refuses to open. What slips through
///   is a directory that forgot its last stamps, which peers notice at the handshake.
fn recovery(database: &mut Options) {
    database.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    database.set_track_and_verify_wals_in_manifest(true);
    database.set_paranoid_checks(true);
}

fn memory(database: &mut Options, options: &RocksOptions, replayed: Replayed) {
    match replayed {
        Replayed::ToTables => {
            database.set_db_write_buffer_size(options.memtables);
            database.set_max_total_wal_size(options.wal);
        }
        // No flush may begin by itself right after opening: it would take the space that commits need.
        Replayed::ToMemory => database.set_max_total_wal_size(options.wal.saturating_mul(2)),
    }
    database.set_max_background_jobs(options.background_jobs);
    // Two shards commit from two threads: the next one's log write overlaps this one's memtable write.
    database.set_enable_pipelined_write(true);
    // The kernel writes behind steadily, so that a sync finds little left to do.
    database.set_bytes_per_sync(1 << 20);
    database.set_wal_bytes_per_sync(1 << 20);
    database.set_avoid_unnecessary_blocking_io(true);
    database.set_max_open_files(i32::from(options.open_files));
    database.set_manifest_preallocation_size(64 << 10);
}

fn quiet_log(database: &mut Options) {
    database.set_log_level(LogLevel::Warn);
    database.set_keep_log_file_num(2);
    database.set_max_log_file_size(1 << 20);
    database.set_stats_dump_period_sec(0);
    database.set_stats_persist_period_sec(0);
}

fn head(memtables: &Memtables, cache: &Cache) -> Options {
    let mut head = family(memtables.hot);
    filter_memtable(&mut head);
    head.set_block_based_table_factory(&filtered_table(cache));
    head
}

fn row(memtables: &Memtables, cache: &Cache) -> Options {
    let mut row = family(memtables.hot);
    filter_memtable(&mut row);
    row.set_prefix_extractor(SliceTransform::create_fixed_prefix(ROW_PREFIX_BYTES));
    row.set_block_based_table_factory(&filtered_table(cache));
    row
}

/// A new key or element is looked for in every memory table first, which is a cache miss at every step of a list: the filter answers with one.
fn filter_memtable(family: &mut Options) {
    family.set_memtable_prefix_bloom_ratio(MEMTABLE_FILTER_RATIO);
    family.set_memtable_whole_key_filtering(true);
}

fn queue(memtables: &Memtables, cache: &Cache) -> Result<Options, rocksdb::Error> {
    // Every trim is a range tombstone, and an iterator reads all those of the memtable: some thousands are felt.
    let mut queue =
        Options::default().get_options_from_string("memtable_max_range_deletions=1024")?;
    common(&mut queue, memtables.queue);
    queue.set_block_based_table_factory(&table(cache));
    Ok(queue)
}

fn small(memtables: &Memtables, cache: &Cache) -> Options {
    let mut small = family(memtables.small);
    small.set_block_based_table_factory(&table(cache));
    small
}

fn family(memtable: usize) -> Options {
    let mut family = Options::default();
    common(&mut family, memtable);
    family
}

fn common(family: &mut Options, memtable: usize) {
    family.set_write_buffer_size(memtable);
    family.set_max_write_buffer_number(4);
    family.set_compression_type(DBCompressionType::Lz4);
    family.set_level_compaction_dynamic_level_bytes(true);
}

fn table(cache: &Cache) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(16 << 10);
    table.set_format_version(5);
    // Counted in the cache, so that memory is bounded however much data there is.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table
}

fn filtered_table(cache: &Cache) -> BlockBasedOptions {
    let mut table = table(cache);
    table.set_bloom_filter(10.0, false);
    table.set_whole_key_filtering(true);
    table
}

/// The filter's part of a memory table: some 16 bits for each row of 100 bytes.
const MEMTABLE_FILTER_RATIO: f64 = 0.02;
const MEMTABLE_BYTES_MIN: usize = 1 << 20;
const SMALL_MEMTABLE_BYTES_MAX: usize = 4 << 20;
