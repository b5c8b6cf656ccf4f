//! ID tokens (OpenID Connect Core 1.0 sections 2 and 3.1.3.7).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use crate::HttpFetch;
use crate::jwt::{Audiences, Jws, KeySource, TokenError, check_times, numeric_date, required_text};

/// What every token of the provider for this client has to fulfil.
#[derive(Debug)]
pub(super) struct Expectations {
    pub(super) issuer: String,
    pub(super) client_id: String,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) leeway_seconds: u64,
}

impl Expectations {
    /// Checks signature, issuer, audience and times, and gives the claims. `types` are the values of `typ` that are
    /// taken beside its absence.
    pub(super) async fn check<F: HttpFetch>(
        &self,
        token: &str,
        types: &[&str],
        keys: &KeySource,
        now: u64,
        fetch: &F,
    ) -> Result<(Algorithm, Map<String, Value>), TokenError> {
        let token = Jws::parse(token)?;
        if !self.algorithms.contains(&token.algorithm) {
            return Err(TokenError::Algorithm);
        }
        if token.token_type.as_deref().is_some_and(|typ| !types.contains(&typ)) {
            return Err(TokenError::Type);
        }
        if required_text(&token.claims, "iss")? != self.issuer {
            return Err(TokenError::Issuer);
        }
        keys.verify(&token, now, fetch).await?;
        let Jws { algorithm, claims, .. } = token;
        check_times(&claims, now, self.leeway_seconds)?;
        if numeric_date(&claims, "iat")?.is_none() {
            return Err(TokenError::ClaimMissing("iat"));
        }
        let audiences = Audiences::of(&claims)?;
        if !audiences.contain(&self.client_id) {
            return Err(TokenError::Audience);
        }
        // Section 3.1.3.7, points 3 to 5: with other audiences, the token has to be issued to this client.
        let authorized_party = claims.get("azp").map(|party| party.as_str() == Some(&self.client_id));
        match authorized_party {
            Some(true) => {}
            None if audiences.len() == 1 => {}
            _ => return Err(TokenError::ClaimInvalid("azp")),
        }
        Ok((algorithm, claims))
    }
}

/// Checks that the token was issued for the login with this nonce (point 11).
pub(super) fn check_nonce(claims: &Map<String, Value>, nonce: &str) -> Result<(), TokenError> {
    let own = required_text(claims, "nonce")?;
    verify_slices_are_equal(own.as_bytes(), nonce.as_bytes()).map_err(|_| TokenError::ClaimInvalid("nonce"))
}

/// Checks that the access token belongs to the ID token, if that says so (section 3.1.3.8).
pub(super) fn check_access_token_hash(
    claims: &Map<String, Value>,
    algorithm: Algorithm,
    access_token: &str,
) -> Result<(), TokenError> {
    let Some(hash) = claims.get("at_hash") else { return Ok(()) };
    if hash.as_str() == Some(&half_hash(algorithm, access_token)) {
        Ok(())
    } else {
        Err(TokenError::ClaimInvalid("at_hash"))
    }
}

/// The left half of the hash that goes with the algorithm, in base64url.
fn half_hash(algorithm: Algorithm, text: &str) -> String {
    let hash = match algorithm {
        Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 | Algorithm::HS384 => &digest::SHA384,
        // Ed25519 hashes with SHA-512.
        Algorithm::RS512 | Algorithm::PS512 | Algorithm::HS512 | Algorithm::EdDSA => &digest::SHA512,
        _ => &digest::SHA256,
    };
    let hash = digest::digest(hash, text.as_bytes());
    URL_SAFE_NO_PAD.encode(&hash.as_ref()[..hash.as_ref().len() / 2])
}

/// Checks that the user proved who they are no longer than `max_age_seconds` ago (point 13).
pub(super) fn check_age(
    claims: &Map<String, Value>,
    max_age_seconds: Option<u64>,
    leeway_seconds: u64,
    now: u64,
) -> Result<(), TokenError> {
    let Some(max_age_seconds) = max_age_seconds else { return Ok(()) };
    let proved_at = numeric_date(claims, "auth_time")?.ok_or(TokenError::ClaimMissing("auth_time"))?;
    if now > proved_at.saturating_add(max_age_seconds).saturating_add(leeway_seconds) {
        return Err(TokenError::ClaimInvalid("auth_time"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OpenID Connect Core 1.0 appendix A.3: access token and `at_hash`.
    #[test]
    fn the_hash_of_the_specification() {
        assert_eq!(
            half_hash(Algorithm::RS256, "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"),
            "77QmUPtjPfzWtF2AnpK9RQ"
        );
    }
}
