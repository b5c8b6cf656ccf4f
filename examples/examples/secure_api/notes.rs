//! Notes, and who may do what with them: what the pages and the API have in common.

use std::sync::Arc;

use gimmal::auth::{Authorizer, Principal};
use gimmal::security::abac::{AccessRequest, Policies, PolicyError, Resource, SourceText};
use gimmal::{Error, FromRequest, Request, State, StatusCode};
use rusqlite::{OptionalExtension, Row, named_params};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::database::Database;
use crate::unix_seconds;

/// Characters that a note may have.
const TEXT_CHARS_MAX: usize = 1000;

#[derive(Serialize)]
pub(crate) struct Note {
    pub(crate) id: i64,
    pub(crate) owner: String,
    department: String,
    pub(crate) text: String,
    pub(crate) private: bool,
}

impl Note {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            owner: row.get("owner")?,
            department: row.get("department")?,
            text: row.get("text")?,
            private: row.get("private")?,
        })
    }

    /// The note as the policies see it.
    fn resource(&self) -> Resource {
        Resource::new("Note", &self.id.to_string())
            .attribute("owner", json!({ "type": "User", "id": self.owner }))
            .attribute("department", self.department.as_str())
            .attribute("private", self.private)
    }
}

#[derive(Deserialize)]
pub(crate) struct Draft {
    text: String,
    #[serde(default)]
    private: bool,
}

/// The policies, which are checked against the schema when the server starts.
pub(crate) fn policies() -> Result<Arc<Policies>, PolicyError> {
    let schema = SourceText::new("notes.cedarschema", include_str!("notes.cedarschema"));
    let policies = SourceText::new("notes.cedar", include_str!("notes.cedar"));
    Policies::load(&schema, &[policies]).map(Arc::new)
}

/// The notes, as far as whoever asks may see them.
pub(crate) struct Notes {
    database: State<Database>,
    policies: State<Arc<Policies>>,
    authorizer: Authorizer,
    principal: Principal,
}

impl FromRequest for Notes {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        Ok(Self {
            database: State::from_request(request).await?,
            policies: State::from_request(request).await?,
            authorizer: Authorizer::from_request(request).await?,
            principal: Principal::from_request(request).await?,
        })
    }
}

impl Notes {
    /// The last ones that have `text` in them.
    pub(crate) async fn search(&self, text: String) -> Result<Vec<Note>, Error> {
        let found = self.database.ask(move |connection| {
            let mut query = connection.prepare_cached(
                "SELECT id, owner, department, text, private FROM notes JOIN users ON name = owner
                 WHERE instr(text, :text) > 0 OR :text = '' ORDER BY id DESC LIMIT 50",
            )?;
            let notes = query.query_map(named_params! { ":text": text }, Note::read)?;
            notes.collect::<Result<Vec<_>, _>>()
        });
        let found = found.await?;
        Ok(found.into_iter().filter(|note| self.may("read", note)).collect())
    }

    pub(crate) async fn read(&self, id: i64) -> Result<Note, Error> {
        self.find("read", id).await
    }

    pub(crate) async fn write(&self, draft: Draft) -> Result<i64, Error> {
        if !(1..=TEXT_CHARS_MAX).contains(&draft.text.chars().count()) {
            let told = format!("a note has 1 to {TEXT_CHARS_MAX} characters");
            return Err(Error::new(StatusCode::UNPROCESSABLE_ENTITY, told));
        }
        let owner = self.principal.id().to_owned();
        let id = self.database.ask(move |connection| {
            connection.query_row(
                "INSERT INTO notes (owner, text, private) VALUES (:owner, :text, :private) RETURNING id",
                named_params! { ":owner": owner, ":text": draft.text, ":private": draft.private },
                |row| row.get(0),
            )
        });
        Ok(id.await?)
    }

    pub(crate) async fn delete(&self, id: i64) -> Result<(), Error> {
        self.find("delete", id).await?;
        let removed = self.database.ask(move |connection| {
            connection.execute("DELETE FROM notes WHERE id = :id", named_params! { ":id": id })
        });
        removed.await?;
        Ok(())
    }

    pub(crate) fn may_delete(&self, note: &Note) -> bool {
        self.may("delete", note)
    }

    /// The note, if the policies allow what is to be done with it. A refusal is recorded in the audit log.
    async fn find(&self, action: &str, id: i64) -> Result<Note, Error> {
        let found = self.database.ask(move |connection| {
            let mut query = connection.prepare_cached(
                "SELECT id, owner, department, text, private FROM notes JOIN users ON name = owner WHERE id = :id",
            )?;
            query.query_row(named_params! { ":id": id }, Note::read).optional()
        });
        let note = found.await?.ok_or_else(|| Error::status_only(StatusCode::NOT_FOUND))?;
        let resource = note.resource();
        self.authorizer.decide(&self.policies, &self.request(action, &resource))?;
        Ok(note)
    }

    fn may(&self, action: &str, note: &Note) -> bool {
        let resource = note.resource();
        self.policies.decide(&self.request(action, &resource)).is_allowed()
    }

    fn request<'a>(&'a self, action: &'a str, resource: &'a Resource) -> AccessRequest<'a> {
        AccessRequest::new(&self.principal, action, resource).environment("now", unix_seconds())
    }
}
