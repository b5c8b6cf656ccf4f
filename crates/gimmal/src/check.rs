//! What is unsafe in the configuration of a server, said before it starts.

use std::any::TypeId;

use gimmal_runtime::Address;
use gimmal_security::audit::AuditEvent;
use gimmal_security::forwarded::TrustedProxies;
use gimmal_security::tls::Exposure;
use gimmal_security::{Finding, Severity};

#[cfg(feature = "acme")]
use crate::acme::Acme;
use crate::app::App;
use crate::audit::record_of_server;
use crate::clock::unix_seconds;
use crate::defence::Defences;
use crate::middleware::MakeMiddleware;
use crate::redirect::RedirectHosts;
use crate::server::{Binding, Protocol, Server, ServerError};

/// A body that is this long in memory, some hundred times over, is more than most hosts have.
const BODY_BYTES_LARGE: u64 = 256 << 20;

impl Server {
    /// What is unsafe in the configuration, or worth knowing, each with its cure; the worst first.
    ///
    /// A server logs it when it starts, and refuses to start with a [`Severity::Danger`] that was not accepted by its
    /// code, with [`accept_danger`](Self::accept_danger).
    ///
    /// ```
    /// use gimmal::{App, Server, Severity};
    ///
    /// let findings = Server::new(App::new()).bind("0.0.0.0:80").check();
    /// assert_eq!((findings[0].code, findings[0].severity), ("server.plain_http", Severity::Warning));
    /// ```
    #[must_use]
    pub fn check(&self) -> Vec<Finding> {
        let mut findings: Vec<_> = self.bindings.iter().flat_map(check_binding).collect();
        findings.extend(self.check_redirects());
        #[cfg(feature = "acme")]
        findings.extend(self.check_acme());
        findings.extend(self.check_limits());
        findings.extend(self.check_middleware());
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        findings
    }

    fn check_redirects(&self) -> Option<Finding> {
        let redirects = |binding: &Binding| matches!(binding.protocol, Protocol::RedirectToHttps(_));
        let is_open = self.bindings.iter().any(redirects)
            && matches!(RedirectHosts::of(&self.app, &self.bindings), RedirectHosts::Any);
        is_open.then(|| Finding {
            severity: Severity::Danger,
            code: "server.redirect_to_any_host",
            what: "clients are sent to HTTPS at whatever host a request names: a cache can be made to send others there"
                .to_owned(),
            cure: "name the hosts with Defences::allowed_hosts around the app, or serve HTTPS with Server::bind_tls"
                .to_owned(),
        })
    }

    #[cfg(feature = "acme")]
    fn check_acme(&self) -> Vec<Finding> {
        let finding = |names: String| Finding {
            severity: Severity::Warning,
            code: "server.acme_without_http",
            what: format!(
                "the certificate for {names} is never issued: HTTP-01 is asked for by plain HTTP on port 80"
            ),
            cure: "add Server::redirect_to_https, or leave AcmeConfig::challenge out".to_owned(),
        };
        Acme::of(&self.bindings).unanswerable().map(finding).collect()
    }

    fn check_middleware(&self) -> Vec<Finding> {
        let mut all = Vec::new();
        collect_middleware(&self.app, &mut all);
        let mut findings: Vec<Finding> = Vec::new();
        for finding in all.iter().flat_map(|middleware| middleware.findings.iter()) {
            // One middleware may stand around many routes.
            if !findings.contains(finding) {
                findings.push(finding.clone());
            }
        }
        let defends = |middleware: &&MakeMiddleware| middleware.of == TypeId::of::<Defences>();
        let faces_network =
            |binding: &Binding| matches!(binding.protocol, Protocol::Http) && !is_local(binding);
        if self.bindings.iter().any(faces_network) && !all.iter().any(defends) {
            findings.push(Finding {
                severity: Severity::Info,
                code: "server.no_security_headers",
                what: "no response has security headers: browsers run injected script, and any site may frame a page"
                    .to_owned(),
                cure: "put App::with(Defences::new()) around the app".to_owned(),
            });
        }
        findings
    }

    fn check_limits(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut add = |code, what: &str, cure: &str| {
            let (what, cure) = (what.to_owned(), cure.to_owned());
            findings.push(Finding { severity: Severity::Warning, code, what, cure });
        };
        let config = &self.config;
        if config.timeouts.rate_min_bytes == 0 {
            add(
                "server.no_minimum_rate",
                "a client may be as slow as it likes, and hold a connection for ever",
                "set Timeouts::rate_min_bytes",
            );
        }
        if config.limits.body_bytes > BODY_BYTES_LARGE {
            add(
                "server.large_bodies",
                "every route accepts bodies of more than 256 MiB, which a handler may hold in memory",
                "lower Limits::body_bytes, and raise the limit of the routes that need it with Route::body_limit",
            );
        }
        findings
    }

    /// Logs what was found, and refuses to go on where that is too dangerous.
    pub(crate) fn refuse_dangers(&self) -> Result<(), ServerError> {
        let mut dangers = Vec::new();
        let log = self.app.audit_log.as_ref();
        for finding in self.check() {
            record_of_server(log, AuditEvent::ConfigurationFinding { finding: &finding });
            let Finding { severity, code, what, cure } = &finding;
            let accepted = self.accepted_dangers.iter().any(|accepted| accepted == code);
            match severity {
                Severity::Info => tracing::info!(code, cure, "{what}"),
                Severity::Warning => tracing::warn!(code, cure, "{what}"),
                Severity::Danger if accepted => tracing::warn!(code, cure, accepted, "{what}"),
                Severity::Danger => dangers.push(finding),
            }
        }
        if dangers.is_empty() { Ok(()) } else { Err(ServerError::Unsafe(dangers)) }
    }
}

/// The middleware around an app, around its routes, and around what is nested in it.
fn collect_middleware<'a>(app: &'a App, all: &mut Vec<&'a MakeMiddleware>) {
    all.extend(&app.middleware);
    all.extend(app.routes.iter().flat_map(|(_, route)| &route.middleware));
    app.nested.iter().for_each(|(_, nested)| collect_middleware(nested, all));
}

fn is_local(binding: &Binding) -> bool {
    // An address that is malformed is an error of its own soon.
    binding.address.parse::<Address>().is_ok_and(|address| address.is_local())
}

fn check_binding(binding: &Binding) -> Vec<Finding> {
    let local = is_local(binding);
    let mut findings: Vec<_> = binding.proxies.iter().flat_map(TrustedProxies::check).collect();
    findings.extend(match (&binding.tls, &binding.protocol) {
        (Some(tls), _) => {
            let exposure = if local { Exposure::Loopback } else { Exposure::Network };
            tls.check(exposure, unix_seconds())
        }
        (None, Protocol::Http) if !local => vec![Finding {
            severity: Severity::Warning,
            code: "server.plain_http",
            what: format!(
                "{} speaks plain HTTP to the network: anybody on the way can read and change it",
                binding.address
            ),
            cure: "serve it with Server::bind_tls, or let only a proxy that speaks HTTPS reach it".to_owned(),
        }],
        (None, Protocol::Tcp(_)) if !local => vec![Finding {
            severity: Severity::Info,
            code: "server.plain_tcp",
            what: format!("{} speaks to the network without encryption", binding.address),
            cure: "serve it with Server::tcp_tls, unless the service encrypts by itself".to_owned(),
        }],
        (None, _) => Vec::new(),
    });
    findings
}
