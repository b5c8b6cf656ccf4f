//! Who may log in, and with which API keys.

use gimmal::BoxError;
use gimmal::auth::{ApiKeyStore, User, UserStore};
use gimmal::security::api_key::StoredApiKey;
use rusqlite::{Connection, OptionalExtension, named_params};

use crate::database::{Database, DatabaseError};

impl UserStore for Database {
    async fn find(&self, name: &str) -> Result<Option<User>, BoxError> {
        let name = name.to_owned();
        let user = self.ask(move |connection| {
            let mut query = connection.prepare_cached("SELECT * FROM users WHERE name = :name")?;
            let user = query.query_row(named_params! { ":name": name }, |row| {
                Ok(User::new(row.get::<_, String>("name")?)
                    .with_password_hash(row.get::<_, String>("password_hash")?)
                    .with_role(row.get::<_, String>("role")?)
                    .with_attribute("department", row.get::<_, String>("department")?))
            });
            user.optional()
        });
        Ok(user.await?)
    }

    async fn replace_password_hash(&self, id: &str, old: &str, new: &str) -> Result<bool, BoxError> {
        let (id, old, new) = (id.to_owned(), old.to_owned(), new.to_owned());
        let replaced = self.ask(move |connection| {
            let change = "UPDATE users SET password_hash = :new WHERE name = :name AND password_hash = :old";
            connection.execute(change, named_params! { ":new": new, ":name": id, ":old": old })
        });
        Ok(replaced.await? == 1)
    }
}

impl ApiKeyStore for Database {
    /// A key never may more than its owner may by now.
    async fn find(&self, id: &str) -> Result<Option<StoredApiKey>, BoxError> {
        let id = id.to_owned();
        let found = self.ask(move |connection| {
            let mut query = connection.prepare_cached(
                "SELECT stored, role, department FROM api_keys JOIN users ON name = owner WHERE id = :id",
            )?;
            let found = query.query_row(named_params! { ":id": id }, |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
            });
            found.optional()
        });
        let Some((stored, role, department)) = found.await? else { return Ok(None) };
        let key: StoredApiKey = serde_json::from_str(&stored)?;
        Ok(Some(key.with_role(role).with_attribute("department", department)))
    }

    /// Changes the time alone: a key that was deleted since it was found stays deleted.
    async fn record_use(&self, id: &str, at: u64) -> Result<(), BoxError> {
        let id = id.to_owned();
        let recorded = self.ask(move |connection| {
            let change = "UPDATE api_keys SET stored = json_set(stored, '$.last_used_at', max(:at, \
                 coalesce(stored ->> '$.last_used_at', 0))) WHERE id = :id";
            connection.execute(change, named_params! { ":at": at.cast_signed(), ":id": id })
        });
        recorded.await?;
        Ok(())
    }
}

impl Database {
    /// Sets a new password, and deletes the API keys that were made under the old one. Gives their ids.
    pub(crate) async fn change_password(&self, name: &str, hash: &str) -> Result<Vec<String>, DatabaseError> {
        let (name, hash) = (name.to_owned(), hash.to_owned());
        let changed = self.ask(move |connection| {
            // Both or neither.
            let transaction = connection.unchecked_transaction()?;
            let change = "UPDATE users SET password_hash = :hash WHERE name = :name";
            transaction.execute(change, named_params! { ":hash": hash, ":name": name })?;
            let keys = delete_keys_of(&transaction, &name)?;
            transaction.commit()?;
            Ok(keys)
        });
        changed.await
    }

    /// Deletes all API keys of an owner, and gives their ids.
    pub(crate) async fn remove_keys_of(&self, owner: &str) -> Result<Vec<String>, DatabaseError> {
        let owner = owner.to_owned();
        self.ask(move |connection| delete_keys_of(connection, &owner)).await
    }

    pub(crate) async fn add_key(&self, key: &StoredApiKey) -> Result<(), DatabaseError> {
        let (id, owner, stored) = (key.id().to_owned(), key.owner().to_owned(), serde_json::to_string(key)?);
        let added = self.ask(move |connection| {
            connection.execute(
                "INSERT INTO api_keys VALUES (:id, :owner, :stored)",
                named_params! { ":id": id, ":owner": owner, ":stored": stored },
            )
        });
        added.await.map(|_| ())
    }

    pub(crate) async fn keys_of(&self, owner: &str) -> Result<Vec<String>, DatabaseError> {
        let owner = owner.to_owned();
        let ids = self.ask(move |connection| {
            let mut query = connection.prepare_cached("SELECT id FROM api_keys WHERE owner = :owner")?;
            let ids = query.query_map(named_params! { ":owner": owner }, |row| row.get(0))?;
            ids.collect()
        });
        ids.await
    }

    /// Only the owner's: whoever asks for another's removes nothing.
    pub(crate) async fn remove_key(&self, owner: &str, id: String) -> Result<(), DatabaseError> {
        let owner = owner.to_owned();
        let removed = self.ask(move |connection| {
            let removal = "DELETE FROM api_keys WHERE id = :id AND owner = :owner";
            connection.execute(removal, named_params! { ":id": id, ":owner": owner })
        });
        removed.await.map(|_| ())
    }
}

fn delete_keys_of(connection: &Connection, owner: &str) -> rusqlite::Result<Vec<String>> {
    let mut deletion = connection.prepare_cached("DELETE FROM api_keys WHERE owner = :owner RETURNING id")?;
    deletion.query_map(named_params! { ":owner": owner }, |row| row.get(0))?.collect()
}
