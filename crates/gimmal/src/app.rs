//! What a service consists of: routes, middleware and state.

use std::any::{Any, TypeId, type_name};
use std::rc::Rc;
use std::sync::Arc;

use gimmal_security::Requirement;
use gimmal_security::audit::AuditLog;
use gimmal_security::rbac::Roles;
use http::Method;

use crate::handler::{Handler, MakeHandler};
use crate::middleware::{MakeMiddleware, Middleware};

/// The routes of a service with the middleware around them and the state behind them.
///
/// Patterns are those of [`matchit`]: `/users/{id}` has a parameter, `/files/{*path}` takes the rest of the path.
/// What stands in a pattern outside of its parameters is a path as it is written or with its escapes: `/café`,
/// `/caf%C3%A9` and `/caf%c3%a9` are one, and match what comes in either form. A pattern that no request can match, such as
/// one with a query, keeps the server from starting.
///
/// A GET route answers HEAD too, and every route answers OPTIONS, unless it does so itself. Where no route
/// matches the answer is 404, and 405 with `Allow` where one matches but for the method.
///
/// ```
/// use gimmal::{App, Path};
///
/// let users = App::new().get("/", async || "all").get("/{id}", async |Path(id): Path<u64>| id.to_string());
/// let app = App::new().get("/", async || "Hello, World!").nest("/users", users);
/// ```
#[derive(Default)]
pub struct App {
    pub(crate) routes: Vec<(String, Route)>,
    pub(crate) nested: Vec<(String, App)>,
    /// Where files are served.
    #[cfg(feature = "files")]
    pub(crate) files: Vec<(String, Route)>,
    pub(crate) middleware: Vec<MakeMiddleware>,
    pub(crate) fallback: Option<MakeHandler>,
    pub(crate) body_limit: Option<u64>,
    pub(crate) states: Vec<MakeState>,
    pub(crate) requirements: Vec<Requirement>,
    pub(crate) fallback_requirement: Option<Requirement>,
    pub(crate) roles: Option<Arc<Roles>>,
    pub(crate) audit_log: Option<Arc<AuditLog>>,
    pub(crate) is_denied_by_default: bool,
}

/// Makes a state on each core.
#[derive(Clone)]
pub(crate) struct MakeState {
    pub(crate) of: TypeId,
    pub(crate) name: &'static str,
    pub(crate) make: Arc<dyn Fn() -> Rc<dyn Any> + Send + Sync>,
}

