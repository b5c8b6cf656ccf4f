//! `Sec-WebSocket-Extensions` (RFC 6455 section 9.1) and the negotiation of permessage-deflate (RFC 7692 section 7.1).

use http::HeaderValue;

use super::Role;
use super::deflate::{Compressor, Decompressor, Kind};

/// The window that is used when none is agreed on.
const WINDOW_BITS_MAX: u8 = 15;

/// The smallest window that zlib can compress with. It reads what was compressed with 8 all the same.
const WINDOW_BITS_MIN: u8 = 9;

/// What an endpoint wants of permessage-deflate (RFC 7692 section 7.1).
///
/// ```
/// use gimmal_http::websocket::DeflateConfig;
///
/// // Better ratios for many small messages that are alike, for some 420 KiB a connection.
/// let config = DeflateConfig {
///     server_no_context_takeover: false,
///     client_no_context_takeover: false,
///     ..DeflateConfig::default()
/// };
/// assert_eq!(config.server_max_window_bits, 15);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateConfig {
    /// Each message of the server is compressed by itself; on by default. An idle connection then holds no
    /// compressor, which takes some 370 KiB.
    pub server_no_context_takeover: bool,
    /// Each message of the client is compressed by itself; on by default. An idle connection then holds no
    /// decompressor, which takes some 46 KiB.
    pub client_no_context_takeover: bool,
    /// The server's window is two to the power of this, in bytes; from 9 to 15, which is the default.
    pub server_max_window_bits: u8,
    /// The client's window, likewise. A server can only ask it of a client that says it can.
    pub client_max_window_bits: u8,
    /// From 1 for quick to 9 for small, 3 by default.
    pub level: u8,
    /// Messages of fewer bytes are sent as they are, 64 by default.
    pub threshold_bytes: usize,
}

impl Default for DeflateConfig {
    fn default() -> Self {
        Self {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: WINDOW_BITS_MAX,
            client_max_window_bits: WINDOW_BITS_MAX,
            level: 3,
            threshold_bytes: 64,
        }
    }
}

impl DeflateConfig {
    fn server_bits(&self) -> u8 {
        self.server_max_window_bits.clamp(WINDOW_BITS_MIN, WINDOW_BITS_MAX)
    }

    fn client_bits(&self) -> u8 {
        self.client_max_window_bits.clamp(WINDOW_BITS_MIN, WINDOW_BITS_MAX)
    }
}

/// permessage-deflate as both endpoints agreed on it. A handshake gives it; decoder and encoder take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    /// 8 to 15.
    server_max_window_bits: u8,
    /// 8 to 15.
    client_max_window_bits: u8,
    level: u8,
    threshold_bytes: usize,
}

