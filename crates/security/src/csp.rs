//! Content-Security-Policy (CSP Level 3): what a page may load and run, which is what stops injected script.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderName, HeaderValue, header};
use thiserror::Error;

use crate::static_value::static_value;
use crate::{Finding, Origin, Severity, random};

/// Why a part of a policy was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CspError {
    /// Not `host`, `*.host`, `scheme://host`, each with `:port` and a path if need be. A `;` or `,` would begin
    /// another directive or policy.
    #[error(
        "{0:?} is no source of a Content-Security-Policy: write a host or scheme://host, or use another Source"
    )]
    Source(String),
    /// A name of a reporting group or Trusted Types policy outside letters, digits, `-` and `_`.
    #[error("{0:?} is no name for a Content-Security-Policy: use letters, digits, - and _")]
    Name(String),
    /// `'none'` next to other sources.
    #[error("the directive {0} has 'none' next to other sources: remove one or the other")]
    NoneAndMore(Directive),
}

/// A directive that takes a list of sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Directive {
    /// The fallback of all directives whose name ends in `-src`.
    DefaultSrc,
    /// Scripts.
    ScriptSrc,
    /// Scripts in elements, if other rules hold for attributes.
    ScriptSrcElem,
    /// Scripts in attributes (`onclick`).
    ScriptSrcAttr,
    /// Style sheets.
    StyleSrc,
    /// Style sheets in elements.
    StyleSrcElem,
    /// Styles in attributes.
    StyleSrcAttr,
    /// Images.
    ImgSrc,
    /// Fonts.
    FontSrc,
    /// What scripts may connect to.
    ConnectSrc,
    /// Audio and video.
    MediaSrc,
    /// Plug-ins.
    ObjectSrc,
    /// Frames in the page.
    FrameSrc,
    /// Workers.
    WorkerSrc,
    /// Web application manifests.
    ManifestSrc,
    /// What `<base>` may be.
    BaseUri,
    /// Where forms may be sent.
    FormAction,
    /// Who may put the page into a frame.
    FrameAncestors,
}

impl Directive {
    fn name(self) -> &'static str {
        match self {
            Self::DefaultSrc => "default-src",
            Self::ScriptSrc => "script-src",
            Self::ScriptSrcElem => "script-src-elem",
            Self::ScriptSrcAttr => "script-src-attr",
            Self::StyleSrc => "style-src",
            Self::StyleSrcElem => "style-src-elem",
            Self::StyleSrcAttr => "style-src-attr",
            Self::ImgSrc => "img-src",
            Self::FontSrc => "font-src",
            Self::ConnectSrc => "connect-src",
            Self::MediaSrc => "media-src",
            Self::ObjectSrc => "object-src",
            Self::FrameSrc => "frame-src",
            Self::WorkerSrc => "worker-src",
            Self::ManifestSrc => "manifest-src",
            Self::BaseUri => "base-uri",
            Self::FormAction => "form-action",
            Self::FrameAncestors => "frame-ancestors",
        }
    }
}

