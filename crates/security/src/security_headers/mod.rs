//! The response fields that tell a browser to be careful.

mod permissions_policy;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;

pub use permissions_policy::{PermissionsPolicy, PermissionsPolicyError};

use crate::csp::{Csp, Nonce};
use crate::static_value::static_value;
use crate::{Finding, Severity};

const CROSS_ORIGIN_OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const CROSS_ORIGIN_EMBEDDER_POLICY: HeaderName = HeaderName::from_static("cross-origin-embedder-policy");
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const ORIGIN_AGENT_CLUSTER: HeaderName = HeaderName::from_static("origin-agent-cluster");
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
const REPORTING_ENDPOINTS: HeaderName = HeaderName::from_static("reporting-endpoints");
const X_PERMITTED_CROSS_DOMAIN_POLICIES: HeaderName =
    HeaderName::from_static("x-permitted-cross-domain-policies");

const HSTS_MAX_AGE_SECONDS: u64 = 2 * 365 * 24 * 3600;

/// How much of its own address a page tells others (Referrer-Policy).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferrerPolicy {
    /// Nothing.
    NoReferrer,
    /// All of it to its own origin, nothing to others.
    SameOrigin,
    /// The origin alone, to `https` alone.
    StrictOrigin,
    /// All of it to its own origin, the origin alone to others.
    StrictOriginWhenCrossOrigin,
}

/// Who may put a page into a frame: `frame-ancestors` for browsers of today, `X-Frame-Options` for older ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Nobody.
    Deny,
    /// Pages of the same origin.
    SameOrigin,
}

/// Which other origins may hold a handle on the page's window (Cross-Origin-Opener-Policy).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenerPolicy {
    /// None.
    SameOrigin,
    /// Those that the page itself opened, as for a login in a pop-up.
    SameOriginAllowPopups,
}

/// Who may load the resource (Cross-Origin-Resource-Policy).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourcePolicy {
    /// Pages of the same origin.
    SameOrigin,
    /// Pages of the same site, its subdomains included.
    SameSite,
    /// Everybody: for files that are there to be embedded elsewhere.
    CrossOrigin,
}

/// What is wrong with a reporting endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{group:?} at {address:?} is no reporting endpoint: a group has lower-case letters, digits, - and _, and an \
         address begins with / or https:// and has no quotes"
)]
pub struct ReportingEndpointError {
    group: String,
    address: String,
}

/// The security fields of a response. The default earns top marks from the usual scanners; each field can be adjusted
/// or left out by the method of its name.
///
/// | field | default |
/// | --- | --- |
/// | `Content-Security-Policy` | [`Csp::strict`], with a nonce for each response |
/// | `Strict-Transport-Security` | two years, with subdomains; over TLS alone (RFC 6797 section 7.2) |
/// | `X-Content-Type-Options` | `nosniff` |
/// | `X-Frame-Options` | `DENY`, as `frame-ancestors 'none'` in the policy |
/// | `Referrer-Policy` | `no-referrer` |
/// | `Permissions-Policy` | every feature off |
/// | `Cross-Origin-Opener-Policy` | `same-origin` |
/// | `Cross-Origin-Embedder-Policy` | `require-corp` |
/// | `Cross-Origin-Resource-Policy` | `same-origin` |
/// | `Origin-Agent-Cluster` | `?1` |
/// | `X-Permitted-Cross-Domain-Policies` | `none` |
///
/// `X-XSS-Protection` is not sent: browsers have removed the filter that it steered, and where there still is one it
/// can be turned against the page.
///
/// For reports of the policy, name their collector with [`with_reporting_endpoint`](Self::with_reporting_endpoint).
///
/// All values are made once; a response copies references, and allocates for the nonce alone.
///
/// ```
/// use gimmal_security::csp::Nonce;
/// use gimmal_security::security_headers::{ResourcePolicy, SecurityHeaders};
/// use http::HeaderMap;
///
/// let security = SecurityHeaders::default().with_resource_policy(ResourcePolicy::SameSite);
/// let nonce = Nonce::random();
/// let mut headers = HeaderMap::new();
/// security.apply(&mut headers, &nonce, true);
/// assert_eq!(headers["cross-origin-resource-policy"], "same-site");
/// assert_eq!(headers["strict-transport-security"], "max-age=63072000; includeSubDomains");
/// ```
#[derive(Clone, Debug)]
pub struct SecurityHeaders {
    csp: Option<Csp>,
    strict_transport_security: Option<HeaderValue>,
    content_type_options: Option<HeaderValue>,
    frame_options: Option<HeaderValue>,
    referrer_policy: Option<HeaderValue>,
    permissions_policy: Option<HeaderValue>,
    opener_policy: Option<HeaderValue>,
    embedder_policy: Option<HeaderValue>,
    resource_policy: Option<HeaderValue>,
    agent_cluster: Option<HeaderValue>,
    cross_domain_policies: Option<HeaderValue>,
    reporting_endpoints: Option<HeaderValue>,
}

