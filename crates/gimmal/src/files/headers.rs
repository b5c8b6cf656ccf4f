//! Header fields by the name of a file.

use http::{HeaderMap, HeaderValue, header};

/// What `Content-Type` and `Cache-Control` files get.
#[derive(Clone, Debug, Default)]
pub(super) struct HeaderRules {
    media_types: Vec<(String, HeaderValue)>,
    cache_control: Vec<(String, HeaderValue)>,
}

impl HeaderRules {
    /// # Panics
    /// If the value is no field value.
    pub(super) fn add_media_type(&mut self, extension: &str, media_type: &'static str) {
        self.media_types.push((extension.to_owned(), HeaderValue::from_static(media_type)));
    }

    /// # Panics
    /// If the value is no field value.
    pub(super) fn add_cache_control(&mut self, pattern: &str, value: &'static str) {
        self.cache_control.push((pattern.to_owned(), HeaderValue::from_static(value)));
    }

    /// The fields of a file at this path below the folder.
    pub(super) fn of(&self, path: &str) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(4);
        let extension =
            path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|(_, extension)| extension);
        let own = extension.and_then(|extension| {
            self.media_types.iter().find(|(known, _)| known.eq_ignore_ascii_case(extension))
        });
        let media_type = own.map_or_else(|| media_type(path), |(_, media_type)| media_type.clone());
        headers.insert(header::CONTENT_TYPE, media_type);
        if let Some((_, value)) = self.cache_control.iter().find(|(pattern, _)| is_match(pattern, path)) {
            headers.insert(header::CACHE_CONTROL, value.clone());
        }
        headers
    }
}

/// The media type of a file by its extension. Texts are said to be UTF-8.
pub(super) fn media_type(path: &str) -> HeaderValue {
    let guess = mime_guess::from_path(path).first_raw().unwrap_or("application/octet-stream");
    if guess.starts_with("text/") {
        let with_charset = format!("{guess}; charset=utf-8");
        HeaderValue::try_from(with_charset).expect("media types are field values")
    } else {
        HeaderValue::from_static(guess)
    }
}

/// Whether a path has the form of a pattern, in which `*` stands for any text.
fn is_match(pattern: &str, path: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| path.strip_prefix(first)) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let table = [
            ("*", "", true),
            ("*", "a/b.css", true),
            ("*.css", "a/b.css", true),
            ("*.css", "a/b.css.map", false),
            ("assets/*", "assets/app.js", true),
            ("assets/*", "other/assets/app.js", false),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "ac", false),
            ("index.html", "index.html", true),
            ("index.html", "x/index.html", false),
            ("a*a", "a", false),
        ];
        for (pattern, path, expected) in table {
            assert_eq!(is_match(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn media_types() {
        let mut rules = HeaderRules::default();
        rules.add_media_type("map", "application/json");
        let table = [
            ("a/index.html", "text/html; charset=utf-8"),
            ("app.js", "text/javascript; charset=utf-8"),
            ("app.js.MAP", "application/json"),
            ("app.wasm", "application/wasm"),
            ("photo.JPG", "image/jpeg"),
            ("data.json", "application/json"),
            ("a.b/README", "application/octet-stream"),
        ];
        for (path, expected) in table {
            assert_eq!(rules.of(path)["content-type"], expected, "{path}");
        }
    }
}
