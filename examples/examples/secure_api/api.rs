//! For programs: JSON, with an API key as Bearer token. A session is of no use here, as it has no scopes.

use gimmal::auth::{Authenticator, Realm, Requirement};
use gimmal::defence::{Quota, RateLimit};
use gimmal::{
    App, Error, HeaderValue, IntoResponse, Json, Path, Response, StatusCode, delete, get, header, post,
};
use serde_json::json;

use crate::KEY_PREFIX;
use crate::database::Database;
use crate::notes::{Draft, Note, Notes};

pub(crate) fn app(database: &Database) -> Result<App, Error> {
    let read = Requirement::all_of([Requirement::permission("notes:read"), Requirement::scope("read")]);
    let write = Requirement::all_of([Requirement::permission("notes:write"), Requirement::scope("write")]);
    Ok(App::new()
        .route("/notes", get(list).require(read.clone()))
        .route("/notes", post(create).require(write.clone()))
        .route("/notes/{id}", get(show).require(read))
        .route("/notes/{id}", delete(remove).require(write))
        .with(Authenticator::new(Realm::new("Notes")?).api_keys(KEY_PREFIX, database.clone()))
        .with(RateLimit::by_principal(Quota::per_minute("api", 120)?)))
}

async fn list(notes: Notes) -> Result<Json<Vec<Note>>, Error> {
    notes.search(String::new()).await.map(Json)
}

async fn show(notes: Notes, Path(id): Path<i64>) -> Result<Json<Note>, Error> {
    notes.read(id).await.map(Json)
}

async fn create(notes: Notes, Json(draft): Json<Draft>) -> Result<Response, Error> {
    let id = notes.write(draft).await?;
    let location = HeaderValue::try_from(format!("/api/notes/{id}"))?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(json!({ "id": id }))).into_response())
}

async fn remove(notes: Notes, Path(id): Path<i64>) -> Result<StatusCode, Error> {
    notes.delete(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
