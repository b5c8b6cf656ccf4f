//! The compact form of a signed token (RFC 7515 section 7.1): taken apart, and its signature checked.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::jwk::Jwk;
use super::{TOKEN_BYTES_MAX, TokenError};
use crate::strict_json;

/// A token whose signature is not checked yet.
pub(crate) struct Jws<'a> {
    pub(crate) algorithm: Algorithm,
    pub(crate) key_id: Option<String>,
    /// `typ`, in lower case and without `application/`.
    pub(crate) token_type: Option<String>,
    /// What is signed: header, dot, claims.
    signed: &'a str,
    /// Base64url.
    signature: &'a str,
    /// Not to be trusted before [`verify`](Self::verify).
    pub(crate) claims: Map<String, Value>,
}

impl<'a> Jws<'a> {
    /// Takes a token apart.
    pub(crate) fn parse(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let header = parse_part(header)?;
        // `b64` is critical wherever it is used (RFC 7797 section 6); `zip` belongs to encrypted tokens.
        if ["crit", "b64", "zip"].iter().any(|name| header.contains_key(*name)) {
            return Err(TokenError::CriticalHeader);
        }
        let text = |name: &str| match header.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(TokenError::Malformed),
        };
        let algorithm = text("alg")?.as_deref().and_then(algorithm).ok_or(TokenError::Algorithm)?;
        let token_type = text("typ")?.map(|typ| {
            let typ = typ.to_ascii_lowercase();
            typ.strip_prefix("application/").map(str::to_owned).unwrap_or(typ)
        });
        let claims = parse_part(claims)?;
        Ok(Self { algorithm, key_id: text("kid")?, token_type, signed, signature, claims })
    }

    /// Checks the signature with `key`, which must be meant for the token's algorithm.
    pub(crate) fn verify(&self, key: &Jwk) -> Result<(), TokenError> {
        if !key.is_for(self.algorithm) {
            return Err(TokenError::UnknownKey);
        }
        match jsonwebtoken::crypto::verify(
            self.signature,
            self.signed.as_bytes(),
            key.decoding_key(),
            self.algorithm,
        ) {
            Ok(true) => Ok(()),
            _ => Err(TokenError::Signature),
        }
    }
}

fn parse_part(part: &str) -> Result<Map<String, Value>, TokenError> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    strict_json::parse_object(&json).map_err(|_| TokenError::Malformed)
}