impl Deflate {
    /// Accepts the first offer in a client's fields that can be kept, and gives what to answer. `None` if there is no
    /// such offer, and an error if the fields are malformed.
    pub(super) fn accept<'a>(
        offers: impl Iterator<Item = &'a HeaderValue>,
        config: &DeflateConfig,
    ) -> Result<Option<(Self, HeaderValue)>, Malformed> {
        let offers = parse(offers)?;
        Ok(offers.iter().filter(|offer| offer.name == NAME).find_map(|offer| Self::accept_one(offer, config)))
    }

    fn accept_one(offer: &Extension<'_>, config: &DeflateConfig) -> Option<(Self, HeaderValue)> {
        let offered = Parameters::read(offer)?;
        let server_bits = offered.server_bits().unwrap_or(WINDOW_BITS_MAX).min(config.server_bits());
        if server_bits < WINDOW_BITS_MIN {
            return None;
        }
        let client_bits = match offered.client_max_window_bits {
            None => WINDOW_BITS_MAX,
            Some(bits) => bits.unwrap_or(WINDOW_BITS_MAX).min(config.client_bits()),
        };
        let agreed = Self {
            server_no_context_takeover: offered.server_no_context_takeover
                || config.server_no_context_takeover,
            client_no_context_takeover: offered.client_no_context_takeover
                || config.client_no_context_takeover,
            server_max_window_bits: server_bits,
            client_max_window_bits: client_bits,
            level: config.level,
            threshold_bytes: config.threshold_bytes,
        };
        let tells_server_bits = server_bits < WINDOW_BITS_MAX || offered.server_max_window_bits.is_some();
        // A client that did not name it may not know it (RFC 7692 section 7.1.2.2).
        let tells_client_bits = client_bits < WINDOW_BITS_MAX;
        let answer = agreed.to_value(
            tells_server_bits.then_some(server_bits),
            tells_client_bits.then_some(Some(client_bits)),
        );
        Some((agreed, answer))
    }

    /// What a client offers.
    pub(super) fn offer(config: &DeflateConfig) -> HeaderValue {
        let wanted = Self {
            server_no_context_takeover: config.server_no_context_takeover,
            client_no_context_takeover: config.client_no_context_takeover,
            server_max_window_bits: config.server_bits(),
            client_max_window_bits: config.client_bits(),
            level: config.level,
            threshold_bytes: config.threshold_bytes,
        };
        let some_below_max = |bits: u8| (bits < WINDOW_BITS_MAX).then_some(bits);
        wanted.to_value(some_below_max(config.server_bits()), Some(some_below_max(config.client_bits())))
    }

    /// Reads the answer to [`offer`](Self::offer). `None` if the server wants no extension, and an error if it wants
    /// what was not offered.
    pub(super) fn confirm<'a>(
        answers: impl Iterator<Item = &'a HeaderValue>,
        config: &DeflateConfig,
    ) -> Result<Option<Self>, Malformed> {
        let answers = parse(answers)?;
        let answer = match &answers[..] {
            [] => return Ok(None),
            [answer] if answer.name == NAME => answer,
            _ => return Err(Malformed),
        };
        let given = Parameters::read(answer).ok_or(Malformed)?;
        let server_bits = given.server_bits().unwrap_or(WINDOW_BITS_MAX);
        let client_bits = match given.client_max_window_bits {
            None => config.client_bits(),
            // RFC 7692 section 7.1.2.2: in an answer the value is needed.
            Some(None) => return Err(Malformed),
            Some(Some(bits)) => bits,
        };
        let keeps_terms = server_bits <= config.server_bits()
            && client_bits <= config.client_bits()
            && (given.server_no_context_takeover || !config.server_no_context_takeover);
        if !keeps_terms {
            return Err(Malformed);
        }
        Ok(Some(Self {
            server_no_context_takeover: given.server_no_context_takeover,
            // A client may always do without (RFC 7692 section 7.1.1.2).
            client_no_context_takeover: given.client_no_context_takeover || config.client_no_context_takeover,
            server_max_window_bits: server_bits,
            client_max_window_bits: client_bits,
            level: config.level,
            threshold_bytes: config.threshold_bytes,
        }))
    }

    fn to_value(self, server_bits: Option<u8>, client_bits: Option<Option<u8>>) -> HeaderValue {
        let mut text = NAME.to_owned();
        if self.server_no_context_takeover {
            text += "; server_no_context_takeover";
        }
        if self.client_no_context_takeover {
            text += "; client_no_context_takeover";
        }
        if let Some(bits) = server_bits {
            text += &format!("; server_max_window_bits={bits}");
        }
        match client_bits {
            None => {}
            Some(None) => text += "; client_max_window_bits",
            Some(Some(bits)) => text += &format!("; client_max_window_bits={bits}"),
        }
        HeaderValue::try_from(text).expect("names and numbers are a field value")
    }

    /// Messages of fewer bytes are not compressed.
    pub(super) fn threshold_bytes(&self) -> usize {
        self.threshold_bytes
    }

    /// How `role` compresses, if it can: zlib has no window of 8 bits, and a message need not be compressed.
    pub(super) fn compressor(&self, role: Role) -> Option<Compressor> {
        let (window_bits, no_takeover) = match role {
            Role::Server => (self.server_max_window_bits, self.server_no_context_takeover),
            Role::Client => (self.client_max_window_bits, self.client_no_context_takeover),
        };
        let kind = Kind { level: self.level.clamp(1, 9), window_bits };
        (window_bits >= WINDOW_BITS_MIN).then(|| Compressor::new(kind, !no_takeover))
    }

    /// How `role` decompresses what its peer sends.
    pub(super) fn decompressor(&self, role: Role) -> Decompressor {
        let no_takeover = match role {
            Role::Server => self.client_no_context_takeover,
            Role::Client => self.server_no_context_takeover,
        };
        Decompressor::new(!no_takeover)
    }

    /// Whether a message that was compressed with the largest window may be sent by a server.
    pub(super) fn takes_largest_window(&self) -> bool {
        self.server_max_window_bits == WINDOW_BITS_MAX
    }
}

const NAME: &str = "permessage-deflate";

/// The parameters of permessage-deflate in an offer or an answer.
#[derive(Debug, Default)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<Option<u8>>,
    client_max_window_bits: Option<Option<u8>>,
}

impl Parameters {
    /// `None` if one is unknown, given twice, or has no fitting value: then the offer must be declined, or the
    /// connection failed (RFC 7692 section 7.1).
    fn read(extension: &Extension<'_>) -> Option<Self> {
        let mut read = Self::default();
        for (name, value) in &extension.parameters {
            match *name {
                "server_no_context_takeover" if value.is_none() && !read.server_no_context_takeover => {
                    read.server_no_context_takeover = true;
                }
                "client_no_context_takeover" if value.is_none() && !read.client_no_context_takeover => {
                    read.client_no_context_takeover = true;
                }
                "server_max_window_bits" if value.is_some() && read.server_max_window_bits.is_none() => {
                    read.server_max_window_bits = Some(parse_bits(value.as_deref())?);
                }
                "client_max_window_bits" if read.client_max_window_bits.is_none() => {
                    read.client_max_window_bits = Some(parse_bits(value.as_deref())?);
                }
                _ => return None,
            }
        }
        Some(read)
    }

