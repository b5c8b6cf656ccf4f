//! Sessions in Redis, for many machines.

use std::collections::HashMap;

use redis::{Cmd, FromRedisValue, cmd};
use secrecy::SecretString;
use serde_json::{Map, Value};

use super::{SessionChange, SessionKey, SessionRecord, SessionStore, SessionStoreError};
use crate::redis_connection::{RedisConnections, RedisFailure};

// A session is a hash, so that each of its values changes alone; a label is a set of keys, sorted by the time at which
// they expire. Redis runs a script as one step.

/// KEYS: session, labels. ARGV: the end, now, the session's key, then names and values.
const INSERT: &str = "
    redis.call('DEL', KEYS[1])
    for i = 4, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
    redis.call('EXPIREAT', KEYS[1], ARGV[1])
    for i = 2, #KEYS do
        redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', ARGV[2])
        redis.call('ZADD', KEYS[i], ARGV[1], ARGV[3])
        redis.call('EXPIREAT', KEYS[i], redis.call('ZRANGE', KEYS[i], -1, -1, 'WITHSCORES')[2])
    end
    return 1
";

/// KEYS: session. ARGV: the end, the session's key, the prefix of labels, the number of removed names, the removed
/// names, then names and values.
const UPDATE: &str = "
    local labels = redis.call('HGET', KEYS[1], 'labels')
    if not labels then return 0 end
    local first = 5 + tonumber(ARGV[4])
    for i = 5, first - 1 do redis.call('HDEL', KEYS[1], ARGV[i]) end
    for i = first, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
    redis.call('EXPIREAT', KEYS[1], ARGV[1])
    for _, label in ipairs(cjson.decode(labels)) do
        local key = ARGV[3] .. label
        redis.call('ZADD', key, ARGV[1], ARGV[2])
        redis.call('EXPIREAT', key, redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2])
    end
    return 1
";

/// KEYS: session. ARGV: the session's key, the prefix of labels.
const REMOVE: &str = "
    local labels = redis.call('HGET', KEYS[1], 'labels')
    if not labels then return 0 end
    redis.call('DEL', KEYS[1])
    for _, label in ipairs(cjson.decode(labels)) do redis.call('ZREM', ARGV[2] .. label, ARGV[1]) end
    return 1
";

/// Before the names of the application's values in a session's hash.
const VALUE_PREFIX: &str = "value:";

/// A store in a Redis server (6 or later, or Valkey; not a cluster), which many machines share.
///
/// Each core has a connection of its own, opened within its Tokio runtime at the first question and again after it
/// broke.
///
/// ```
/// use gimmal_security::SecretString;
/// use gimmal_security::session::{RedisSessionStore, SessionOptions, Sessions};
///
/// let store = RedisSessionStore::new(&SecretString::from("redis://127.0.0.1:6379/0"), "shop")?;
/// let sessions = Sessions::new(store, SessionOptions::default());
/// # Ok::<(), gimmal_security::session::SessionStoreError>(())
/// ```
#[derive(Debug)]
pub struct RedisSessionStore {
    connections: RedisConnections,
    session_prefix: String,
    label_prefix: String,
}

impl RedisSessionStore {
    /// A store in the server at `url`, such as `redis://:password@host:6379/0` or `unix:///run/redis.sock`. All keys
    /// begin with `prefix`, so that several services can share a server.
    ///
    /// # Errors
    /// [`SessionStoreError::Failed`] if this is no address of a Redis server.
    pub fn new(url: &SecretString, prefix: &str) -> Result<Self, SessionStoreError> {
        Ok(Self {
            connections: RedisConnections::new(url)?,
            session_prefix: format!("{prefix}:session:"),
            label_prefix: format!("{prefix}:session-label:"),
        })
    }

    async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, SessionStoreError> {
        Ok(self.connections.query(command).await?)
    }

    fn session(&self, key: &SessionKey) -> String {
        format!("{}{key}", self.session_prefix)
    }
}

impl SessionStore for RedisSessionStore {
    async fn load(&self, key: &SessionKey) -> Result<Option<SessionRecord>, SessionStoreError> {
        record(&self.query(cmd("HGETALL").arg(self.session(key))).await?)
    }

