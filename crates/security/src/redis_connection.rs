//! The way to a Redis server, shared by all that is kept there.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError};
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use tokio::runtime::{Handle, Id};

/// Why Redis gave no answer. The error of the client is left out: it can hold the server's address, and with it a
/// password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum RedisFailure {
    #[error("Redis refused the name or the password")]
    Authentication,
    #[error("the address is not that of a Redis server")]
    Address,
    #[error("Redis did not answer in time")]
    TimedOut,
    #[error("Redis cannot be reached")]
    Unreachable,
    #[error("Redis does not know the script")]
    NoScript,
    #[error("Redis refused the command")]
    Refused,
}

impl From<RedisError> for RedisFailure {
    fn from(error: RedisError) -> Self {
        match error.kind() {
            ErrorKind::AuthenticationFailed => Self::Authentication,
            ErrorKind::InvalidClientConfig => Self::Address,
            ErrorKind::Server(redis::ServerErrorKind::NoScript) => Self::NoScript,
            _ if error.is_timeout() => Self::TimedOut,
            _ if error.is_io_error() || error.is_connection_dropped() => Self::Unreachable,
            _ => Self::Refused,
        }
    }
}

/// One connection, opened by whoever needs it first.
type Slot = Arc<futures_util::lock::Mutex<Option<MultiplexedConnection>>>;

/// Connections to one server: one for each Tokio runtime that asks, so that no core waits for another. Each is opened
/// at the first question, and again after it broke.
pub(crate) struct RedisConnections {
    client: redis::Client,
    slots: Mutex<HashMap<Id, Slot>>,
}

impl RedisConnections {
    /// The server at `url`, such as `redis://:password@host:6379/0` or `unix:///run/redis.sock`.
    pub(crate) fn new(url: &SecretString) -> Result<Self, RedisFailure> {
        let client = redis::Client::open(url.expose_secret())?;
        Ok(Self { client, slots: Mutex::default() })
    }

    /// Sends a command, over a new connection if the last one broke.
    pub(crate) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisFailure> {
        let slot = self.slot();
        let mut is_retry = false;
        loop {
            let mut connection = self.connection(&slot).await?;
            let failure = match command.query_async(&mut connection).await {
                Ok(answer) => return Ok(answer),
                Err(error) => RedisFailure::from(error),
            };
            if failure == RedisFailure::Unreachable {
                *slot.lock().await = None;
                if !std::mem::replace(&mut is_retry, true) {
                    continue;
                }
            }
            return Err(failure);
        }
    }

    /// The place for the connection of this runtime.
    fn slot(&self) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(Handle::current().id()).or_default())
    }

    async fn connection(&self, slot: &Slot) -> Result<MultiplexedConnection, RedisFailure> {
        let mut connection = slot.lock().await;
        if let Some(connection) = &*connection {
            return Ok(connection.clone());
        }
        let opened = self.client.get_multiplexed_async_connection().await?;
        Ok(connection.insert(opened).clone())
    }
}

impl fmt::Debug for RedisConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConnections").finish_non_exhaustive()
    }
}
