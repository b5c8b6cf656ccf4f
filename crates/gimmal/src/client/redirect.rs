//! Where a response sends the client (RFC 9110, section 15.4).

use http::{HeaderMap, Method, StatusCode, Uri, header, uri};

use super::error::ClientError;
use super::response::ClientResponse;

/// The request that a redirect asks for.
pub(super) struct Redirected {
    pub(super) url: Uri,
    /// Whether method and body stay as they are.
    pub(super) keeps_method: bool,
}

/// The request that a response asks for, if it does.
pub(super) fn of(
    url: &Uri,
    response: &ClientResponse,
    method: &Method,
    body_is_at_hand: bool,
) -> Result<Option<Redirected>, ClientError> {
    let keeps_method = match response.status() {
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => *method != Method::POST,
        StatusCode::SEE_OTHER => *method == Method::HEAD,
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
        _ => return Ok(None),
    };
    let Some(location) = response.headers().get(header::LOCATION) else { return Ok(None) };
    if keeps_method && !body_is_at_hand {
        return Err(ClientError::Redirect("the body of the request was a stream and cannot be sent again"));
    }
    let location = location.to_str().map_err(|_| ClientError::Redirect("its Location is no URL"))?;
    let next = resolve(url, location).ok_or(ClientError::Redirect("its Location is no URL"))?;
    if url.scheme() == Some(&uri::Scheme::HTTPS) && next.scheme() == Some(&uri::Scheme::HTTP) {
        return Err(ClientError::Redirect(
            "it leads from https to http, where anybody can read and change it",
        ));
    }
    Ok(Some(Redirected { url: next, keeps_method }))
}

/// The method of a request that has lost its body.
pub(super) fn without_body(method: &Method) -> Method {
    if *method == Method::HEAD { Method::HEAD } else { Method::GET }
}

/// Removes what was meant for one server and not for the next.
pub(super) fn forget_secrets(headers: &mut HeaderMap) {
    for name in [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION, header::HOST] {
        headers.remove(name);
    }
}

/// The URL that `reference` stands for, seen from `base` (RFC 3986, section 5.2).
fn resolve(base: &Uri, reference: &str) -> Option<Uri> {
    let reference = reference.split('#').next().unwrap_or_default();
    if reference.starts_with("//") {
        return format!("{}:{reference}", base.scheme_str()?).parse().ok();
    }
    let first_segment = reference.split(['/', '?']).next().unwrap_or_default();
    if first_segment.contains(':') {
        return reference.parse().ok();
    }
    let path_and_query = match reference.chars().next() {
        None => base.path_and_query()?.as_str().to_owned(),
        Some('/') => remove_dot_segments(reference),
        Some('?') => format!("{}{reference}", base.path()),
        Some(_) => {
            let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            remove_dot_segments(&format!("{folder}/{reference}"))
        }
    };
    uri::Builder::from(base.clone()).path_and_query(path_and_query).build().ok()
}

/// RFC 3986, section 5.2.4.
fn remove_dot_segments(path_and_query: &str) -> String {
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    let mut kept = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    let path = format!("/{}", kept.join("/"));
    query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_resolve_as_in_rfc_3986_section_5_4() {
        let base: Uri = "http://a/b/c/d;p?q".parse().unwrap();
        for (reference, expected) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("g#s", "http://a/b/c/g"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("./", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
            ("http://other/x", "http://other/x"),
        ] {
            assert_eq!(resolve(&base, reference).unwrap().to_string(), expected, "{reference}");
        }
    }
}