/// The methods in which a route can be asked, and the short name of each.
macro_rules! methods {
    ($($(#[doc = $doc:literal])+ $name:ident $method:ident,)+) => {
        impl App {
            $(
                $(#[doc = $doc])+
                #[must_use]
                pub fn $name<Arguments: 'static>(self, pattern: &str, handler: impl Handler<Arguments>) -> Self {
                    self.route(pattern, $name(handler))
                }
            )+
        }

        impl Route {
            $(
                $(#[doc = $doc])+
                #[must_use]
                pub fn $name<Arguments: 'static>(self, handler: impl Handler<Arguments>) -> Self {
                    self.method(Method::$method, handler)
                }
            )+
        }

        $(
            $(#[doc = $doc])+
            #[must_use]
            pub fn $name<Arguments: 'static>(handler: impl Handler<Arguments>) -> Route {
                Route::default().$name(handler)
            }
        )+
    };
}

methods! {
    /// Answers GET, and HEAD unless that is answered otherwise.
    get GET,
    /// Answers HEAD.
    head HEAD,
    /// Answers POST.
    post POST,
    /// Answers PUT.
    put PUT,
    /// Answers PATCH.
    patch PATCH,
    /// Answers DELETE.
    delete DELETE,
    /// Answers OPTIONS in place of the answer that every route gives by itself.
    options OPTIONS,
    /// Answers CONNECT (RFC 9110, section 9.3.6), whose target is a host and a port: its pattern is `/`. Nothing else
    /// answers CONNECT: neither `any` nor a fallback means to open a tunnel.
    connect CONNECT,
}

/// Answers every method that is not answered otherwise, but for CONNECT.
#[must_use]
pub fn any<Arguments: 'static>(handler: impl Handler<Arguments>) -> Route {
    Route::default().any(handler)
}

impl App {
    /// An app that answers everything with 404.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the handlers of `route` under `pattern`.
    ///
    /// ```
    /// use gimmal::{App, get};
    /// let app = App::new().route("/x", get(async || "got").post(async || "posted").body_limit(1 << 20));
    /// ```
    #[must_use]
    pub fn route(mut self, pattern: &str, route: Route) -> Self {
        self.routes.push((pattern.to_owned(), route));
        self
    }

    /// Answers every method that is not answered otherwise, but for CONNECT.
    #[must_use]
    pub fn any<Arguments: 'static>(self, pattern: &str, handler: impl Handler<Arguments>) -> Self {
        self.route(pattern, any(handler))
    }

    /// Puts an app under a path, with its own middleware around its routes, inside of this app's.
    #[must_use]
    pub fn nest(mut self, prefix: &str, app: App) -> Self {
        self.nested.push((prefix.to_owned(), app));
        self
    }

    /// Answers what no route matches, in place of the 404. In an app that is nested, it answers below the prefix.
    #[must_use]
    pub fn fallback<Arguments: 'static>(mut self, handler: impl Handler<Arguments>) -> Self {
        self.fallback = Some(MakeHandler::new(handler));
        self
    }

    /// Adds middleware around all routes of this app, whether they are added before or after it, and around its
    /// 404 and 405. What is added first runs first.
    #[must_use]
    pub fn with(mut self, middleware: impl Middleware) -> Self {
        self.middleware.push(MakeMiddleware::new(middleware));
        self
    }

    /// Bytes that the body of a request may have, for all routes that do not say otherwise. Without it, the
    /// server's [`Limits::body_bytes`](crate::Limits::body_bytes).
    #[must_use]
    pub fn body_limit(mut self, bytes: u64) -> Self {
        self.body_limit = Some(bytes);
        self
    }

    /// Gives all handlers a value, to be had as [`State<T>`](crate::State). It is cloned once for each core: what
    /// is to be shared between cores goes into an `Arc`.
    #[must_use]
    pub fn state<T: Clone + Send + Sync + 'static>(self, value: T) -> Self {
        self.state_per_core(move || value.clone())
    }

    /// Gives the handlers of each core a value of their own, which need not be `Send`: a cache, or a connection
    /// that no other core shares. `make` runs on each core when the server starts.
    #[must_use]
    pub fn state_per_core<T: 'static>(mut self, make: impl Fn() -> T + Send + Sync + 'static) -> Self {
        self.states.push(MakeState {
            of: TypeId::of::<T>(),
            name: type_name::<T>(),
            make: Arc::new(move || Rc::new(make())),
        });
        self
    }

    /// Lets nobody at any route of this app, nor at its fallback, who does not meet a requirement. What a route or a
    /// nested app requires comes on top of it, and so does what is required by a second call.
    ///
    /// ```
    /// use gimmal::App;
    /// use gimmal::auth::Requirement;
    ///
    /// let staff = App::new().get("/", async || "staff only").require(Requirement::Authenticated);
    /// let app = App::new().get("/", async || "everybody").nest("/staff", staff);
    /// ```
    #[must_use]
    pub fn require(mut self, requirement: Requirement) -> Self {
        self.requirements.push(requirement);
        self
    }

    /// What the [fallback](Self::fallback) requires, on top of what the app does.
    #[must_use]
    pub fn require_for_fallback(mut self, requirement: Requirement) -> Self {
        self.fallback_requirement = Some(requirement);
        self
    }

    /// The roles and permissions that requirements name. A requirement that names another one keeps the server from
    /// starting. Handlers have it as `State<Arc<Roles>>`.
    #[must_use]
    pub fn roles(mut self, roles: Roles) -> Self {
        let roles = Arc::new(roles);
        self.roles = Some(Arc::clone(&roles));
        self.state(roles)
    }

    /// Records what bears on security in this log: see [`audit`](crate::audit).
    ///
    /// ```no_run
    /// use gimmal::App;
    /// use gimmal::audit::AuditLog;
    ///
    /// let app = App::new().audit_log(AuditLog::open("audit.jsonl", None)?);
    /// # Ok::<(), gimmal::audit::AuditOpenError>(())
    /// ```
    #[must_use]
    pub fn audit_log(mut self, log: impl Into<Arc<AuditLog>>) -> Self {
        let log = log.into();
        self.audit_log = Some(Arc::clone(&log));
        self.state(log)
    }

    /// Makes a route without a guard an error at start, in this app and in all that are nested in it. A route that is
    /// open to everybody has to say so, with [`Requirement::Public`].
    ///
    /// ```
    /// use gimmal::auth::Requirement;
    /// use gimmal::test::TestClient;
    /// use gimmal::{App, AppError, get};
    ///
    /// let app = App::new().deny_by_default().route("/", get(async || "open").require(Requirement::Public));
    /// assert!(matches!(
    ///     TestClient::new(app.get("/forgotten", async || "open to everybody")),
    ///     Err(AppError::Unguarded { pattern, .. }) if pattern == "/forgotten"
    /// ));
    /// ```
    #[must_use]
    pub fn deny_by_default(mut self) -> Self {
        self.is_denied_by_default = true;
        self
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("routes", &self.routes.iter().map(|(pattern, _)| pattern).collect::<Vec<_>>())
            .field("nested", &self.nested)
            .finish_non_exhaustive()
    }
}

