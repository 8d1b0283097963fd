//! Where kept answers lie: in memory, by address.

use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use pingora_cache::eviction::lru::Manager;
use pingora_cache::eviction::{CacheEntryKey, EvictionManager};
use pingora_cache::key::{CacheHashKey, CompactCacheKey, HashBinary};
use pingora_cache::storage::{HandleHit, HandleMiss, MissFinishType, PurgeOutcome, PurgeTarget};
use pingora_cache::trace::SpanHandle;
use pingora_cache::{CacheKey, CacheMeta, HitHandler, MissHandler, PurgeType, Storage};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;

/// Parts that are locked on their own.
pub(crate) const SHARDS: usize = 16;
/// What an answer costs beside its head and body.
const OVERHEAD: usize = 512;

/// One kept answer.
#[derive(Debug)]
struct Kept {
    fresh_until: SystemTime,
    created: SystemTime,
    born: SystemTime,
    stale_while_revalidate: u32,
    stale_if_error: u32,
    variance: Option<HashBinary>,
    head: ResponseHeader,
    body: Bytes,
}

impl Kept {
    fn new(meta: &CacheMeta, body: Bytes) -> Self {
        Self {
            fresh_until: meta.fresh_until(),
            created: meta.created(),
            born: meta.epoch(),
            stale_while_revalidate: meta.stale_while_revalidate_sec(),
            stale_if_error: meta.stale_if_error_sec(),
            variance: meta.variance(),
            head: meta.response_header_copy(),
            body,
        }
    }

    fn meta(&self) -> CacheMeta {
        let mut meta = CacheMeta::new(
            self.fresh_until,
            self.created,
            self.stale_while_revalidate,
            self.stale_if_error,
            self.head.clone(),
        );
        meta.set_epoch_override(self.born);
        if let Some(variance) = self.variance {
            meta.set_variance(variance);
        }
        meta
    }

    fn weight(&self) -> usize {
        let head = self.head.headers.iter();
        let head: usize = head
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        self.body.len() + head + OVERHEAD
    }
}

/// The answers of one address.
type Place = Vec<(CompactCacheKey, Arc<Kept>)>;
type Places = HashMap<Box<str>, Place>;

/// What decides which answers go to make room.
pub(crate) type Eviction = Manager<SHARDS>;

/// All kept answers, and those on their way in: together they stay within the memory that is set.
pub(crate) struct CacheStore {
    shards: [Arc<Mutex<Places>>; SHARDS],
    eviction: &'static Eviction,
    memory: AtomicUsize,
    /// Bytes of answers on their way in.
    coming: AtomicUsize,
}

fn lock(shard: &Mutex<Places>) -> MutexGuard<'_, Places> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CacheStore {
    pub(crate) fn new(eviction: &'static Eviction) -> Self {
        Self {
            shards: Default::default(),
            eviction,
            memory: AtomicUsize::new(usize::MAX),
            coming: AtomicUsize::new(0),
        }
    }

    /// Bounds the memory, in bytes.
    pub(crate) fn limit(&self, bytes: usize) {
        if self.memory.swap(bytes, Ordering::Relaxed) != bytes {
            self.leave_to_kept();
        }
    }

    /// Sets what kept answers may weigh: all that is not taken by those on their way in.
    fn leave_to_kept(&self) {
        let coming = self.coming.load(Ordering::Relaxed);
        let left = self.memory.load(Ordering::Relaxed).saturating_sub(coming);
        self.eviction.set_weight_limit(left);
    }

    /// Takes memory for a part of an answer on its way in; kept ones that were not asked for lately go for it. Half of the
    /// memory stays with them, however many answers come slowly.
    ///
    /// - returns: whether there was enough
    fn take(&self, bytes: usize) -> bool {
        let most = self.memory.load(Ordering::Relaxed) / 2;
        let taken = self
            .coming
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |coming| {
                coming.checked_add(bytes).filter(|sum| *sum <= most)
            });
        if taken.is_err() {
            return false;
        }
        self.leave_to_kept();
        if self.eviction.total_size() > self.eviction.weight_limit() {
            self.make_room();
        }
        true
    }

    fn give_back(&self, bytes: usize) {
        self.coming.fetch_sub(bytes, Ordering::Relaxed);
        self.leave_to_kept();
    }

    /// Lets go of kept answers until the others are within their limit.
    fn make_room(&self) {
        // It looks for what has to go when something is added; this weighs nothing.
        let nothing = CacheEntryKey::KeyOnly(CacheKey::new("nothing", "").to_compact());
        let gone = self.eviction.admit(nothing.clone(), 0, SystemTime::now());
        self.eviction.remove((&nothing).into());
        for entry in gone {
            let CacheEntryKey::KeyOnly(key) = entry else {
                continue;
            };
            self.remove(&key);
        }
    }

    /// - returns: whether it was there
    fn remove(&self, key: &CompactCacheKey) -> bool {
        let mut places = lock(self.shard(&key.user_tag));
        let Some(place) = places.get_mut(&*key.user_tag) else {
            return false;
        };
        let before = place.len();
        place.retain(|(known, _)| known != key);
        let removed = place.len() < before;
        if place.is_empty() {
            places.remove(&*key.user_tag);
        }
        removed
    }

    fn shard(&self, place: &str) -> &Arc<Mutex<Places>> {
        let last = place.as_bytes().last().copied().unwrap_or(0);
        let digit = char::from(last).to_digit(16).unwrap_or(0);
        &self.shards[digit as usize % SHARDS]
    }

    /// Forgets all answers of an address.
    pub(crate) fn forget(&self, place: &str) {
        let gone = lock(self.shard(place)).remove(place);
        for (key, _) in gone.into_iter().flatten() {
            self.eviction.remove((&CacheEntryKey::KeyOnly(key)).into());
        }
    }

    /// Forgets everything.
    pub(crate) fn forget_all(&self) {
        for shard in &self.shards {
            let gone = std::mem::take(&mut *lock(shard));
            for (key, _) in gone.into_values().flatten() {
                self.eviction.remove((&CacheEntryKey::KeyOnly(key)).into());
            }
        }
    }

    fn find(&self, key: &CacheKey) -> Option<Arc<Kept>> {
        let (primary, variance) = (key.primary_bin(), key.variance_bin());
        let places = lock(self.shard(key.user_tag()));
        places
            .get(key.user_tag())?
            .iter()
            .find(|(known, _)| {
                known.primary == primary && known.variance.as_deref() == variance.as_ref()
            })
            .map(|(_, kept)| kept.clone())
    }
}

