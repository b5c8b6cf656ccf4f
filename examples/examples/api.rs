//! A JSON service over an SQLite file: what a real one looks like, with validation and errors of its own.
//! Run it with `cargo run --release --example api`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Parser;
use gimmal::{
    App, Error, HeaderValue, IntoResponse, Json, Path, Query, Response, State, StatusCode, get, header,
};
use gimmal_examples::Args;
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use serde::{Deserialize, Serialize};

#[derive(Parser)]
struct ApiArgs {
    #[command(flatten)]
    server: Args,
    /// The file that holds the data; made if it is not there. In memory, and gone at the end, if it is not given.
    #[arg(long)]
    database: Option<PathBuf>,
}

/// Something to do, as the service tells of it.
#[derive(Serialize)]
struct Task {
    id: i64,
    title: String,
    done: bool,
}

impl Task {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { id: row.get("id")?, title: row.get("title")?, done: row.get("done")? })
    }
}

/// Something to do, as a client sends it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Draft {
    title: String,
    #[serde(default)]
    done: bool,
}

/// Characters that a title may have.
const TITLE_MAX: usize = 200;

impl Draft {
    fn check(self) -> Result<Self, TaskError> {
        match self.title.trim().chars().count() {
            0 => Err(TaskError::TitleEmpty),
            TITLE_MAX.. => Err(TaskError::TitleTooLong),
            _ => Ok(self),
        }
    }
}

/// Why a request is not answered as was wished.
#[derive(Debug, thiserror::Error)]
enum TaskError {
    #[error("a title is needed")]
    TitleEmpty,
    #[error("the title is longer than {TITLE_MAX} characters")]
    TitleTooLong,
    #[error("there is no such task")]
    NotFound,
    #[error("the database failed")]
    Database(#[from] rusqlite::Error),
    #[error("the service is busy, try again in a moment")]
    Busy(#[from] gimmal::BlockingError),
}

#[derive(Serialize)]
struct Problem {
    error: String,
}

impl IntoResponse for TaskError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::TitleEmpty | Self::TitleTooLong => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Database(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        // The text says what the client may know; the cause is for the log.
        let response = (status, Json(Problem { error: self.to_string() })).into_response();
        if status.is_server_error() { response.with_error(self) } else { response }
    }
}

/// The database. It is asked on threads for blocking work, so that no query holds up a core.
#[derive(Clone)]
struct Database(Arc<Mutex<Connection>>);

impl Database {
    fn open(path: Option<&PathBuf>) -> rusqlite::Result<Self> {
        let connection = match path {
            Some(path) => Connection::open(path)?,
            None => Connection::open_in_memory()?,
        };
        connection.execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE IF NOT EXISTS tasks (
                 id INTEGER PRIMARY KEY, title TEXT NOT NULL, done INTEGER NOT NULL
             ) STRICT;",
        )?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// Values go into a query as parameters, never as text: that is what keeps SQL injection out.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, TaskError> {
        let connection = Arc::clone(&self.0);
        let answer = gimmal::blocking(move || {
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            question(&connection)
        });
        Ok(answer.await??)
    }
}

/// Which tasks to list.
#[derive(Deserialize)]
struct Filter {
    done: Option<bool>,
    #[serde(default)]
    after: i64,
}

async fn list(db: State<Database>, Query(filter): Query<Filter>) -> Result<Json<Vec<Task>>, TaskError> {
    let tasks = db.ask(move |connection| {
        let mut statement = connection.prepare_cached(
            "SELECT id, title, done FROM tasks
             WHERE id > :after AND (:done IS NULL OR done = :done) ORDER BY id LIMIT 100",
        )?;
        let tasks =
            statement.query_map(named_params! {":after": filter.after, ":done": filter.done}, Task::read)?;
        tasks.collect()
    });
    tasks.await.map(Json)
}

async fn create(db: State<Database>, Json(draft): Json<Draft>) -> Result<Response, TaskError> {
    let Draft { title, done } = draft.check()?;
    let task = db.ask(move |connection| {
        connection.query_row(
            "INSERT INTO tasks (title, done) VALUES (:title, :done) RETURNING id, title, done",
            named_params! {":title": title, ":done": done},
            Task::read,
        )
    });
    let task = task.await?;
    let location = HeaderValue::try_from(format!("/tasks/{}", task.id)).expect("a number is a header value");
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(task)).into_response())
}

async fn read(db: State<Database>, Path(id): Path<i64>) -> Result<Json<Task>, TaskError> {
    let task = db.ask(move |connection| {
        connection
            .query_row(
                "SELECT id, title, done FROM tasks WHERE id = :id",
                named_params! {":id": id},
                Task::read,
            )
            .optional()
    });
    task.await?.map(Json).ok_or(TaskError::NotFound)
}

async fn replace(
    db: State<Database>,
    Path(id): Path<i64>,
    Json(draft): Json<Draft>,
) -> Result<Json<Task>, TaskError> {
    let Draft { title, done } = draft.check()?;
    let task = db.ask(move |connection| {
        connection
            .query_row(
                "UPDATE tasks SET title = :title, done = :done WHERE id = :id RETURNING id, title, done",
                named_params! {":id": id, ":title": title, ":done": done},
                Task::read,
            )
            .optional()
    });
    task.await?.map(Json).ok_or(TaskError::NotFound)
}

async fn remove(db: State<Database>, Path(id): Path<i64>) -> Result<StatusCode, TaskError> {
    let removed = db.ask(move |connection| {
        connection.execute("DELETE FROM tasks WHERE id = :id", named_params! {":id": id})
    });
    if removed.await? == 0 { Err(TaskError::NotFound) } else { Ok(StatusCode::NO_CONTENT) }
}

fn main() -> Result<(), Error> {
    gimmal_examples::start_log();
    let args = ApiArgs::parse();
    let database = Database::open(args.database.as_ref())?;
    let app = App::new()
        .route("/tasks", get(list).post(create))
        .route("/tasks/{id}", get(read).put(replace).delete(remove))
        .state(database);
    let running = args.server.server(app).access_log(true).bind(&args.server.addr).start()?;
    let url = running.url();
    let hint = format!(
        "try: curl {url}/tasks -H 'content-type: application/json' -d '{{\"title\": \"read the README\"}}'\n     \
         curl {url}/tasks"
    );
    Ok(gimmal_examples::serve(running, hint)?)
}