impl fmt::Display for Directive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a directive allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source(SourceKind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum SourceKind {
    Keyword(&'static str),
    Nonce,
    Text(String),
}

impl Source {
    /// Nothing.
    pub const NONE: Self = Self(SourceKind::Keyword("'none'"));
    /// The page's own origin.
    pub const SELF: Self = Self(SourceKind::Keyword("'self'"));
    /// Elements that carry the nonce of the response.
    pub const NONCE: Self = Self(SourceKind::Nonce);
    /// What an allowed script loads in turn; makes browsers ignore hosts and `'self'`.
    pub const STRICT_DYNAMIC: Self = Self(SourceKind::Keyword("'strict-dynamic'"));
    /// A sample of the offending code in reports.
    pub const REPORT_SAMPLE: Self = Self(SourceKind::Keyword("'report-sample'"));
    /// Compilation of WebAssembly.
    pub const WASM_UNSAFE_EVAL: Self = Self(SourceKind::Keyword("'wasm-unsafe-eval'"));
    /// `data:` addresses. As unsafe for scripts as inline code.
    pub const DATA: Self = Self(SourceKind::Keyword("data:"));
    /// `blob:` addresses.
    pub const BLOB: Self = Self(SourceKind::Keyword("blob:"));
    /// Any address of scheme `https`.
    pub const HTTPS: Self = Self(SourceKind::Keyword("https:"));
    /// Inline code without a nonce, which is what a policy is there to stop. Browsers ignore it next to a nonce.
    pub const UNSAFE_INLINE: Self = Self(SourceKind::Keyword("'unsafe-inline'"));
    /// `eval` and its kin.
    pub const UNSAFE_EVAL: Self = Self(SourceKind::Keyword("'unsafe-eval'"));
    /// Hashes hold for attributes too.
    pub const UNSAFE_HASHES: Self = Self(SourceKind::Keyword("'unsafe-hashes'"));

    /// A host, as `cdn.example.org`, `*.example.org`, `https://example.org:8443` or with a path below which all is
    /// allowed.
    ///
    /// # Errors
    /// [`CspError::Source`] for what a browser would not read as one source.
    pub fn host(text: &str) -> Result<Self, CspError> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = authority.strip_prefix("*.").unwrap_or(authority);
        let is_scheme = |text: &str| matches!(text, "http" | "https" | "ws" | "wss");
        let is_path = |text: &str| {
            text.bytes().all(|byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_' | b'~' | b'%')
            })
        };
        if scheme.is_none_or(is_scheme) && crate::origin::HostPort::parse(host).is_some() && is_path(path) {
            Ok(Self(SourceKind::Text(text.to_owned())))
        } else {
            Err(CspError::Source(text.to_owned()))
        }
    }

    /// Inline code with this SHA-256 digest.
    #[must_use]
    pub fn sha256(digest: &[u8; 32]) -> Self {
        Self(SourceKind::Text(format!("'sha256-{}'", STANDARD.encode(digest))))
    }

    /// Inline code with this SHA-384 digest.
    #[must_use]
    pub fn sha384(digest: &[u8; 48]) -> Self {
        Self(SourceKind::Text(format!("'sha384-{}'", STANDARD.encode(digest))))
    }

    /// Inline code with this SHA-512 digest.
    #[must_use]
    pub fn sha512(digest: &[u8; 64]) -> Self {
        Self(SourceKind::Text(format!("'sha512-{}'", STANDARD.encode(digest))))
    }

    /// Exactly this inline script or style sheet, as it stands between the tags.
    #[must_use]
    pub fn inline(code: &str) -> Self {
        use sha2::Digest;
        Self::sha256(&sha2::Sha256::digest(code).into())
    }
}

impl From<&Origin> for Source {
    fn from(origin: &Origin) -> Self {
        Self(SourceKind::Text(origin.as_str().to_owned()))
    }
}

/// A number used once: the word by which one response names the scripts that are its own. 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce([u8; Self::LEN]);

impl Nonce {
    /// The length of its text.
    const LEN: usize = 22;

    /// A fresh one. Never use one for two responses.
    #[must_use]
    pub fn random() -> Self {
        let mut text = [0; Self::LEN];
        let written = URL_SAFE_NO_PAD.encode_slice(random::bytes::<16>(), &mut text);
        debug_assert_eq!(written, Ok(Self::LEN), "16 bytes are 22 characters");
        Self(text)
    }

    /// Its text, to be put into the `nonce` attribute of the page's own elements.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce([REDACTED])")
    }
}

/// A policy that is being written; [`build`](Self::build) makes the [`Csp`] that is sent.
#[derive(Clone, Debug, Default)]
pub struct CspBuilder {
    directives: Vec<(Directive, Vec<Source>)>,
    /// Directives without sources, whole.
    flags: Vec<String>,
    report_only: bool,
}

impl CspBuilder {
    /// Sets the sources of a directive, in place of any it has.
    #[must_use]
    pub fn directive(mut self, directive: Directive, sources: impl IntoIterator<Item = Source>) -> Self {
        self = self.without(directive);
        self.directives.push((directive, sources.into_iter().collect()));
        self
    }

    /// Adds a source to a directive, in place of `'none'`.
    #[must_use]
    pub fn allow(mut self, directive: Directive, source: Source) -> Self {
        match self.directives.iter_mut().find(|(present, _)| *present == directive) {
            Some((_, sources)) => {
                sources.retain(|present| *present != Source::NONE);
                sources.push(source);
            }
            None => self.directives.push((directive, vec![source])),
        }
        self
    }

    /// Removes a directive.
    #[must_use]
    pub fn without(mut self, directive: Directive) -> Self {
        self.directives.retain(|(present, _)| *present != directive);
        self
    }

