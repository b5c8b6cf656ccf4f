//! An API with its description, a page to try it on, and pages whose links cannot be wrong. Run it with
//! `cargo run --release --example openapi`.
//!
//! `utoipa` makes the description of the handlers, and brings Swagger UI, all of it in the binary. Each path is a type
//! (`TypedPath` of `axum-extra`): the router, the description and the links of the templates use the same one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use askama::Template;
use axum_extra::routing::TypedPath;
use gimmal::defence::Defences;
use gimmal::files::Embedded;
use gimmal::{
    App, Body, Error, HeaderValue, Html, IntoResponse, Json, Path, Query, Redirect, Response, State,
    StatusCode, get, header,
};
use gimmal_examples::Args;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, OpenApi, ToSchema};
use utoipa_swagger_ui::Config;

#[derive(Clone, Copy, Deserialize, TypedPath)]
#[typed_path("/")]
struct Home;

#[derive(Clone, Copy, Deserialize, TypedPath)]
#[typed_path("/books/{id}")]
struct BookPage {
    id: u32,
}

#[derive(Clone, Copy, Deserialize, TypedPath)]
#[typed_path("/api/books")]
struct Books;

#[derive(Clone, Copy, Deserialize, IntoParams, TypedPath)]
#[typed_path("/api/books/{id}")]
#[into_params(parameter_in = Path)]
struct OneBook {
    /// The number of the book.
    #[param(minimum = 1)]
    id: u32,
}

#[derive(Clone, Copy, Deserialize, TypedPath)]
#[typed_path("/openapi.json")]
struct Description;

#[derive(Clone, Copy, Deserialize, TypedPath)]
#[typed_path("/docs/")]
struct Docs;

/// A book on the shelf.
#[derive(Clone, Serialize, ToSchema)]
struct Book {
    /// Its number.
    #[schema(minimum = 1)]
    id: u32,
    #[serde(flatten)]
    draft: Draft,
}

impl Book {
    fn page(&self) -> BookPage {
        BookPage { id: self.id }
    }

    fn api(&self) -> OneBook {
        OneBook { id: self.id }
    }
}

/// What a client says of a book.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[schema(example = json!({ "title": "A Room of One's Own", "author": "Virginia Woolf", "year": 1929 }))]
struct Draft {
    #[schema(min_length = 1, max_length = 200)]
    title: String,
    #[schema(min_length = 1, max_length = 200)]
    author: String,
    /// When it was published.
    #[schema(minimum = -3000, maximum = 3000)]
    #[serde(deserialize_with = "whole")]
    year: i16,
}

/// To a JSON Schema an integer is any number without a fraction: `1929.0` is one, too.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i16, D::Error> {
    let number = f64::deserialize(deserializer)?;
    if number.fract() != 0.0 || number < f64::from(i16::MIN) || number > f64::from(i16::MAX) {
        return Err(D::Error::custom("a whole number is wanted"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "it is whole, and within the range")]
    Ok(number as i16)
}

impl Draft {
    fn check(self) -> Result<Self, Problem> {
        let is_text = |text: &str| (1..=200).contains(&text.chars().count());
        if !is_text(&self.title) {
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "the title has 1 to 200 characters"))
        } else if !is_text(&self.author) {
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "the author has 1 to 200 characters"))
        } else if !(-3000..=3000).contains(&self.year) {
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "the year is from -3000 to 3000"))
        } else {
            Ok(self)
        }
    }
}

/// Why a request is not answered as was wished (RFC 9457).
#[derive(Serialize, ToSchema)]
struct Problem {
    status: u16,
    title: String,
}

impl Problem {
    fn new(status: StatusCode, title: impl Into<String>) -> Self {
        Self { status: status.as_u16(), title: title.into() }
    }

    fn no_such_book() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is no such book")
    }
}

/// What an extractor refuses is told in the same form: handlers take it as a `Result`.
impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::new(error.status(), error.message())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let media_type = HeaderValue::from_static("application/problem+json");
        (status, [(header::CONTENT_TYPE, media_type)], Json(self)).into_response()
    }
}

/// All books, by their numbers.
#[derive(Clone, Default)]
struct Shelf(Arc<RwLock<BTreeMap<u32, Book>>>, Arc<AtomicU32>);

impl Shelf {
    fn add(&self, draft: Draft) -> Book {
        let book = Book { id: 1 + self.1.fetch_add(1, Ordering::Relaxed), draft };
        self.write().insert(book.id, book.clone());
        book
    }

    fn by(&self, author: &str) -> Vec<Book> {
        let books = self.0.read().unwrap_or_else(PoisonError::into_inner);
        books.values().filter(|book| book.draft.author.contains(author)).cloned().collect()
    }

    fn find(&self, id: u32) -> Result<Book, Problem> {
        let books = self.0.read().unwrap_or_else(PoisonError::into_inner);
        books.get(&id).cloned().ok_or_else(Problem::no_such_book)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<u32, Book>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Only books of authors with this in their names.
    #[serde(default)]
    #[param(required = false)]
    author: String,
}

/// Under which the operations stand on the page.
const TAG: &str = "books";

#[derive(OpenApi)]
#[openapi(
    info(title = "Books", description = "A shelf of books.", license(name = "MIT OR Apache-2.0")),
    paths(list, add, read, replace, remove)
)]
struct Api;

/// Lists books.
#[utoipa::path(
    get, path = Books::PATH, tag = TAG, params(Filter),
    responses((status = 200, description = "The books", body = [Book]))
)]
async fn list(shelf: State<Shelf>, Query(filter): Query<Filter>) -> Json<Vec<Book>> {
    Json(shelf.by(&filter.author))
}

