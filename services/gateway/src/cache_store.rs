//! Where kept answers lie: in memory, by address.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
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

/// All kept answers.
#[derive(Debug, Default)]
pub(crate) struct CacheStore {
    shards: [Arc<Mutex<Places>>; SHARDS],
}

fn lock(shard: &Mutex<Places>) -> MutexGuard<'_, Places> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CacheStore {
    fn shard(&self, place: &str) -> &Arc<Mutex<Places>> {
        let last = place.as_bytes().last().copied().unwrap_or(0);
        let digit = char::from(last).to_digit(16).unwrap_or(0);
        &self.shards[digit as usize % SHARDS]
    }

    /// Forgets all answers of an address.
    pub(crate) fn forget(&self, place: &str, eviction: &dyn EvictionManager) {
        let gone = lock(self.shard(place)).remove(place);
        for (key, _) in gone.into_iter().flatten() {
            eviction.remove((&CacheEntryKey::KeyOnly(key)).into());
        }
    }

    /// Forgets everything.
    pub(crate) fn forget_all(&self, eviction: &dyn EvictionManager) {
        for shard in &self.shards {
            let gone = std::mem::take(&mut *lock(shard));
            for (key, _) in gone.into_values().flatten() {
                eviction.remove((&CacheEntryKey::KeyOnly(key)).into());
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
        }))
    }

    async fn purge(
        &'static self,
        target: PurgeTarget<'_>,
        _why: PurgeType,
        _trace: &SpanHandle,
    ) -> Result<PurgeOutcome> {
        let key = target.key();
        let mut places = lock(self.shard(&key.user_tag));
        let Some(place) = places.get_mut(&*key.user_tag) else {
            return Ok(PurgeOutcome::NotFound);
        };
        let before = place.len();
        place.retain(|(known, _)| known != key);
        let removed = place.len() < before;
        if place.is_empty() {
            places.remove(&*key.user_tag);
        }
        Ok(if removed {
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

/// An answer on its way in. Dropped before its end, it leaves nothing behind.
struct Miss {
    shard: Arc<Mutex<Places>>,
    key: CompactCacheKey,
    kept: Kept,
    body: BytesMut,
}

#[async_trait]
impl HandleMiss for Miss {
    async fn write_body(&mut self, data: Bytes, _end: bool) -> Result<()> {
        self.body.extend_from_slice(&data);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<MissFinishType> {
        let Self {
            shard,
            key,
            mut kept,
            body,
        } = *self;
        let declared = kept
            .head
            .headers
            .get(http::header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if declared.is_some_and(|declared| declared != body.len()) {
            return Error::e_explain(ErrorType::InternalError, "the answer is not whole");
        }
        kept.body = body.freeze();
        let weight = kept.weight();
        put(&shard, key, Arc::new(kept));
        Ok(MissFinishType::Created(weight))
    }
}
