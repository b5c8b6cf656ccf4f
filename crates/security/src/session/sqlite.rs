//! Sessions in an SQLite file, for the processes of one machine.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::lock::Mutex as AsyncMutex;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{SessionChange, SessionKey, SessionRecord, SessionStore, SessionStoreError};
use crate::BlockingPool;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS session (
        key BLOB PRIMARY KEY,
        created_at INTEGER NOT NULL,
        seen_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        principal TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS session_expiry ON session (expires_at);
    CREATE TABLE IF NOT EXISTS session_data (
        key BLOB NOT NULL REFERENCES session ON DELETE CASCADE,
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (key, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS session_label (
        key BLOB NOT NULL REFERENCES session ON DELETE CASCADE,
        label TEXT NOT NULL,
        PRIMARY KEY (key, label)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS session_by_label ON session_label (label);
";

/// How long a write waits for another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections for reading that are kept open while nobody reads.
const IDLE_READERS_MAX: usize = 8;

/// A store in an SQLite file: sessions outlive the process, and several processes of a machine share them.
///
/// SQLite blocks, so each call runs on a pool of threads that the caller supplies. Clones share the connections. Reading
/// a session waits for no write, and of the writes that wait for their turn none holds a thread of the pool.
///
/// ```
/// use gimmal_security::BlockingPool;
/// use gimmal_security::session::{SessionOptions, Sessions, SqliteSessionStore};
///
/// # struct Tokio;
/// # impl BlockingPool for Tokio {
/// #     async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
/// #         tokio::task::spawn_blocking(work).await.ok()
/// #     }
/// # }
/// # let directory = tempfile::tempdir()?;
/// let store = SqliteSessionStore::open(directory.path().join("sessions.db"), Tokio)?;
/// let sessions = Sessions::new(store, SessionOptions::default());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SqliteSessionStore<B> {
    connections: Arc<Connections>,
    pool: B,
}

#[derive(Debug)]
struct Connections {
    writer: Mutex<Connection>,
    /// Held by the one call that writes: the others wait for it without a thread.
    writing: AsyncMutex<()>,
    /// Those that nobody uses right now.
    readers: Mutex<Vec<Connection>>,
    /// What readers open; `None` for a database without a file, which only its writer can read.
    path: Option<PathBuf>,
}

impl Connections {
    fn open(path: &Path) -> rusqlite::Result<Self> {
        let writer = Connection::open(path)?;
        writer.busy_timeout(BUSY_TIMEOUT)?;
        writer.pragma_update(None, "journal_mode", "WAL")?;
        writer.pragma_update(None, "synchronous", "NORMAL")?;
        writer.pragma_update(None, "foreign_keys", true)?;
        writer.execute_batch(SCHEMA)?;
        let path = writer.path().filter(|path| !path.is_empty()).map(PathBuf::from);
        Ok(Self { writer: Mutex::new(writer), writing: AsyncMutex::new(()), readers: Mutex::default(), path })
    }

    fn write<T>(&self, work: Work<T>) -> Result<T, SessionStoreError> {
        transact(&mut lock(&self.writer), TransactionBehavior::Immediate, work)
    }

    /// Reads on a connection of its own: in WAL mode it sees all that was committed, and waits for nobody.
    fn read<T>(&self, work: Work<T>) -> Result<T, SessionStoreError> {
        let Some(path) = &self.path else { return self.write(work) };
        let idle = lock(&self.readers).pop();
        let mut reader = match idle {
            Some(reader) => reader,
            None => open_reader(path).map_err(failed)?,
        };
        let output = transact(&mut reader, TransactionBehavior::Deferred, work);
        // One that failed may go on failing.
        let mut readers = lock(&self.readers);
        if output.is_ok() && readers.len() < IDLE_READERS_MAX {
            readers.push(reader);
        }
        output
    }
}

type Work<T> = Box<dyn FnOnce(&Transaction<'_>) -> Result<T, SessionStoreError> + Send>;

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let reader = Connection::open_with_flags(path, flags)?;
    reader.busy_timeout(BUSY_TIMEOUT)?;
    Ok(reader)
}

fn transact<T>(
    connection: &mut Connection,
    behavior: TransactionBehavior,
    work: Work<T>,
) -> Result<T, SessionStoreError> {
    let transaction = connection.transaction_with_behavior(behavior).map_err(failed)?;
    let output = work(&transaction)?;
    transaction.commit().map_err(failed)?;
    Ok(output)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B: Clone> Clone for SqliteSessionStore<B> {
    fn clone(&self) -> Self {
        Self { connections: Arc::clone(&self.connections), pool: self.pool.clone() }
    }
}

impl<B: BlockingPool> SqliteSessionStore<B> {
    /// Opens the file, or creates it. Blocks: to be called at start.
    ///
    /// # Errors
    /// [`SessionStoreError::Failed`] if the file cannot be opened or is no database of this kind.
    pub fn open(path: impl AsRef<Path>, pool: B) -> Result<Self, SessionStoreError> {
        let connections = Connections::open(path.as_ref()).map_err(failed)?;
        Ok(Self { connections: Arc::new(connections), pool })
    }

    /// Runs `work` on the pool in a transaction that takes the lock of the file for writing.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, SessionStoreError> + Send + 'static,
    ) -> Result<T, SessionStoreError> {
        let _turn = self.connections.writing.lock().await;
        let connections = Arc::clone(&self.connections);
        self.pool.run(move || connections.write(Box::new(work))).await.ok_or_else(pool_is_full)?
    }

    /// Runs `work` on the pool in a transaction that only reads.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, SessionStoreError> + Send + 'static,
    ) -> Result<T, SessionStoreError> {
        let connections = Arc::clone(&self.connections);
        self.pool.run(move || connections.read(Box::new(work))).await.ok_or_else(pool_is_full)?
    }
}

impl<B: BlockingPool> SessionStore for SqliteSessionStore<B> {
    async fn load(&self, key: &SessionKey) -> Result<Option<SessionRecord>, SessionStoreError> {
        let key = *key;
        self.read(move |transaction| load(transaction, &key)).await
    }

    async fn insert(&self, key: &SessionKey, record: &SessionRecord) -> Result<(), SessionStoreError> {
        let (key, record) = (*key, record.clone());
        self.write(move |transaction| insert(transaction, &key, &record)).await
    }

    async fn update(&self, key: &SessionKey, change: &SessionChange) -> Result<bool, SessionStoreError> {
        let (key, change) = (*key, change.clone());
        self.write(move |transaction| update(transaction, &key, &change)).await
    }

    async fn remove(&self, key: &SessionKey) -> Result<bool, SessionStoreError> {
        let key = *key;
        self.write(move |transaction| {
            let removed = transaction.execute("DELETE FROM session WHERE key = ?1", [key.as_bytes()]);
            Ok(removed.map_err(failed)? > 0)
        })
        .await
    }

    async fn list(&self, label: &str) -> Result<Vec<(SessionKey, SessionRecord)>, SessionStoreError> {
        let label = label.to_owned();
        self.read(move |transaction| {
            let mut statement = transaction
                .prepare_cached("SELECT key FROM session_label WHERE label = ?1")
                .map_err(failed)?;
            let keys = statement.query_map([label], |row| row.get(0)).map_err(failed)?;
            let mut sessions = Vec::new();
            for key in keys {
                let key = SessionKey::from_bytes(key.map_err(failed)?);
                sessions.extend(load(transaction, &key)?.map(|record| (key, record)));
            }
            Ok(sessions)
        })
        .await
    }

    async fn remove_expired(&self, now: u64) -> Result<usize, SessionStoreError> {
        self.write(move |transaction| {
            transaction.execute("DELETE FROM session WHERE expires_at <= ?1", [seconds(now)]).map_err(failed)
        })
        .await
    }
}

fn pool_is_full() -> SessionStoreError {
    SessionStoreError::Failed("the pool for blocking work is full".to_owned())
}

fn load(transaction: &Transaction<'_>, key: &SessionKey) -> Result<Option<SessionRecord>, SessionStoreError> {
    let key = key.as_bytes();
    let row = transaction
        .prepare_cached("SELECT created_at, seen_at, expires_at, principal FROM session WHERE key = ?1")
        .and_then(|mut statement| {
            let columns = |row: &rusqlite::Row<'_>| -> rusqlite::Result<([i64; 3], Option<String>)> {
                Ok(([row.get(0)?, row.get(1)?, row.get(2)?], row.get(3)?))
            };
            statement.query_row([key], columns).optional()
        })
        .map_err(failed)?;
    let Some((times, principal)) = row else { return Ok(None) };
    let [created_at, seen_at, expires_at] = times.map(i64::cast_unsigned);
    let principal = principal.map(|json| serde_json::from_str(&json)).transpose();
    let mut record = SessionRecord {
        created_at,
        seen_at,
        expires_at,
        principal: principal.map_err(|_| SessionStoreError::Corrupt)?,
        data: serde_json::Map::new(),
        labels: Vec::new(),
    };
    let mut statement =
        transaction.prepare_cached("SELECT name, value FROM session_data WHERE key = ?1").map_err(failed)?;
    let values = statement
        .query_map([key], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
        .map_err(failed)?;
    for value in values {
        let (name, json) = value.map_err(failed)?;
        let value = serde_json::from_str(&json).map_err(|_| SessionStoreError::Corrupt)?;
        record.data.insert(name, value);
    }
    let mut statement =
        transaction.prepare_cached("SELECT label FROM session_label WHERE key = ?1").map_err(failed)?;
    let labels = statement.query_map([key], |row| row.get(0)).map_err(failed)?;
    record.labels = labels.collect::<Result<_, _>>().map_err(failed)?;
    Ok(Some(record))
}

fn insert(
    transaction: &Transaction<'_>,
    key: &SessionKey,
    record: &SessionRecord,
) -> Result<(), SessionStoreError> {
    let principal = record.principal.as_ref().map(serde_json::to_string).transpose();
    let times = [record.created_at, record.seen_at, record.expires_at].map(seconds);
    transaction
        .execute(
            "INSERT INTO session (key, created_at, seen_at, expires_at, principal) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                key.as_bytes(),
                times[0],
                times[1],
                times[2],
                principal.map_err(|_| SessionStoreError::Corrupt)?
            ],
        )
        .map_err(failed)?;
    for (name, value) in &record.data {
        set_value(transaction, key, name, value)?;
    }
    for label in &record.labels {
        transaction
            .execute(
                "INSERT OR IGNORE INTO session_label (key, label) VALUES (?1, ?2)",
                params![key.as_bytes(), label],
            )
            .map_err(failed)?;
    }
    Ok(())
}

fn update(
    transaction: &Transaction<'_>,
    key: &SessionKey,
    change: &SessionChange,
) -> Result<bool, SessionStoreError> {
    let updated = transaction
        .execute(
            "UPDATE session SET seen_at = ?2, expires_at = ?3 WHERE key = ?1",
            params![key.as_bytes(), seconds(change.seen_at), seconds(change.expires_at)],
        )
        .map_err(failed)?;
    if updated == 0 {
        return Ok(false);
    }
    for (name, value) in &change.data {
        match value {
            Some(value) => set_value(transaction, key, name, value)?,
            None => {
                transaction
                    .execute(
                        "DELETE FROM session_data WHERE key = ?1 AND name = ?2",
                        params![key.as_bytes(), name],
                    )
                    .map_err(failed)?;
            }
        }
    }
    Ok(true)
}

fn set_value(
    transaction: &Transaction<'_>,
    key: &SessionKey,
    name: &str,
    value: &serde_json::Value,
) -> Result<(), SessionStoreError> {
    transaction
        .execute(
            "INSERT OR REPLACE INTO session_data (key, name, value) VALUES (?1, ?2, ?3)",
            params![key.as_bytes(), name, value.to_string()],
        )
        .map_err(failed)?;
    Ok(())
}

/// SQLite's integers are signed.
fn seconds(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

#[expect(clippy::needless_pass_by_value, reason = "the argument of map_err")]
fn failed(error: rusqlite::Error) -> SessionStoreError {
    SessionStoreError::Failed(error.to_string())
}
