//! The registered claims that every kind of token shares (RFC 7519 section 4.1).

use serde_json::{Map, Value};

use super::TokenError;

/// A NumericDate in whole seconds since 1970 (RFC 7519 section 2), or `None` if the claim is absent.
///
/// Anything but a number that a date can have is an error: a time that was skipped because of its type would never
/// have come or passed.
pub(crate) fn numeric_date(
    claims: &Map<String, Value>,
    name: &'static str,
) -> Result<Option<u64>, TokenError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_u64().or_else(|| {
        let seconds = value.as_f64()?;
        // Up to here a float holds every whole number.
        (0.0..=9_007_199_254_740_992.0).contains(&seconds).then_some(seconds as u64)
    });
    seconds.map(Some).ok_or(TokenError::ClaimInvalid(name))
}

/// Checks `exp`, `nbf` and `iat`, with `leeway_seconds` for clocks that differ; `exp` must be there. Gives it.
pub(crate) fn check_times(
    claims: &Map<String, Value>,
    now: u64,
    leeway_seconds: u64,
) -> Result<u64, TokenError> {
    let expires_at = numeric_date(claims, "exp")?.ok_or(TokenError::ClaimMissing("exp"))?;
    if expires_at.saturating_add(leeway_seconds) <= now {
        return Err(TokenError::Expired);
    }
    for name in ["nbf", "iat"] {
        if numeric_date(claims, name)?.is_some_and(|from| from > now.saturating_add(leeway_seconds)) {
            return Err(TokenError::NotYetValid);
        }
    }
    Ok(expires_at)
}

/// The claim `aud`: a string or an array of strings (RFC 7519 section 4.1.3).
pub(crate) struct Audiences<'a>(Vec<&'a str>);

impl<'a> Audiences<'a> {
    pub(crate) fn of(claims: &'a Map<String, Value>) -> Result<Self, TokenError> {
        match claims.get("aud") {
            None => Err(TokenError::ClaimMissing("aud")),
            Some(Value::String(one)) => Ok(Self(vec![one])),
            Some(Value::Array(several)) => several
                .iter()
                .map(|audience| audience.as_str().ok_or(TokenError::ClaimInvalid("aud")))
                .collect::<Result<_, _>>()
                .map(Self),
            Some(_) => Err(TokenError::ClaimInvalid("aud")),
        }
    }

    pub(crate) fn contain(&self, audience: &str) -> bool {
        self.0.contains(&audience)
    }

    #[cfg(feature = "oidc")]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// A claim that must be a string, and not an empty one.
pub(crate) fn required_text<'a>(
    claims: &'a Map<String, Value>,
    name: &'static str,
) -> Result<&'a str, TokenError> {
    match claims.get(name) {
        None => Err(TokenError::ClaimMissing(name)),
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        Some(_) => Err(TokenError::ClaimInvalid(name)),
    }
}

/// The scopes of a token: the string `scope` (RFC 8693 section 4.2) and the array or string `scp`.
pub(crate) fn scopes(claims: &Map<String, Value>) -> Result<Vec<&str>, TokenError> {
    let mut scopes = Vec::new();
    for name in ["scope", "scp"] {
        match claims.get(name) {
            None => {}
            Some(Value::String(text)) => scopes.extend(text.split(' ').filter(|scope| !scope.is_empty())),
            Some(Value::Array(several)) => {
                for scope in several {
                    scopes.push(scope.as_str().ok_or(TokenError::ClaimInvalid(name))?);
                }
            }
            Some(_) => return Err(TokenError::ClaimInvalid(name)),
        }
    }
    Ok(scopes)
}

/// The strings of the array at `path`, the names of the members on the way to it.
pub(crate) fn roles<'a>(claims: &'a Map<String, Value>, path: &[String]) -> impl Iterator<Item = &'a str> {
    let array = path
        .split_first()
        .and_then(|(first, rest)| rest.iter().try_fold(claims.get(first)?, |value, name| value.get(name)))
        .and_then(Value::as_array);
    array.into_iter().flatten().filter_map(Value::as_str)
}
