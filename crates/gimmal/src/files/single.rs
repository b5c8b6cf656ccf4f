//! One file.

use std::path::Path;
use std::rc::Rc;

use gimmal_runtime::{File, blocking};
use http::{HeaderMap, StatusCode, header};

use super::cache::making_room;
use super::headers::media_type;
use super::lookup::{Effort, open_regular};
use super::representation::{Representation, Source};
use crate::error::Error;
use crate::request::Request;
use crate::response::Response;

/// Answers a request with one file, whose path the server chooses: with conditions, ranges and media type as for the
/// files of a folder. Never make the path from what a client has sent: that is what [`Files`](super::Files) is for.
///
/// ```no_run
/// use gimmal::{App, HeaderValue, Request, Response, files, header};
///
/// async fn report(request: Request) -> Result<Response, gimmal::Error> {
///     let name = HeaderValue::from_static("attachment; filename=\"report.pdf\"");
///     Ok(files::file(&request, "/srv/reports/7.pdf").await?.with_header(header::CONTENT_DISPOSITION, name))
/// }
/// let app = App::new().get("/report", report);
/// ```
///
/// # Errors
/// 404 if it is not there or is no regular file, 503 if no descriptor is left for it, and 500 if it cannot be read.
pub async fn file(request: &Request, path: impl AsRef<Path>) -> Result<Response, Error> {
    let path = path.as_ref();
    let file = making_room(async || open(path).await).await?;
    let metadata = file.metadata()?;
    let media_type = path.to_str().map(media_type);
    let headers: HeaderMap =
        media_type.map(|media_type| (header::CONTENT_TYPE, media_type)).into_iter().collect();
    Ok(Representation::of_file(Source::File(file), &metadata, headers).answer(request))
}

async fn open(path: &Path) -> Result<Rc<File>, Error> {
    let opened = match open_regular(path, Effort::Cached) {
        Ok(opened) => Ok(opened),
        // The disk knows, or a kernel that cannot tell what it has in memory.
        Err(_) => {
            let path = path.to_owned();
            blocking(move || open_regular(&path, Effort::Disk))
                .await
                .map_err(|full| Error::status_only(StatusCode::SERVICE_UNAVAILABLE).with_source(full))?
        }
    };
    match opened {
        Ok(Some(file)) => Ok(Rc::new(File::from_std(file))),
        Ok(None) => Err(Error::status_only(StatusCode::NOT_FOUND)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::status_only(StatusCode::NOT_FOUND).with_source(error))
        }
        Err(error) => Err(error.into()),
    }
}