impl Default for SecurityHeaders {
    fn default() -> Self {
        let word = |word| Some(HeaderValue::from_static(word));
        Self {
            csp: Csp::strict().build().ok(),
            strict_transport_security: word("max-age=63072000; includeSubDomains"),
            content_type_options: word("nosniff"),
            frame_options: word("DENY"),
            referrer_policy: word("no-referrer"),
            permissions_policy: static_value(PermissionsPolicy::deny_all().text()),
            opener_policy: word("same-origin"),
            embedder_policy: word("require-corp"),
            resource_policy: word("same-origin"),
            agent_cluster: word("?1"),
            cross_domain_policies: word("none"),
            reporting_endpoints: None,
        }
    }
}

impl SecurityHeaders {
    /// Sets the Content-Security-Policy.
    #[must_use]
    pub fn with_csp(mut self, csp: Csp) -> Self {
        self.csp = Some(csp);
        self
    }

    /// Leaves the Content-Security-Policy out: injected script runs.
    #[must_use]
    pub fn without_csp(mut self) -> Self {
        self.csp = None;
        self
    }

    /// Sets how long browsers are to use TLS alone, with or without subdomains.
    #[must_use]
    pub fn with_strict_transport_security(mut self, max_age_seconds: u64, subdomains: bool) -> Self {
        let subdomains = if subdomains { "; includeSubDomains" } else { "" };
        self.strict_transport_security = static_value(format!("max-age={max_age_seconds}{subdomains}"));
        self
    }

    /// Two years, with subdomains, and consent to be built into browsers as TLS alone. Slow to undo: read the
    /// conditions of the preload list first.
    #[must_use]
    pub fn with_strict_transport_security_preload(mut self) -> Self {
        self.strict_transport_security =
            static_value(format!("max-age={HSTS_MAX_AGE_SECONDS}; includeSubDomains; preload"));
        self
    }

    /// Leaves Strict-Transport-Security out: the first request of a visit can be intercepted.
    #[must_use]
    pub fn without_strict_transport_security(mut self) -> Self {
        self.strict_transport_security = None;
        self
    }

    /// Leaves X-Content-Type-Options out: browsers guess types, and may run an upload as script.
    #[must_use]
    pub fn without_content_type_options(mut self) -> Self {
        self.content_type_options = None;
        self
    }

    /// Sets who may put the page into a frame, in the policy and in X-Frame-Options.
    #[must_use]
    pub fn with_framing(mut self, framing: Framing) -> Self {
        use crate::csp::{Directive, Source};
        let (options, source) = match framing {
            Framing::Deny => ("DENY", Source::NONE),
            Framing::SameOrigin => ("SAMEORIGIN", Source::SELF),
        };
        self.frame_options = Some(HeaderValue::from_static(options));
        self.csp = self.csp.map(|csp| {
            let changed = csp.to_builder().directive(Directive::FrameAncestors, [source]).build();
            changed.unwrap_or(csp)
        });
        self
    }

    /// Leaves X-Frame-Options out, for a policy whose `frame-ancestors` it could not express.
    #[must_use]
    pub fn without_frame_options(mut self) -> Self {
        self.frame_options = None;
        self
    }

    /// Sets how much of its own address a page tells others.
    #[must_use]
    pub fn with_referrer_policy(mut self, policy: ReferrerPolicy) -> Self {
        self.referrer_policy = Some(HeaderValue::from_static(match policy {
            ReferrerPolicy::NoReferrer => "no-referrer",
            ReferrerPolicy::SameOrigin => "same-origin",
            ReferrerPolicy::StrictOrigin => "strict-origin",
            ReferrerPolicy::StrictOriginWhenCrossOrigin => "strict-origin-when-cross-origin",
        }));
        self
    }

    /// Leaves Referrer-Policy out, and with it the choice to the browser.
    #[must_use]
    pub fn without_referrer_policy(mut self) -> Self {
        self.referrer_policy = None;
        self
    }

    /// Sets which features of the browser the page may use.
    #[must_use]
    pub fn with_permissions_policy(mut self, policy: &PermissionsPolicy) -> Self {
        self.permissions_policy = static_value(policy.text());
        self
    }

    /// Leaves Permissions-Policy out.
    #[must_use]
    pub fn without_permissions_policy(mut self) -> Self {
        self.permissions_policy = None;
        self
    }

    /// Sets Cross-Origin-Opener-Policy.
    #[must_use]
    pub fn with_opener_policy(mut self, policy: OpenerPolicy) -> Self {
        self.opener_policy = Some(HeaderValue::from_static(match policy {
            OpenerPolicy::SameOrigin => "same-origin",
            OpenerPolicy::SameOriginAllowPopups => "same-origin-allow-popups",
        }));
        self
    }

    /// Leaves Cross-Origin-Opener-Policy out.
    #[must_use]
    pub fn without_opener_policy(mut self) -> Self {
        self.opener_policy = None;
        self
    }

    /// Leaves Cross-Origin-Embedder-Policy out: the page may embed what does not ask to be embedded.
    #[must_use]
    pub fn without_embedder_policy(mut self) -> Self {
        self.embedder_policy = None;
        self
    }

