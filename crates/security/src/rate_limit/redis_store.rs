//! Counters in Redis.

use std::fmt;
use std::num::NonZeroU32;

use redis::aio::ConnectionLike;
use redis::{RedisError, Script};

use super::quota::Quota;
use super::store::{Checked, Store, StoreError};

/// The algorithm of [`Quota::decide`], in microseconds since 1970: a number of Redis's Lua is exact to 2⁵³. Redis runs
/// a script alone, so no two machines count at once. The counter vanishes when it is paid off.
const SCRIPT: &str = r"
local cost, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local paid_until = tonumber(redis.call('GET', KEYS[1]) or now)
if paid_until < now then paid_until = now end
local next = paid_until + cost
local wait = next - (now + burst)
if wait > 0 then return {paid_until - now, wait} end
redis.call('SET', KEYS[1], string.format('%.0f', next), 'PX', math.ceil((next - now) / 1000))
return {next - now, 0}
";

/// Counts in Redis 5 or later, or what speaks its language, for all machines that use the same server and prefix.
///
/// The connection is the caller's: `redis::aio::MultiplexedConnection`, or `ConnectionManager`, which connects again
/// by itself. Give it a response time-out, as a request waits for the answer.
///
/// ```no_run
/// use std::num::NonZeroU32;
///
/// use gimmal_security::rate_limit::{Quota, RedisStore, Store};
///
/// # async fn login() -> Result<(), Box<dyn std::error::Error>> {
/// let connection = redis::Client::open("redis://127.0.0.1/")?.get_multiplexed_async_connection().await?;
/// let store = RedisStore::new(connection, "shop");
/// let quota = Quota::per_minute("login", 5)?;
/// let decision = store.check(&quota, "192.0.2.7", NonZeroU32::MIN).await?;
/// # let _ = decision;
/// # Ok(())
/// # }
/// ```
pub struct RedisStore<C> {
    connection: C,
    prefix: String,
    script: Script,
}

impl<C> fmt::Debug for RedisStore<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> RedisStore<C> {
    /// Counts over this connection, in keys `PREFIX:rate_limit:QUOTA:KEY`.
    #[must_use]
    pub fn new(connection: C, prefix: &str) -> Self {
        Self { connection, prefix: prefix.to_owned(), script: Script::new(SCRIPT) }
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Store for RedisStore<C> {
    fn check<'a>(&'a self, quota: &'a Quota, key: &'a str, weight: NonZeroU32) -> Checked<'a> {
        Box::pin(async move {
            let cost_us = quota.cost_ns(weight)?.div_ceil(1000);
            let burst_us = quota.burst_ns().div_ceil(1000);
            let (debt_us, wait_us): (u64, u64) = self
                .script
                .key(format!("{}:rate_limit:{}:{key}", self.prefix, quota.name()))
                .arg(cost_us)
                .arg(burst_us)
                .invoke_async(&mut self.connection.clone())
                .await
                .map_err(|error: RedisError| StoreError::Unavailable(Box::new(error)))?;
            Ok(quota.decision(debt_us.saturating_mul(1000), wait_us.saturating_mul(1000)))
        })
    }
}