    /// Has browsers ask for `https` where the page says `http`.
    #[must_use]
    pub fn upgrade_insecure_requests(mut self) -> Self {
        self.flags.push("upgrade-insecure-requests".to_owned());
        self
    }

    /// Has browsers refuse text where the page's own script hands it to a place that would run it, unless it went
    /// through a Trusted Types policy.
    #[must_use]
    pub fn require_trusted_types(mut self) -> Self {
        self.flags.push("require-trusted-types-for 'script'".to_owned());
        self
    }

    /// Sends reports to this group of the `Reporting-Endpoints` field.
    ///
    /// # Errors
    /// [`CspError::Name`] for what is no name.
    pub fn report_to(mut self, group: &str) -> Result<Self, CspError> {
        if group.is_empty()
            || !group.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        {
            return Err(CspError::Name(group.to_owned()));
        }
        self.flags.push(format!("report-to {group}"));
        Ok(self)
    }

    /// Only reports what it would refuse, under the field name `Content-Security-Policy-Report-Only`.
    #[must_use]
    pub fn report_only(mut self) -> Self {
        self.report_only = true;
        self
    }

    /// Writes the policy out.
    ///
    /// # Errors
    /// [`CspError::NoneAndMore`] if a directive has `'none'` next to other sources.
    pub fn build(self) -> Result<Csp, CspError> {
        let mut pieces = vec![String::new()];
        for (directive, sources) in &self.directives {
            if sources.len() > 1 && sources.contains(&Source::NONE) {
                return Err(CspError::NoneAndMore(*directive));
            }
            begin_directive(&mut pieces, directive.name());
            if sources.is_empty() {
                last(&mut pieces).push_str(" 'none'");
            }
            for Source(kind) in sources {
                match kind {
                    SourceKind::Keyword(word) => push_word(&mut pieces, word),
                    SourceKind::Text(text) => push_word(&mut pieces, text),
                    SourceKind::Nonce => {
                        push_word(&mut pieces, "'nonce-");
                        pieces.push("'".to_owned());
                    }
                }
            }
        }
        for flag in &self.flags {
            begin_directive(&mut pieces, flag);
        }
        // Every part was checked when it was made; no text with a control character comes this far.
        let fixed = match pieces.as_slice() {
            [whole] => static_value(whole.clone()),
            _ => None,
        };
        Ok(Csp { builder: self, pieces, fixed })
    }
}

fn last(pieces: &mut [String]) -> &mut String {
    pieces.last_mut().expect("there is always one piece")
}

fn begin_directive(pieces: &mut [String], text: &str) {
    let is_first = pieces.len() == 1 && pieces[0].is_empty();
    let piece = last(pieces);
    piece.push_str(if is_first { "" } else { "; " });
    piece.push_str(text);
}

fn push_word(pieces: &mut [String], word: &str) {
    let piece = last(pieces);
    piece.push(' ');
    piece.push_str(word);
}

/// A Content-Security-Policy, ready to be sent.
///
/// ```
/// use gimmal_security::csp::{Csp, Directive, Nonce, Source};
///
/// let csp = Csp::strict().allow(Directive::ImgSrc, Source::host("https://images.example.org")?).build()?;
/// let nonce = Nonce::random();
/// let value = csp.value(&nonce);
/// assert!(value.to_str()?.contains(&format!("script-src 'self' 'nonce-{nonce}'; ")));
///
/// assert!(Source::host("cdn.example.org; script-src *").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Csp {
    builder: CspBuilder,
    /// The texts between the nonces.
    pieces: Vec<String>,
    /// The whole, if it has no nonce.
    fixed: Option<HeaderValue>,
}

impl Csp {
    /// A policy without directives.
    #[must_use]
    pub fn builder() -> CspBuilder {
        CspBuilder::default()
    }

    /// Nothing but the page's own origin and what carries the nonce: no inline code without it, no plug-ins, no
    /// frames in either direction, no forms to elsewhere. The default of
    /// [`SecurityHeaders`](crate::security_headers::SecurityHeaders).
    #[must_use]
    pub fn strict() -> CspBuilder {
        Self::builder()
            .directive(Directive::DefaultSrc, [Source::NONE])
            .directive(Directive::ScriptSrc, [Source::SELF, Source::NONCE])
            .directive(Directive::StyleSrc, [Source::SELF, Source::NONCE])
            .directive(Directive::ImgSrc, [Source::SELF, Source::DATA])
            .directive(Directive::FontSrc, [Source::SELF])
            .directive(Directive::ConnectSrc, [Source::SELF])
            .directive(Directive::MediaSrc, [Source::SELF])
            .directive(Directive::ManifestSrc, [Source::SELF])
            .directive(Directive::WorkerSrc, [Source::SELF])
            .directive(Directive::BaseUri, [Source::NONE])
            .directive(Directive::FormAction, [Source::SELF])
            .directive(Directive::FrameAncestors, [Source::NONE])
    }