    fn server_bits(&self) -> Option<u8> {
        self.server_max_window_bits.flatten()
    }
}

/// 8 to 15 without a leading zero, or nothing.
fn parse_bits(value: Option<&str>) -> Option<Option<u8>> {
    match value {
        None => Some(None),
        Some("8") => Some(Some(8)),
        Some("9") => Some(Some(9)),
        Some("10") => Some(Some(10)),
        Some("11") => Some(Some(11)),
        Some("12") => Some(Some(12)),
        Some("13") => Some(Some(13)),
        Some("14") => Some(Some(14)),
        Some("15") => Some(Some(15)),
        Some(_) => None,
    }
}

/// A list of extensions that breaks the grammar, or an answer to what was not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// One element of the list.
#[derive(Debug, PartialEq, Eq)]
struct Extension<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, Option<String>)>,
}

/// All extensions of all fields, in order.
fn parse<'a>(values: impl Iterator<Item = &'a HeaderValue>) -> Result<Vec<Extension<'a>>, Malformed> {
    let mut extensions = Vec::new();
    for value in values {
        let mut rest = Cursor(value.to_str().map_err(|_| Malformed)?);
        loop {
            // RFC 9110 section 5.6.1: a recipient takes empty elements.
            while rest.eat(',') {}
            if rest.is_at_end() {
                break;
            }
            let mut extension = Extension { name: rest.token()?, parameters: Vec::new() };
            while rest.eat(';') {
                let name = rest.token()?;
                let value = if rest.eat('=') { Some(rest.value()?) } else { None };
                extension.parameters.push((name, value));
            }
            extensions.push(extension);
            if !rest.is_at_end() && !rest.eat(',') {
                return Err(Malformed);
            }
        }
    }
    Ok(extensions)
}

/// Checks fields of which no extension may be wanted.
pub(super) fn check_grammar<'a>(values: impl Iterator<Item = &'a HeaderValue>) -> Result<(), Malformed> {
    parse(values).map(drop)
}

/// What is left of a field value.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn skip_space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    fn is_at_end(&mut self) -> bool {
        self.skip_space();
        self.0.is_empty()
    }

    /// Takes `wanted` if it is next after white space.
    fn eat(&mut self, wanted: char) -> bool {
        self.skip_space();
        match self.0.strip_prefix(wanted) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn token(&mut self) -> Result<&'a str, Malformed> {
        self.skip_space();
        let end = self.0.find(|character| !is_token(character)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        if token.is_empty() { Err(Malformed) } else { Ok(token) }
    }

    /// A token, or a quoted string that holds one (RFC 6455 section 9.1).
    fn value(&mut self) -> Result<String, Malformed> {
        if !self.eat('"') {
            return self.token().map(str::to_owned);
        }
        let mut text = String::new();
        let mut characters = self.0.chars();
        loop {
            match characters.next().ok_or(Malformed)? {
                '"' => break,
                '\\' => text.push(characters.next().ok_or(Malformed)?),
                character => text.push(character),
            }
        }
        self.0 = characters.as_str();
        if !text.is_empty() && text.chars().all(is_token) { Ok(text) } else { Err(Malformed) }
    }
}

/// RFC 9110 section 5.6.2.
pub(super) fn is_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(fields: &[&str]) -> Vec<HeaderValue> {
        fields.iter().map(|field| HeaderValue::from_str(field).unwrap()).collect()
    }

    #[test]
    fn rfc6455_9_1_the_grammar_of_the_list() {
        let fields = values(&["foo, , bar; baz=2;q", "x ; y = \"a\\b\" ,", ""]);
        let parsed = parse(fields.iter()).unwrap();
        let names: Vec<_> = parsed.iter().map(|extension| extension.name).collect();
        assert_eq!(names, ["foo", "bar", "x"]);
        assert_eq!(parsed[1].parameters, [("baz", Some("2".to_owned())), ("q", None)]);
        assert_eq!(parsed[2].parameters, [("y", Some("ab".to_owned()))]);
        for bad in [
            "a b",
            "a;",
            "a;=1",
            "a;b=",
            "a;b=\"",
            "a;b=\"\"",
            "a;b=\"c d\"",
            "a;b=\"c\\",
            "=",
            "a;;b",
            "a/b",
        ] {
            assert_eq!(parse(values(&[bad]).iter()), Err(Malformed), "{bad}");
        }
    }
}