    /// Sets Cross-Origin-Resource-Policy.
    #[must_use]
    pub fn with_resource_policy(mut self, policy: ResourcePolicy) -> Self {
        self.resource_policy = Some(HeaderValue::from_static(match policy {
            ResourcePolicy::SameOrigin => "same-origin",
            ResourcePolicy::SameSite => "same-site",
            ResourcePolicy::CrossOrigin => "cross-origin",
        }));
        self
    }

    /// Leaves Cross-Origin-Resource-Policy out.
    #[must_use]
    pub fn without_resource_policy(mut self) -> Self {
        self.resource_policy = None;
        self
    }

    /// Leaves Origin-Agent-Cluster out.
    #[must_use]
    pub fn without_agent_cluster(mut self) -> Self {
        self.agent_cluster = None;
        self
    }

    /// Leaves X-Permitted-Cross-Domain-Policies out.
    #[must_use]
    pub fn without_cross_domain_policies(mut self) -> Self {
        self.cross_domain_policies = None;
        self
    }

    /// Names the group to which browsers send reports, as
    /// [`CspBuilder::report_to`](crate::csp::CspBuilder::report_to) speaks of it, and the address of its collector: a
    /// path on this host, or an `https` address.
    ///
    /// # Errors
    /// [`ReportingEndpointError`] for a group or address that would end the field's value.
    pub fn with_reporting_endpoint(
        mut self,
        group: &str,
        address: &str,
    ) -> Result<Self, ReportingEndpointError> {
        let is_group = group.starts_with(|first: char| first.is_ascii_lowercase())
            && group
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte));
        let is_address = (address.starts_with('/') || address.starts_with("https://"))
            && address.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
        if !is_group || !is_address {
            return Err(ReportingEndpointError { group: group.to_owned(), address: address.to_owned() });
        }
        self.reporting_endpoints = static_value(format!("{group}=\"{address}\""));
        Ok(self)
    }

    /// The Content-Security-Policy.
    #[must_use]
    pub fn csp(&self) -> Option<&Csp> {
        self.csp.as_ref()
    }

    /// All fields for one response: `nonce` is the one in its page, `secure` says whether the client speaks TLS.
    pub fn iter(&self, nonce: &Nonce, secure: bool) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let csp = self.csp.as_ref().map(|csp| (csp.name(), csp.value(nonce)));
        let hsts = self.strict_transport_security.as_ref().filter(|_| secure);
        let fixed = [
            (header::STRICT_TRANSPORT_SECURITY, hsts),
            (header::X_CONTENT_TYPE_OPTIONS, self.content_type_options.as_ref()),
            (header::X_FRAME_OPTIONS, self.frame_options.as_ref()),
            (header::REFERRER_POLICY, self.referrer_policy.as_ref()),
            (PERMISSIONS_POLICY, self.permissions_policy.as_ref()),
            (CROSS_ORIGIN_OPENER_POLICY, self.opener_policy.as_ref()),
            (CROSS_ORIGIN_EMBEDDER_POLICY, self.embedder_policy.as_ref()),
            (CROSS_ORIGIN_RESOURCE_POLICY, self.resource_policy.as_ref()),
            (ORIGIN_AGENT_CLUSTER, self.agent_cluster.as_ref()),
            (X_PERMITTED_CROSS_DOMAIN_POLICIES, self.cross_domain_policies.as_ref()),
            (REPORTING_ENDPOINTS, self.reporting_endpoints.as_ref()),
        ];
        csp.into_iter().chain(fixed.into_iter().filter_map(|(name, value)| Some((name, value?.clone()))))
    }

    /// Adds the fields to a response that does not have them: what a handler set itself stands.
    pub fn apply(&self, headers: &mut HeaderMap, nonce: &Nonce, secure: bool) {
        for (name, value) in self.iter(nonce, secure) {
            headers.entry(name).or_insert(value);
        }
    }

    /// What is weaker than the default in a way that an attack can use.
    #[must_use]
    pub fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut warn = |code, what: &str, cure: &str| {
            findings.push(Finding {
                severity: Severity::Warning,
                code,
                what: what.to_owned(),
                cure: cure.to_owned(),
            });
        };
        if self.csp.is_none() {
            warn("headers.no_csp", "no Content-Security-Policy is sent", "set one with with_csp");
        }
        if self.strict_transport_security.is_none() {
            warn(
                "headers.no_hsts",
                "no Strict-Transport-Security is sent",
                "set it with with_strict_transport_security once all of the host speaks TLS",
            );
        }
        if self.content_type_options.is_none() {
            warn("headers.sniffing", "browsers may guess content types", "keep X-Content-Type-Options");
        }
        let frames_by_policy = self.csp.as_ref().is_some_and(Csp::has_frame_ancestors);
        if self.frame_options.is_none() && !frames_by_policy {
            warn("headers.framing", "any site may put pages into a frame", "set with_framing");
        }
        findings.extend(self.csp.iter().flat_map(Csp::check));
        findings
    }
}