/// Adds a book.
#[utoipa::path(
    post, path = Books::PATH, tag = TAG, request_body = Draft,
    responses(
        (status = 201, description = "It is there", body = Book, headers(("location", description = "Where it is"))),
        (status = "4XX", description = "It is refused", body = Problem, content_type = "application/problem+json")
    )
)]
async fn add(shelf: State<Shelf>, draft: Result<Json<Draft>, Error>) -> Result<Response, Problem> {
    let Json(draft) = draft?;
    let book = shelf.add(draft.check()?);
    let location = HeaderValue::try_from(book.api().to_string()).expect("a path is a header value");
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(book)).into_response())
}

/// Tells of a book.
#[utoipa::path(
    get, path = OneBook::PATH, tag = TAG, params(OneBook),
    responses(
        (status = 200, description = "The book", body = Book),
        (status = 404, description = "No such book", body = Problem, content_type = "application/problem+json")
    )
)]
async fn read(shelf: State<Shelf>, path: Result<Path<OneBook>, Error>) -> Result<Json<Book>, Problem> {
    let Path(OneBook { id }) = path?;
    shelf.find(id).map(Json)
}

/// Says something else of a book.
#[utoipa::path(
    put, path = OneBook::PATH, tag = TAG, params(OneBook), request_body = Draft,
    responses(
        (status = 200, description = "The book as it is now", body = Book),
        (status = "4XX", description = "It is refused", body = Problem, content_type = "application/problem+json")
    )
)]
async fn replace(
    shelf: State<Shelf>,
    path: Result<Path<OneBook>, Error>,
    draft: Result<Json<Draft>, Error>,
) -> Result<Json<Book>, Problem> {
    let (Path(OneBook { id }), Json(draft)) = (path?, draft?);
    let draft = draft.check()?;
    let mut books = shelf.write();
    let book = books.get_mut(&id).ok_or_else(Problem::no_such_book)?;
    book.draft = draft;
    Ok(Json(book.clone()))
}

/// Removes a book.
#[utoipa::path(
    delete, path = OneBook::PATH, tag = TAG, params(OneBook),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "No such book", body = Problem, content_type = "application/problem+json")
    )
)]
async fn remove(shelf: State<Shelf>, path: Result<Path<OneBook>, Error>) -> Result<StatusCode, Problem> {
    let Path(OneBook { id }) = path?;
    shelf.write().remove(&id).map(|_| StatusCode::NO_CONTENT).ok_or_else(Problem::no_such_book)
}

#[derive(Template)]
#[template(path = "openapi/shelf.html")]
struct ShelfPage {
    books: Vec<Book>,
}

async fn shelf_page(shelf: State<Shelf>) -> Result<Html<String>, Error> {
    Ok(Html(ShelfPage { books: shelf.by("") }.render()?))
}

#[derive(Template)]
#[template(path = "openapi/book.html")]
struct OneBookPage {
    book: Book,
}

async fn book_page(shelf: State<Shelf>, Path(page): Path<BookPage>) -> Result<Html<String>, Error> {
    let book = shelf.find(page.id).map_err(|problem| Error::new(StatusCode::NOT_FOUND, problem.title))?;
    Ok(Html(OneBookPage { book }.render()?))
}

/// A file of Swagger UI.
fn swagger_ui(file: &str) -> Result<Response, Error> {
    let config = Config::from(Description::PATH).use_base_layout().validator_url("none");
    let found = utoipa_swagger_ui::serve(file, Arc::new(config));
    let found =
        found.map_err(|error| Error::status_only(StatusCode::INTERNAL_SERVER_ERROR).with_source(error))?;
    let file = found.ok_or_else(|| Error::status_only(StatusCode::NOT_FOUND))?;
    let media_type = HeaderValue::try_from(file.content_type)?;
    Ok(([(header::CONTENT_TYPE, media_type)], Body::from(file.bytes.into_owned())).into_response())
}

fn app() -> Result<App, Error> {
    let shelf = Shelf::default();
    for (title, author, year) in [
        ("Frankenstein", "Mary Shelley", 1818),
        ("The Left Hand of Darkness", "Ursula K. Le Guin", 1969),
        ("A Room of One's Own", "Virginia Woolf", 1929),
    ] {
        shelf.add(Draft { title: title.to_owned(), author: author.to_owned(), year });
    }
    let description = Api::openapi().to_pretty_json()?;
    let style = Embedded::new().file("style.css", include_bytes!("../pages/style.css"));
    let json = HeaderValue::from_static("application/json");
    Ok(App::new()
        .get(Home::PATH, shelf_page)
        .get(BookPage::PATH, book_page)
        .route(Books::PATH, get(list).post(add))
        .route(OneBook::PATH, get(read).put(replace).delete(remove))
        .get(Description::PATH, async move || ([(header::CONTENT_TYPE, json.clone())], description.clone()))
        .get("/docs", async || Redirect::permanent(Docs.to_string()))
        .get(Docs::PATH, async || swagger_ui(""))
        .get("/docs/{*file}", async |Path(file): Path<String>| swagger_ui(&file))
        .files("/", style)
        .with(Defences::new())
        .state(shelf))
}

fn main() -> Result<(), Error> {
    let args = Args::read();
    let running = args.server(app()?).bind(&args.addr).start()?;
    let url = running.url();
    let hint = format!(
        "open {url}{Docs} in a browser to try the API, or {url}{Home} for the pages\n\
         the description is at {url}{Description}; try: curl {url}{Books}?author=Woolf"
    );
    Ok(gimmal_examples::serve(running, hint)?)
}
