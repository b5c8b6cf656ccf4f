//! The SQLite file: its tables, and the one way to ask it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use gimmal::BlockingError;
use gimmal::security::SecretString;
use gimmal::security::password::{PasswordError, Passwords};
use rusqlite::{Connection, named_params};

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA foreign_keys = ON;
    CREATE TABLE IF NOT EXISTS users (
        name TEXT PRIMARY KEY, password_hash TEXT NOT NULL, role TEXT NOT NULL, department TEXT NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS api_keys (
        id TEXT PRIMARY KEY, owner TEXT NOT NULL REFERENCES users, stored TEXT NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS notes (
        id INTEGER PRIMARY KEY, owner TEXT NOT NULL REFERENCES users, text TEXT NOT NULL, private INTEGER NOT NULL
    ) STRICT;
";

/// The users of the demonstration: name, password, role, department.
pub(crate) const DEMO_USERS: [[&str; 4]; 3] = [
    ["alice", "wonderland is far", "manager", "engineering"],
    ["bob", "builder of bridges", "member", "engineering"],
    ["eve", "the garden of eden", "member", "sales"],
];

/// Owner, text, and whether it is private.
const DEMO_NOTES: [(&str, &str, bool); 4] = [
    ("alice", "Demo on Friday at ten: bring questions.", false),
    ("bob", "The build takes four minutes again.", false),
    ("bob", "Ask for a raise.", true),
    ("eve", "Forty new customers this week!", false),
];

#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseError {
    #[error("the database failed")]
    Sqlite(#[from] rusqlite::Error),
    #[error("what the database holds cannot be read")]
    Stored(#[from] serde_json::Error),
    #[error("too much is waiting for the database")]
    Busy(#[from] BlockingError),
    #[error("a password cannot be hashed")]
    Password(#[from] PasswordError),
}

#[derive(Clone)]
pub(crate) struct Database(Arc<Mutex<Connection>>);

impl Database {
    /// Opens the file, and fills it for the demonstration if it is new.
    pub(crate) fn open(path: &Path) -> Result<Self, DatabaseError> {
        let connection = Connection::open(path)?;
        connection.execute_batch(SCHEMA)?;
        if !connection.query_row("SELECT EXISTS (SELECT 1 FROM users)", [], |row| row.get(0))? {
            fill(&connection)?;
        }
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// Asks on a thread for blocking work, so that no query holds up a core. Values go into a query as parameters,
    /// never as text: that is what keeps SQL injection out.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let connection = Arc::clone(&self.0);
        let answer = gimmal::blocking(move || {
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            question(&connection)
        });
        Ok(answer.await??)
    }
}

fn fill(connection: &Connection) -> Result<(), DatabaseError> {
    let passwords = Passwords::default();
    for [name, password, role, department] in DEMO_USERS {
        connection.execute(
            "INSERT INTO users VALUES (:name, :password_hash, :role, :department)",
            named_params! {
                ":name": name, ":password_hash": passwords.hash(&SecretString::from(password))?,
                ":role": role, ":department": department,
            },
        )?;
    }
    for (owner, text, private) in DEMO_NOTES {
        connection.execute(
            "INSERT INTO notes (owner, text, private) VALUES (:owner, :text, :private)",
            named_params! { ":owner": owner, ":text": text, ":private": private },
        )?;
    }
    Ok(())
}