/// The algorithm of that name, if it can be checked here.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    match name {
        // The name of RFC 9864 for what RFC 8037 calls EdDSA.
        "Ed25519" => Some(Algorithm::EdDSA),
        name => name.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretSlice;

    use super::*;
    use crate::jwt::JwkSet;

    const CLAIMS: &str =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

    fn verify(token: &str, keys: &JwkSet) -> Result<(), TokenError> {
        let token = Jws::parse(token)?;
        token.verify(keys.find(None, token.algorithm).ok_or(TokenError::UnknownKey)?)
    }

    /// The token with another last character in its signature's first quarter.
    fn spoiled(token: &str) -> String {
        let at = token.rfind('.').unwrap() + 5;
        let other = if &token[at..=at] == "A" { "B" } else { "A" };
        format!("{}{other}{}", &token[..at], &token[at + 1..])
    }

    /// RFC 7515 appendix A.1.
    #[test]
    fn hs256_of_the_rfc() {
        let token = format!(
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{CLAIMS}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
        );
        let secret = URL_SAFE_NO_PAD
            .decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
            .unwrap();
        let keys = JwkSet::from_shared_secret(&SecretSlice::from(secret), Algorithm::HS256).unwrap();
        assert_eq!(verify(&token, &keys), Ok(()));
        assert_eq!(verify(&spoiled(&token), &keys), Err(TokenError::Signature));
    }

    /// RFC 7515 appendix A.2.
    #[test]
    fn rs256_of_the_rfc() {
        let token = format!(
            "eyJhbGciOiJSUzI1NiJ9.{CLAIMS}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-\
             0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQ\
             BMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI\
             8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
        );
        let keys = br#"{"keys":[{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}]}"#;
        let keys = JwkSet::parse(keys).unwrap();
        assert_eq!(verify(&token, &keys), Ok(()));
        assert_eq!(verify(&spoiled(&token), &keys), Err(TokenError::Signature));
    }

    /// RFC 7515 appendix A.3.
    #[test]
    fn es256_of_the_rfc() {
        let token = format!(
            "eyJhbGciOiJFUzI1NiJ9.{CLAIMS}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqP\
             P3-Kg6NU1Q"
        );
        let keys = br#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
        let keys = JwkSet::parse(keys).unwrap();
        assert_eq!(verify(&token, &keys), Ok(()));
        assert_eq!(verify(&spoiled(&token), &keys), Err(TokenError::Signature));
    }

    /// What the examples of RFC 7520 sign, which is no JSON: "It's a dangerous business, Frodo ...".
    const FRODO: &str = "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4";

    /// Checks the signature alone, of whatever is signed.
    fn verify_signature(
        token: &str,
        key_id: Option<&str>,
        algorithm: Algorithm,
        keys: &JwkSet,
    ) -> Result<(), TokenError> {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let jws =
            Jws { algorithm, key_id: None, token_type: None, signed, signature, claims: Map::default() };
        jws.verify(keys.find(key_id, algorithm).ok_or(TokenError::UnknownKey)?)
    }

    /// RFC 7520 section 4.1.
    #[test]
    fn rs256_of_the_cookbook() {
        let token = format!(
            "eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9.{FRODO}.MRjdkly7_-oTPTS3AXP41iQ\
             IGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-BDkoBwA78185hX-Es4JIwm\
             DLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS\
             _de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y1\
             8kDquDg"
        );
        let keys = br#"{"keys":[{"kty":"RSA","kid":"bilbo.baggins@hobbiton.example","use":"sig","e":"AQAB","n":"n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw"}]}"#;
        let keys = JwkSet::parse(keys).unwrap();
        let verify = |token: &str, algorithm| {
            verify_signature(token, Some("bilbo.baggins@hobbiton.example"), algorithm, &keys)
        };
        assert_eq!(verify(&token, Algorithm::RS256), Ok(()));
        assert_eq!(verify(&spoiled(&token), Algorithm::RS256), Err(TokenError::Signature));
        assert_eq!(verify(&token, Algorithm::PS256), Err(TokenError::Signature));
        assert_eq!(verify(&token, Algorithm::HS256), Err(TokenError::UnknownKey));
    }

    /// RFC 7520 section 4.4.
    #[test]
    fn hs256_of_the_cookbook() {
        let token = format!(
            "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9.{FRODO}.\
             s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0"
        );
        let secret = URL_SAFE_NO_PAD.decode("hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg").unwrap();
        let keys = JwkSet::from_shared_secret(&SecretSlice::from(secret), Algorithm::HS256).unwrap();
        assert_eq!(verify_signature(&token, None, Algorithm::HS256, &keys), Ok(()));
        let forged = verify_signature(&spoiled(&token), None, Algorithm::HS256, &keys);
        assert_eq!(forged, Err(TokenError::Signature));
    }

    /// RFC 8037 appendix A.4.
    #[test]
    fn ed25519_of_the_rfc() {
        let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dW\
                     bhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        let keys =
            br#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        let keys = JwkSet::parse(keys).unwrap();
        assert_eq!(verify_signature(token, None, Algorithm::EdDSA, &keys), Ok(()));
        let forged = verify_signature(&spoiled(token), None, Algorithm::EdDSA, &keys);
        assert_eq!(forged, Err(TokenError::Signature));
    }

    /// RFC 7519 section 6.1: the unsecured token.
    #[test]
    fn alg_none_of_the_rfc() {
        let token = format!("eyJhbGciOiJub25lIn0.{CLAIMS}.");
        assert_eq!(Jws::parse(&token).err(), Some(TokenError::Algorithm));
    }
}
