//! All defences in one, in the order in which they must stand.

use gimmal_security::allowed_hosts::AllowedHosts;
use gimmal_security::cors::Cors;
use gimmal_security::csp::Csp;
use gimmal_security::forwarded::TrustedProxies;
use gimmal_security::security_headers::{ReferrerPolicy, SecurityHeaders};
use gimmal_security::{Finding, Severity};

use super::around::{Around, middleware};
use super::csrf::CsrfProtection;
use super::rate_limit::RateLimit;
use crate::request::Request;
use crate::response::Response;

/// The defences of an app, in [the order](super#order) in which they must stand.
///
/// On from the start are [`SecurityHeaders::default`], with [`ReferrerPolicy::SameOrigin`] so that the check of origins
/// works in older browsers too, and [`CsrfProtection::default`]: they need to know nothing of the site. The others want to be told: the site's names, its proxies, who may read it, how much a client may ask.
///
/// ```
/// use gimmal::defence::{Defences, ResourcePolicy, SecurityHeaders};
/// use gimmal::test::TestServer;
/// use gimmal::{App, Html};
///
/// let headers = SecurityHeaders::default().with_resource_policy(ResourcePolicy::SameSite);
/// let app = App::new()
///     .get("/", async || Html("<!doctype html><title>safe</title>"))
///     .with(Defences::new().security_headers(headers));
///
/// let response = TestServer::start(app)?.get("/").send()?;
/// assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
/// assert_eq!(response.header("cross-origin-resource-policy"), Some("same-site"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Defences {
    proxies: Option<TrustedProxies>,
    headers: Option<SecurityHeaders>,
    hosts: Option<AllowedHosts>,
    cors: Option<Cors>,
    rate_limit: Option<RateLimit>,
    csrf: Option<CsrfProtection>,
    /// It is meant to be all that the app has.
    is_whole: bool,
}

impl Default for Defences {
    fn default() -> Self {
        Self {
            proxies: None,
            // Without a referrer, browsers of before 2023 send `Origin: null` with the forms of the site itself.
            headers: Some(SecurityHeaders::default().with_referrer_policy(ReferrerPolicy::SameOrigin)),
            hosts: None,
            cors: None,
            rate_limit: None,
            csrf: Some(CsrfProtection::default()),
            is_whole: true,
        }
    }
}

impl Defences {
    /// Security headers and the check of where requests come from.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// No defence at all, to which single ones are added: for a route that has rules of its own inside of the app's.
    ///
    /// ```
    /// use gimmal::defence::{Cors, Defences};
    /// use gimmal::{App, get};
    ///
    /// let public = Cors::builder().any_origin().build()?;
    /// let feed = get(async || "news").with(Defences::none().cors(public));
    /// let app = App::new().route("/feed", feed).with(Defences::new());
    /// # Ok::<(), gimmal::defence::CorsError>(())
    /// ```
    #[must_use]
    pub fn none() -> Self {
        Self { headers: None, csrf: None, is_whole: false, ..Self::default() }
    }