fn put(shard: &Mutex<Places>, key: CompactCacheKey, kept: Arc<Kept>) {
    let mut places = lock(shard);
    let place = places.entry(key.user_tag.clone()).or_default();
    match place.iter_mut().find(|(known, _)| *known == key) {
        Some((_, known)) => *known = kept,
        None => place.push((key, kept)),
    }
}

#[async_trait]
impl Storage for CacheStore {
    async fn lookup(
        &'static self,
        key: &CacheKey,
        _trace: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        Ok(self.find(key).map(|kept| {
            let meta = kept.meta();
            let end = kept.body.len();
            let hit: HitHandler = Box::new(Hit {
                kept,
                start: 0,
                end,
                read: false,
            });
            (meta, hit)
        }))
    }

    async fn get_miss_handler(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _trace: &SpanHandle,
    ) -> Result<MissHandler> {
        Ok(Box::new(Miss {
            shard: self.shard(key.user_tag()).clone(),
            key: key.to_compact(),
            kept: Kept::new(meta, Bytes::new()),
            body: BytesMut::new(),
            taken: Taken {
                store: self,
                bytes: 0,
            },
        }))
    }

    async fn purge(
        &'static self,
        target: PurgeTarget<'_>,
        _why: PurgeType,
        _trace: &SpanHandle,
    ) -> Result<PurgeOutcome> {
        Ok(if self.remove(target.key()) {
            PurgeOutcome::Purged(None)
        } else {
            PurgeOutcome::NotFound
        })
    }