    /// As [`strict`](Self::strict), with scripts trusted by the nonce alone, and what they load in turn: for pages
    /// whose origin also serves files of its users.
    #[must_use]
    pub fn strict_dynamic() -> CspBuilder {
        Self::strict().directive(Directive::ScriptSrc, [Source::NONCE, Source::STRICT_DYNAMIC])
    }

    /// For an API that answers no pages: nothing at all.
    #[must_use]
    pub fn nothing() -> CspBuilder {
        Self::builder()
            .directive(Directive::DefaultSrc, [Source::NONE])
            .directive(Directive::BaseUri, [Source::NONE])
            .directive(Directive::FormAction, [Source::NONE])
            .directive(Directive::FrameAncestors, [Source::NONE])
    }

    /// The name of the field.
    #[must_use]
    pub fn name(&self) -> HeaderName {
        if self.builder.report_only {
            header::CONTENT_SECURITY_POLICY_REPORT_ONLY
        } else {
            header::CONTENT_SECURITY_POLICY
        }
    }

    /// Whether it names a nonce, so that each response needs its own value.
    #[must_use]
    pub fn has_nonce(&self) -> bool {
        self.fixed.is_none()
    }

    /// The value of the field in the response with this nonce. Allocates once if there is a nonce in it, else never.
    #[must_use]
    pub fn value(&self, nonce: &Nonce) -> HeaderValue {
        if let Some(fixed) = &self.fixed {
            return fixed.clone();
        }
        let text = bytes::Bytes::from(self.pieces.join(nonce.as_str()));
        HeaderValue::from_maybe_shared(text).expect("the parts of a policy were checked when they were made")
    }

    /// The same policy, to be changed.
    #[must_use]
    pub fn to_builder(&self) -> CspBuilder {
        self.builder.clone()
    }

    pub(crate) fn has_frame_ancestors(&self) -> bool {
        self.builder.directives.iter().any(|(directive, _)| *directive == Directive::FrameAncestors)
    }

    /// What in it lets injected script run.
    #[must_use]
    pub fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let sources = |directive| {
            self.builder.directives.iter().find(|(present, _)| *present == directive).map(|(_, list)| list)
        };
        let scripts = sources(Directive::ScriptSrc).or_else(|| sources(Directive::DefaultSrc));
        let Some(scripts) = scripts else {
            findings.push(danger("csp.no_script_src", "the policy says nothing of scripts", "set ScriptSrc"));
            return findings;
        };
        let is_bound = scripts.contains(&Source::NONCE)
            || scripts
                .iter()
                .any(|source| matches!(source, Source(SourceKind::Text(text)) if text.starts_with("'sha")));
        if scripts.contains(&Source::UNSAFE_INLINE) && !is_bound {
            findings.push(danger(
                "csp.unsafe_inline",
                "the policy lets any inline script run",
                "mark the page's own scripts with Source::NONCE",
            ));
        }
        if scripts.iter().any(|source| [Source::HTTPS, Source::DATA].contains(source)) {
            findings.push(danger(
                "csp.any_script",
                "the policy lets scripts come from anywhere",
                "name their hosts, or use Source::NONCE",
            ));
        }
        if scripts.contains(&Source::UNSAFE_EVAL) {
            findings.push(Finding {
                severity: Severity::Warning,
                code: "csp.unsafe_eval",
                what: "the policy lets scripts turn text into code".to_owned(),
                cure: "remove Source::UNSAFE_EVAL, or use Source::WASM_UNSAFE_EVAL".to_owned(),
            });
        }
        if self.builder.report_only {
            findings.push(Finding {
                severity: Severity::Warning,
                code: "csp.report_only",
                what: "the policy refuses nothing, it only reports".to_owned(),
                cure: "remove report_only once the reports are clean".to_owned(),
            });
        }
        findings
    }
}

fn danger(code: &'static str, what: &str, cure: &str) -> Finding {
    Finding { severity: Severity::Danger, code, what: what.to_owned(), cure: cure.to_owned() }
}