/// What answers on one pattern: a handler for each method, and the middleware around them. Begun with [`get`],
/// [`post`] and their like.
#[derive(Clone, Default)]
pub struct Route {
    /// `None` stands for every method that is not named.
    pub(crate) handlers: Vec<(Option<Method>, MakeHandler)>,
    pub(crate) middleware: Vec<MakeMiddleware>,
    pub(crate) body_limit: Option<u64>,
    pub(crate) replay_safe: bool,
    pub(crate) requirements: Vec<Requirement>,
}

impl Route {
    fn method<Arguments: 'static>(mut self, method: Method, handler: impl Handler<Arguments>) -> Self {
        self.handlers.push((Some(method), MakeHandler::new(handler)));
        self
    }

    /// Answers every method that is not answered otherwise, but for CONNECT.
    #[must_use]
    pub fn any<Arguments: 'static>(mut self, handler: impl Handler<Arguments>) -> Self {
        self.handlers.push((None, MakeHandler::new(handler)));
        self
    }

    /// Adds middleware around the handlers of this route, inside of the app's.
    #[must_use]
    pub fn with(mut self, middleware: impl Middleware) -> Self {
        self.middleware.push(MakeMiddleware::new(middleware));
        self
    }

    /// Says that it does no harm to answer the same request twice. Only such a route answers what comes as early data
    /// of TLS (0-RTT), where early data is accepted at all: whoever has seen it can send it again. Others answer it
    /// with 425 (RFC 8470, section 5.2), after which a client sends it as usual.
    #[must_use]
    pub fn replay_safe(mut self) -> Self {
        self.replay_safe = true;
        self
    }

    /// Bytes that the body of a request may have; `u64::MAX` for a handler that streams without end.
    #[must_use]
    pub fn body_limit(mut self, bytes: u64) -> Self {
        self.body_limit = Some(bytes);
        self
    }

    /// Lets nobody at the handlers of this route who does not meet a requirement, and none of those that it and its app
    /// require besides. It is checked last before the handler, inside of all middleware.
    ///
    /// ```
    /// use gimmal::auth::Requirement;
    /// use gimmal::{App, get};
    ///
    /// let app = App::new().route("/reports", get(async || "...").require(Requirement::scope("reports:read")));
    /// ```
    #[must_use]
    pub fn require(mut self, requirement: Requirement) -> Self {
        self.requirements.push(requirement);
        self
    }
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.handlers.iter().map(|(method, _)| method)).finish()
    }
}