    async fn update_meta(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _trace: &SpanHandle,
    ) -> Result<bool> {
        let Some(kept) = self.find(key) else {
            return Ok(false);
        };
        let fresh = Arc::new(Kept::new(meta, kept.body.clone()));
        put(self.shard(key.user_tag()), key.to_compact(), fresh);
        Ok(true)
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

/// A kept answer on its way to a client.
struct Hit {
    kept: Arc<Kept>,
    start: usize,
    end: usize,
    read: bool,
}

#[async_trait]
impl HandleHit for Hit {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        if std::mem::replace(&mut self.read, true) {
            return Ok(None);
        }
        Ok(Some(self.kept.body.slice(self.start..self.end)))
    }

    async fn finish(
        self: Box<Self>,
        _storage: &'static (dyn Storage + Sync),
        _key: &CacheKey,
        _trace: &SpanHandle,
    ) -> Result<()> {
        Ok(())
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn seek(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        let length = self.kept.body.len();
        if start >= length {
            let why = format!("byte {start} of {length} was asked for");
            return Error::e_explain(ErrorType::InternalError, why);
        }
        self.start = start;
        self.end = end.unwrap_or(length).clamp(start, length);
        self.read = false;
        Ok(())
    }

    fn get_eviction_weight(&self) -> usize {
        self.kept.weight()
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}

/// Memory of an answer on its way in.
struct Taken {
    store: &'static CacheStore,
    bytes: usize,
}

impl Taken {
    fn grow_to(&mut self, bytes: usize) -> Result<()> {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 && !self.store.take(more) {
            let why = "the memory for kept answers is taken by others on their way in";
            return Error::e_explain(ErrorType::InternalError, why);
        }
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.store.give_back(self.bytes);
    }
}

/// An answer on its way in. Dropped before its end, it leaves nothing behind.
struct Miss {
    shard: Arc<Mutex<Places>>,
    key: CompactCacheKey,
    kept: Kept,
    body: BytesMut,
    taken: Taken,
}

#[async_trait]
impl HandleMiss for Miss {
    /// An error has the answer passed on without being kept.
    async fn write_body(&mut self, data: Bytes, _end: bool) -> Result<()> {
        self.taken.grow_to(self.body.len() + data.len())?;
        self.body.extend_from_slice(&data);
        // Memory is taken ahead, so that not each part is moved.
        self.taken.grow_to(self.body.capacity())
    }

    async fn finish(self: Box<Self>) -> Result<MissFinishType> {
        let Self {
            shard,
            key,
            mut kept,
            body,
            taken,
        } = *self;
        let declared = kept
            .head
            .headers
            .get(http::header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if declared.is_some_and(|declared| declared != body.len()) {
            return Error::e_explain(ErrorType::InternalError, "the answer is not whole");
        }
        kept.body = if body.capacity() - body.len() > body.len() / 8 {
            Bytes::copy_from_slice(&body) // What was taken ahead is not kept.
        } else {
            body.freeze()
        };
        let weight = kept.weight();
        put(&shard, key, Arc::new(kept));
        drop(taken);
        Ok(MissFinishType::Created(weight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: usize = 64 * 1024;

    fn store() -> &'static CacheStore {
        let eviction = Box::leak(Box::new(Eviction::with_capacity(usize::MAX, 8)));
        let store: &'static CacheStore = Box::leak(Box::new(CacheStore::new(eviction)));
        store.limit(MEMORY);
        store
    }

    /// An answer that begins to come in.
    async fn miss(store: &'static CacheStore, name: &str) -> (CacheKey, MissHandler) {
        let key = CacheKey::new(name, "0");
        let now = SystemTime::now();
        let head = ResponseHeader::build(200, None).unwrap();
        let meta = CacheMeta::new(now, now, 0, 0, head);
        let span = pingora_cache::trace::Span::inactive().handle();
        let miss = store.get_miss_handler(&key, &meta, &span).await.unwrap();
        (key, miss)
    }

    #[tokio::test]
    async fn answers_on_their_way_in_count_and_older_ones_make_room() {
        let store = store();
        let part = || Bytes::from(vec![b'x'; 10 * 1024]);
        // Kept ones may have all of the memory,
        for name in ["a", "b", "c", "d", "e"] {
            let (key, mut miss) = miss(store, name).await;
            miss.write_body(part(), true).await.unwrap();
            let MissFinishType::Created(weight) = miss.finish().await.unwrap() else {
                panic!("it is new");
            };
            let entry = CacheEntryKey::KeyOnly(key.to_compact());
            let gone = store.eviction.admit(entry, weight, SystemTime::now());
            assert!(gone.is_empty(), "{name}");
        }
        assert_eq!(store.coming.load(Ordering::Relaxed), 0);
        // and leave up to half of it to those on their way in.
        let (_, mut first) = miss(store, "f").await;
        let (_, mut second) = miss(store, "g").await;
        for _ in 0..2 {
            first.write_body(part(), false).await.unwrap();
        }
        let kept = || store.eviction.total_size();
        let coming = || store.coming.load(Ordering::Relaxed);
        assert!(coming() >= 20 * 1024 && kept() + coming() <= MEMORY);
        let there = || {
            let names = ["a", "b", "c", "d", "e"].into_iter();
            names
                .filter(|name| store.find(&CacheKey::new(*name, "0")).is_some())
                .count()
        };
        assert_eq!(there(), 4);
        let mut parts = 0;
        while second.write_body(part(), false).await.is_ok() {
            parts += 1;
        }
        assert_eq!((parts, there()), (1, 3));
        assert!(coming() <= MEMORY / 2 && kept() + coming() <= MEMORY);
        // Who ends, however that is, leaves room for others.
        drop((first, second));
        assert_eq!(coming(), 0);
        assert_eq!(store.eviction.weight_limit(), MEMORY);
        let (_, mut third) = miss(store, "h").await;
        third.write_body(part(), false).await.unwrap();
    }
}
