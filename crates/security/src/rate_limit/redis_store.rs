//! Counters in Redis.

use std::num::NonZeroU32;

use redis::{Cmd, Script, cmd};
use secrecy::SecretString;

use super::quota::Quota;
use super::store::{Checked, Store, StoreError};
use crate::redis_connection::{RedisConnections, RedisFailure};

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
/// Each core has a connection of its own, opened within its Tokio runtime at the first question and again after it
/// broke. An answer that takes longer than half a second is an error.
///
/// ```no_run
/// use std::num::NonZeroU32;
///
/// use gimmal_security::SecretString;
/// use gimmal_security::rate_limit::{Quota, RedisStore, Store};
///
/// # async fn login() -> Result<(), Box<dyn std::error::Error>> {
/// let store = RedisStore::new(&SecretString::from("redis://127.0.0.1:6379/0"), "shop")?;
/// let quota = Quota::per_minute("login", 5)?;
/// let decision = store.check(&quota, "192.0.2.7", NonZeroU32::MIN).await?;
/// # let _ = decision;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RedisStore {
    connections: RedisConnections,
    prefix: String,
    script_hash: String,
}

impl RedisStore {
    /// Counts in the server at `url`, such as `redis://:password@host:6379/0` or `unix:///run/redis.sock`, in keys
    /// `PREFIX:rate_limit:QUOTA:KEY`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if this is no address of a Redis server.
    pub fn new(url: &SecretString, prefix: &str) -> Result<Self, StoreError> {
        Ok(Self {
            connections: RedisConnections::new(url)?,
            prefix: prefix.to_owned(),
            script_hash: Script::new(SCRIPT).get_hash().to_owned(),
        })
    }

    /// Runs the script, which the server may have to be given first.
    async fn count(&self, key: &str, cost_us: u64, burst_us: u64) -> Result<(u64, u64), RedisFailure> {
        let command = |name: &str, script: &str| -> Cmd {
            let mut command = cmd(name);
            command.arg(script).arg(1).arg(key).arg(cost_us).arg(burst_us);
            command
        };
        match self.connections.query(&command("EVALSHA", &self.script_hash)).await {
            Err(RedisFailure::NoScript) => self.connections.query(&command("EVAL", SCRIPT)).await,
            counted => counted,
        }
    }
}

impl Store for RedisStore {
    fn check<'a>(&'a self, quota: &'a Quota, key: &'a str, weight: NonZeroU32) -> Checked<'a> {
        Box::pin(async move {
            let cost_us = quota.cost_ns(weight)?.div_ceil(1000);
            let burst_us = quota.burst_ns().div_ceil(1000);
            let key = format!("{}:rate_limit:{}:{key}", self.prefix, quota.name());
            let (debt_us, wait_us) = self.count(&key, cost_us, burst_us).await?;
            Ok(quota.decision(debt_us.saturating_mul(1000), wait_us.saturating_mul(1000)))
        })
    }
}

impl From<RedisFailure> for StoreError {
    fn from(failure: RedisFailure) -> Self {
        Self::Unavailable(Box::new(failure))
    }
}