    async fn insert(&self, key: &SessionKey, record: &SessionRecord) -> Result<(), SessionStoreError> {
        let mut command = cmd("EVAL");
        command.arg(INSERT).arg(1 + record.labels.len()).arg(self.session(key));
        for label in &record.labels {
            command.arg(format!("{}{label}", self.label_prefix));
        }
        command.arg(record.expires_at).arg(record.seen_at).arg(key.to_string());
        command.arg("created_at").arg(record.created_at);
        command.arg("seen_at").arg(record.seen_at);
        command.arg("expires_at").arg(record.expires_at);
        command.arg("labels").arg(json(&record.labels)?);
        if let Some(principal) = &record.principal {
            command.arg("principal").arg(json(principal)?);
        }
        for (name, value) in &record.data {
            command.arg(format!("{VALUE_PREFIX}{name}")).arg(value.to_string());
        }
        self.query(&command).await
    }

    async fn update(&self, key: &SessionKey, change: &SessionChange) -> Result<bool, SessionStoreError> {
        let removed = change.data.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name);
        let mut command = cmd("EVAL");
        command.arg(UPDATE).arg(1).arg(self.session(key));
        command.arg(change.expires_at).arg(key.to_string()).arg(&self.label_prefix);
        command.arg(removed.clone().count());
        for name in removed {
            command.arg(format!("{VALUE_PREFIX}{name}"));
        }
        command.arg("seen_at").arg(change.seen_at);
        command.arg("expires_at").arg(change.expires_at);
        for (name, value) in &change.data {
            if let Some(value) = value {
                command.arg(format!("{VALUE_PREFIX}{name}")).arg(value.to_string());
            }
        }
        self.query(&command).await
    }

    async fn remove(&self, key: &SessionKey) -> Result<bool, SessionStoreError> {
        let mut command = cmd("EVAL");
        command.arg(REMOVE).arg(1).arg(self.session(key)).arg(key.to_string()).arg(&self.label_prefix);
        self.query(&command).await
    }

    async fn list(&self, label: &str) -> Result<Vec<(SessionKey, SessionRecord)>, SessionStoreError> {
        let label = format!("{}{label}", self.label_prefix);
        let keys: Vec<String> = self.query(cmd("ZRANGE").arg(label).arg(0).arg(-1)).await?;
        let mut sessions = Vec::with_capacity(keys.len());
        for key in keys {
            let key = SessionKey::parse(&key).ok_or(SessionStoreError::Corrupt)?;
            // A key may stay in the set for as long as a session of the label lives.
            sessions.extend(self.load(&key).await?.map(|record| (key, record)));
        }
        Ok(sessions)
    }

    /// Redis does this by itself.
    async fn remove_expired(&self, _now: u64) -> Result<usize, SessionStoreError> {
        Ok(0)
    }
}

/// The session that the hash holds.
fn record(fields: &HashMap<String, String>) -> Result<Option<SessionRecord>, SessionStoreError> {
    if fields.is_empty() {
        return Ok(None);
    }
    let parse = |json: &String| serde_json::from_str(json).map_err(|_| SessionStoreError::Corrupt);
    let time =
        |name: &str| fields.get(name).and_then(|time| time.parse().ok()).ok_or(SessionStoreError::Corrupt);
    let mut data = Map::new();
    for (field, value) in fields {
        if let Some(name) = field.strip_prefix(VALUE_PREFIX) {
            data.insert(name.to_owned(), parse(value)?);
        }
    }
    let labels: Value = parse(fields.get("labels").ok_or(SessionStoreError::Corrupt)?)?;
    let principal = fields.get("principal").map(|json| serde_json::from_str(json)).transpose();
    Ok(Some(SessionRecord {
        created_at: time("created_at")?,
        seen_at: time("seen_at")?,
        expires_at: time("expires_at")?,
        principal: principal.map_err(|_| SessionStoreError::Corrupt)?,
        data,
        labels: serde_json::from_value(labels).map_err(|_| SessionStoreError::Corrupt)?,
    }))
}

fn json<T: serde::Serialize>(value: &T) -> Result<String, SessionStoreError> {
    serde_json::to_string(value).map_err(|_| SessionStoreError::Corrupt)
}

impl From<RedisFailure> for SessionStoreError {
    fn from(failure: RedisFailure) -> Self {
        Self::Failed(failure.to_string())
    }
}