    /// Takes the word of these proxies for who the client is.
    #[must_use]
    pub fn trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.proxies = Some(proxies);
        self
    }

    /// Sets the security headers in place of the default ones.
    #[must_use]
    pub fn security_headers(mut self, headers: SecurityHeaders) -> Self {
        self.headers = Some(headers);
        self
    }

    /// Sets the Content-Security-Policy, and leaves the other security headers as they are.
    ///
    /// ```
    /// use gimmal::defence::{Csp, Defences, Directive, Source};
    /// use gimmal::test::TestServer;
    /// use gimmal::{App, Html};
    ///
    /// // A form of this site leads on to another one.
    /// let policy = Csp::strict().allow(Directive::FormAction, Source::host("https://login.example")?).build()?;
    /// let app = App::new().get("/", async || Html("<!doctype html>")).with(Defences::new().csp(policy));
    ///
    /// let response = TestServer::start(app)?.get("/").send()?;
    /// let policy = response.header("content-security-policy").unwrap();
    /// assert!(policy.contains("form-action 'self' https://login.example;"), "{policy}");
    /// assert_eq!(response.header("referrer-policy"), Some("same-origin"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn csp(mut self, csp: Csp) -> Self {
        self.headers = self.headers.map(|headers| headers.with_csp(csp));
        self
    }

    /// Leaves the security headers out: injected script runs, and any site may frame a page.
    #[must_use]
    pub fn without_security_headers(mut self) -> Self {
        self.headers = None;
        self
    }

    /// Answers for these hosts alone.
    #[must_use]
    pub fn allowed_hosts(mut self, hosts: AllowedHosts) -> Self {
        self.hosts = Some(hosts);
        self
    }

    /// Lets pages of other origins read responses.
    #[must_use]
    pub fn cors(mut self, cors: Cors) -> Self {
        self.cors = Some(cors);
        self
    }

    /// Limits how much a client may ask. For a second limit, add it after the defences with
    /// [`App::with`](crate::App::with).
    #[must_use]
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.rate_limit = Some(limit);
        self
    }

    /// Sets the protection against forged requests in place of the default one.
    #[must_use]
    pub fn csrf(mut self, csrf: CsrfProtection) -> Self {
        self.csrf = Some(csrf);
        self
    }

    /// Leaves the protection against forged requests out: any site may act as a user whom a cookie authenticates.
    #[must_use]
    pub fn without_csrf(mut self) -> Self {
        self.csrf = None;
        self
    }

    pub(crate) fn hosts(&self) -> Option<&AllowedHosts> {
        self.hosts.as_ref()
    }

    fn check(&self) -> Vec<Finding> {
        let finding = |severity, code, what: &str, cure: &str| Finding {
            severity,
            code,
            what: what.to_owned(),
            cure: cure.to_owned(),
        };
        let left_out = [
            (self.is_whole && self.headers.is_none()).then(|| {
                finding(
                    Severity::Warning,
                    "defences.no_security_headers",
                    "no security headers are sent: injected script runs, and any site may frame a page",
                    "remove without_security_headers, and adjust the one header that is in the way",
                )
            }),
            (self.is_whole && self.csrf.is_none()).then(|| {
                finding(
                    Severity::Warning,
                    "defences.no_csrf",
                    "any site may act as a user whom a cookie authenticates",
                    "remove without_csrf, and name the exceptions with OriginCheck::trust or bypass_insecurely",
                )
            }),
            (self.is_whole && self.hosts.is_none()).then(|| {
                finding(
                    Severity::Info,
                    "defences.any_host",
                    "requests are answered whatever host they name, so no link may be built from it",
                    "name the hosts with Defences::allowed_hosts",
                )
            }),
        ];
        let mut findings: Vec<_> = left_out.into_iter().flatten().collect();
        findings.extend(self.proxies.iter().flat_map(TrustedProxies::check));
        findings.extend(self.headers.iter().flat_map(SecurityHeaders::check));
        findings.extend(self.cors.iter().flat_map(Cors::check));
        findings.extend(self.rate_limit.iter().flat_map(RateLimit::check));
        findings.extend(self.csrf.iter().flat_map(CsrfProtection::check));
        findings
    }

    /// What stands after the hosts.
    async fn around_inner(&self, request: Request, rest: impl AsyncFnOnce(Request) -> Response) -> Response {
        let limited = async move |request: Request| self.csrf.around(request, rest).await;
        let shared = async move |request: Request| self.rate_limit.around(request, limited).await;
        self.cors.around(request, shared).await
    }
}

impl Around for Defences {
    async fn around(&self, request: Request, rest: impl AsyncFnOnce(Request) -> Response) -> Response {
        let named = async move |request: Request| self.around_inner(request, rest).await;
        let marked = async move |request: Request| self.hosts.around(request, named).await;
        let identified = async move |request: Request| self.headers.around(request, marked).await;
        self.proxies.around(request, identified).await
    }

    /// Whether a proxy before the server speaks HTTPS is not known where there is no request.
    fn complete(&self, response: &mut Response, is_tls: bool) {
        self.headers.complete(response, is_tls);
    }
}

middleware!(Defences);
