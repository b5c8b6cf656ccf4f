//! From an [`App`] to what finds the handler of a request.
//!
//! A [`Blueprint`] is checked once, when a server starts, and shared by all cores. Each core makes its own
//! [`Router`] of it, so that nothing that is counted on the way of a request is shared between cores.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use gimmal_runtime::LocalFuture;
use gimmal_security::rbac::Roles;
#[cfg(feature = "acme")]
use gimmal_security::tls::acme::HttpChallenges;
use gimmal_security::{Requirement, RequirementError};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};

use crate::app::{App, MakeState, Route};
use crate::auth::{Guard, NO_ROLES, Sessions};
use crate::exact_paths::ExactPaths;
use crate::handler::{DynHandler, MakeHandler};
use crate::middleware::{DynMiddleware, MakeMiddleware, Next};
use crate::pattern::normalize_pattern;
use crate::request::{Head, Parameter, Request, normalize_path};
use crate::response::Response;

/// Why an app cannot be served. Found when the server starts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// A pattern that no request can match, such as one with a query, or that the router refuses.
    #[error("the route {pattern:?} is malformed: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two handlers for the same method and pattern.
    #[error("the route {pattern:?} has two handlers for {method}; remove one of them")]
    Duplicate {
        /// The pattern.
        pattern: String,
        /// The method, or `any`.
        method: String,
    },
    /// A handler takes a [`State`](crate::State) that the app was not given.
    #[error("a handler of {pattern:?} takes State<{state}>: give it to the app with App::state")]
    StateMissing {
        /// The pattern of the handler.
        pattern: String,
        /// The type.
        state: &'static str,
    },
    /// A route without a guard in an app that is [denied by default](App::deny_by_default).
    #[error(
        "nothing guards {pattern:?}, in an app that is denied by default: say what it requires with Route::require or \
         App::require, be it Requirement::Public"
    )]
    Unguarded {
        /// The pattern of the route.
        pattern: String,
    },
    /// A guard, or a handler that takes a [`Principal`](crate::auth::Principal), where nothing finds out who asks: it
    /// would refuse everybody.
    #[error(
        "{pattern:?} requires {requirement}, and nothing around it finds out who asks: add auth::Authenticator or \
         auth::Sessions with App::with, or say of middleware of your own that it does with auth::Authenticates"
    )]
    NobodyAuthenticates {
        /// The pattern of the route.
        pattern: String,
        /// What it requires.
        requirement: Requirement,
    },
    /// A handler takes a [`Session`](crate::auth::Session) or [`Login`](crate::auth::Login) where there are no sessions.
    #[error("a handler of {pattern:?} takes a Session: add auth::Sessions with App::with")]
    SessionsMissing {
        /// The pattern of the handler.
        pattern: String,
    },
    /// A guard that nobody can pass, or that names a role or a permission that the app does not know.
    #[error("the guard of {pattern:?} is of no use: {error}. Roles and permissions are told with App::roles")]
    Guard {
        /// The pattern of the route.
        pattern: String,
        /// What is wrong with it.
        error: RequirementError,
    },
}

/// An app that was checked.
pub(crate) struct Blueprint {
    matcher: matchit::Router<usize>,
    /// The routes that answer on one path alone. The matcher prefers them as well, but takes longer.
    exact: ExactPaths,
    routes: Vec<RoutePlan>,
    /// What answers where no route matches: of the app itself, which is the first, and of each that is nested in it.
    fallbacks: Vec<Fallback>,
    states: Vec<MakeState>,
    roles: Option<Arc<Roles>>,
}

/// All that answers on one pattern.
struct RoutePlan {
    pattern: String,
    endpoints: Vec<EndpointPlan>,
}

struct Fallback {
    /// Where the app is nested, without a slash at its end.
    prefix: String,
    endpoint: EndpointPlan,
}

impl Fallback {
    fn answers(&self, path: &str) -> bool {
        let mut segments = path.split('/');
        self.prefix.split('/').all(|own| segments.next().is_some_and(|segment| is_segment(own, segment)))
    }

    /// The innermost comes first, and a path before a parameter.
    fn rank(&self) -> (usize, usize) {
        let segments = self.prefix.split('/');
        (segments.clone().count(), segments.filter(|segment| !segment.contains('{')).count())
    }
}

/// Whether a segment of a path has the form of a pattern's, which may hold a parameter.
fn is_segment(pattern: &str, segment: &str) -> bool {
    let Some((before, parameter)) = pattern.split_once('{') else { return pattern == segment };
    let (_, after) = parameter.rsplit_once('}').unwrap_or_default();
    let rest = segment.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    rest.is_some_and(|value| !value.is_empty())
}

struct EndpointPlan {
    /// `None` stands for every method that is not named.
    method: Option<Method>,
    handler: MakeHandler,
    middleware: Vec<MakeMiddleware>,
    body_limit: Option<u64>,
    replay_safe: bool,
    requirements: Vec<Requirement>,
}

impl EndpointPlan {
    /// An answer of the router's own.
    fn own(handler: MakeHandler, around: &[MakeMiddleware]) -> Self {
        Self {
            method: None,
            handler,
            middleware: around.to_vec(),
            body_limit: None,
            replay_safe: true,
            requirements: Vec::new(),
        }
    }

    /// Adds the guards, innermost, once they are checked.
    fn guard(&mut self, pattern: &str, roles: &Arc<Roles>) -> Result<(), AppError> {
        let checked = self.requirements.iter().try_for_each(|requirement| requirement.check(roles));
        checked.map_err(|error| AppError::Guard { pattern: pattern.to_owned(), error })?;
        self.check_authentication(pattern, roles)?;
        for requirement in std::mem::take(&mut self.requirements) {
            if requirement != Requirement::Public {
                self.middleware.push(MakeMiddleware::new(Guard::new(requirement, roles)));
            }
        }
        Ok(())
    }

    /// Whoever has to be known to the guards or the handler has to be found out by something.
    fn check_authentication(&self, pattern: &str, roles: &Arc<Roles>) -> Result<(), AppError> {
        if self.handler.needs.sessions
            && !self.middleware.iter().any(|around| around.of == TypeId::of::<Sessions>())
        {
            return Err(AppError::SessionsMissing { pattern: pattern.to_owned() });
        }
        let handler = self.handler.needs.principal.then_some(&Requirement::Authenticated);
        let required = self.requirements.iter().chain(handler);
        let of_somebody = required.into_iter().find(|requirement| requirement.evaluate(None, roles).is_err());
        match of_somebody {
            Some(requirement) if !self.middleware.iter().any(|around| around.authenticates) => {
                let (pattern, requirement) = (pattern.to_owned(), requirement.clone());
                Err(AppError::NobodyAuthenticates { pattern, requirement })
            }
            _ => Ok(()),
        }
    }
}

/// What an app hands down to its routes, and to the apps that are nested in it.
#[derive(Clone)]
struct Inherited {
    middleware: Vec<MakeMiddleware>,
    body_limit: Option<u64>,
    fallback: MakeHandler,
    requirements: Vec<Requirement>,
    is_denied_by_default: bool,
}

impl Inherited {
    fn nothing() -> Self {
        Self {
            middleware: Vec::new(),
            body_limit: None,
            fallback: MakeHandler::new(async || StatusCode::NOT_FOUND),
            requirements: Vec::new(),
            is_denied_by_default: false,
        }
    }

    fn with(mut self, app: &App) -> Self {
        self.middleware.extend_from_slice(&app.middleware);
        self.body_limit = app.body_limit.or(self.body_limit);
        if let Some(fallback) = &app.fallback {
            self.fallback = fallback.clone();
        }
        self.requirements.extend_from_slice(&app.requirements);
        self.is_denied_by_default |= app.is_denied_by_default;
        self
    }
}

impl Blueprint {
    pub(crate) fn new(app: App) -> Result<Self, AppError> {
        let mut blueprint = Self {
            matcher: matchit::Router::new(),
            exact: ExactPaths::default(),
            routes: Vec::new(),
            fallbacks: Vec::new(),
            states: Vec::new(),
            roles: None,
        };
        blueprint.add("", app, &Inherited::nothing())?;
        blueprint.guard()?;
        blueprint.check_states()?;
        for index in 0..blueprint.routes.len() {
            blueprint.match_route(index)?;
        }
        Ok(blueprint)
    }

    fn match_route(&mut self, index: usize) -> Result<(), AppError> {
        let pattern = &self.routes[index].pattern;
        let refused = |error: matchit::InsertError| AppError::Pattern {
            pattern: pattern.clone(),
            reason: error.to_string(),
        };
        self.matcher.insert(pattern, index).map_err(refused)?;
        // Those with parameters are no paths. Those with escapes come in several forms.
        if !pattern.contains(['{', '}', '%']) {
            self.exact.insert(pattern.as_bytes(), index);
        }
        Ok(())
    }

    /// Answers what ACME servers ask by HTTP (RFC 8555, section 8.3), outside of all that the app has around its routes.
    #[cfg(feature = "acme")]
    pub(crate) fn answering(mut self, challenges: Option<&HttpChallenges>) -> Result<Self, AppError> {
        let Some(challenges) = challenges.cloned() else { return Ok(self) };
        let answer = async move |request: Request| {
            let octets = [(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))];
            challenges.respond(request.path()).map(|answer| (octets, answer)).ok_or(StatusCode::NOT_FOUND)
        };
        let get =
            EndpointPlan { method: Some(Method::GET), ..EndpointPlan::own(MakeHandler::new(answer), &[]) };
        let pattern = "/.well-known/acme-challenge/{token}".to_owned();
        self.routes.push(RoutePlan { pattern, endpoints: vec![get] });
        self.match_route(self.routes.len() - 1)?;
        Ok(self)
    }

    fn add(&mut self, prefix: &str, app: App, outer: &Inherited) -> Result<(), AppError> {
        let inherited = outer.clone().with(&app);
        let own_fallback = app.fallback.is_some();
        let mut requirements = inherited.requirements.clone();
        requirements.extend(app.fallback_requirement);
        if own_fallback && inherited.is_denied_by_default && requirements.is_empty() {
            return Err(AppError::Unguarded { pattern: format!("{prefix}/ (the fallback)") });
        }
        let endpoint = EndpointPlan {
            method: None,
            handler: inherited.fallback.clone(),
            middleware: inherited.middleware.clone(),
            body_limit: inherited.body_limit,
            replay_safe: false,
            requirements,
        };
        self.fallbacks.push(Fallback { prefix: prefix.to_owned(), endpoint });
        for (pattern, route) in app.routes {
            let pattern = normalized(&pattern)?;
            // `nest("/users", ...)` with a route "/" answers on "/users".
            let pattern = if pattern == "/" && !prefix.is_empty() {
                prefix.to_owned()
            } else {
                format!("{prefix}{pattern}")
            };
            self.add_route(pattern, route, &inherited)?;
        }
        #[cfg(feature = "files")]
        for (mount, route) in app.files {
            let mount = normalized(&mount)?;
            let folder = format!("{prefix}{}", mount.trim_end_matches('/'));
            for pattern in [folder.clone(), format!("{folder}/"), format!("{folder}/{{*path}}")] {
                // A route of the app's own comes before a file.
                if !pattern.is_empty() && self.routes.iter().all(|known| known.pattern != pattern) {
                    self.add_route(pattern, route.clone(), &inherited)?;
                }
            }
        }
        for (inner, app) in app.nested {
            let inner = normalized(&inner)?;
            self.add(&format!("{prefix}{}", inner.trim_end_matches('/')), app, &inherited)?;
        }
        self.states.extend(app.states);
        self.roles = app.roles.or(self.roles.take());
        Ok(())
    }

    fn add_route(&mut self, pattern: String, route: Route, outer: &Inherited) -> Result<(), AppError> {
        let middleware: Vec<_> = outer.middleware.iter().chain(&route.middleware).cloned().collect();
        let requirements: Vec<_> = outer.requirements.iter().chain(&route.requirements).cloned().collect();
        if outer.is_denied_by_default && requirements.is_empty() {
            return Err(AppError::Unguarded { pattern });
        }
        let known = self.routes.iter().position(|known| known.pattern == pattern);
        let index = known.unwrap_or_else(|| {
            self.routes.push(RoutePlan { pattern: pattern.clone(), endpoints: Vec::new() });
            self.routes.len() - 1
        });
        let plan = &mut self.routes[index];
        for (method, handler) in route.handlers {
            if plan.endpoints.iter().any(|endpoint| endpoint.method == method) {
                let method = method.map_or_else(|| "any".to_owned(), |method| method.to_string());
                return Err(AppError::Duplicate { pattern, method });
            }
            plan.endpoints.push(EndpointPlan {
                method,
                handler,
                middleware: middleware.clone(),
                body_limit: route.body_limit.or(outer.body_limit),
                replay_safe: route.replay_safe,
                requirements: requirements.clone(),
            });
        }
        Ok(())
    }

    /// Puts the guards in their places, now that all roles are known.
    fn guard(&mut self) -> Result<(), AppError> {
        let roles = Arc::clone(self.roles.as_ref().unwrap_or(&NO_ROLES));
        for route in &mut self.routes {
            for endpoint in &mut route.endpoints {
                endpoint.guard(&route.pattern, &roles)?;
            }
        }
        for fallback in &mut self.fallbacks {
            fallback.endpoint.guard(&format!("{}/ (the fallback)", fallback.prefix), &roles)?;
        }
        Ok(())
    }

    fn check_states(&self) -> Result<(), AppError> {
        let handlers = self.routes.iter().flat_map(|route| {
            route.endpoints.iter().map(|endpoint| (route.pattern.as_str(), &endpoint.handler))
        });
        let fallbacks = self.fallbacks.iter().map(|fallback| ("the fallback", &fallback.endpoint.handler));
        for (pattern, handler) in handlers.chain(fallbacks) {
            for (of, name) in handler.needs.states() {
                if !self.states.iter().any(|state| state.of == *of) {
                    return Err(AppError::StateMissing { pattern: pattern.to_owned(), state: name });
                }
            }
        }
        Ok(())
    }
}

fn normalized(pattern: &str) -> Result<String, AppError> {
    normalize_pattern(pattern)
        .map_err(|error| AppError::Pattern { pattern: pattern.to_owned(), reason: error.to_string() })
}

impl fmt::Debug for Blueprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let states: Vec<_> = self.states.iter().map(|state| state.name).collect();
        f.debug_struct("Blueprint").field("states", &states).finish_non_exhaustive()
    }
}

/// A handler with all that is around it, on one core.
pub(crate) struct Endpoint {
    pub(crate) handler: Rc<dyn DynHandler>,
    pub(crate) middleware: Box<[Rc<dyn DynMiddleware>]>,
    pub(crate) body_limit: Option<u64>,
    pub(crate) replay_safe: bool,
    pattern: Option<Rc<str>>,
    parameter_names: Rc<[Box<str>]>,
}

impl Endpoint {
    fn new(plan: &EndpointPlan, names: Option<&Names>) -> Rc<Self> {
        Rc::new(Self {
            handler: plan.handler.make(),
            middleware: plan.middleware.iter().map(MakeMiddleware::make).collect(),
            body_limit: plan.body_limit,
            replay_safe: plan.replay_safe,
            pattern: names.map(|names| Rc::clone(&names.pattern)),
            parameter_names: names.map_or_else(Rc::default, |names| Rc::clone(&names.parameters)),
        })
    }

    pub(crate) fn pattern(&self) -> Option<&str> {
        self.pattern.as_deref()
    }

    pub(crate) fn parameter_names(&self) -> &[Box<str>] {
        &self.parameter_names
    }

    /// Adds what the middleware has every response have to one that came by no way through it.
    pub(crate) fn complete(&self, response: &mut Response, is_tls: bool) {
        for middleware in self.middleware.iter().rev() {
            middleware.complete(response, is_tls);
        }
    }

    /// Answers a request, through the middleware if there is any.
    pub(crate) fn call(self: &Rc<Self>, request: Request) -> LocalFuture<Response> {
        if self.middleware.is_empty() {
            Rc::clone(&self.handler).call(request)
        } else {
            Next::new(Rc::clone(self)).run(request)
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("pattern", &self.pattern).finish_non_exhaustive()
    }
}

struct Names {
    pattern: Rc<str>,
    parameters: Rc<[Box<str>]>,
}

impl Names {
    fn of(pattern: &str) -> Self {
        let parameters = pattern.split('{').skip(1).filter_map(|rest| {
            let name = rest.split('}').next()?.trim_start_matches('*');
            (!name.is_empty()).then(|| name.into())
        });
        Self { pattern: pattern.into(), parameters: parameters.collect() }
    }
}

/// The methods that have a place of their own.
const METHODS: [Method; 8] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
    Method::CONNECT,
];

fn place(method: &Method) -> Option<usize> {
    METHODS.iter().position(|known| known == method)
}

/// A route on one core: for each method what answers it, be it only that it is not allowed.
struct CoreRoute {
    endpoints: [Rc<Endpoint>; METHODS.len()],
    /// For every other method.
    other: Rc<Endpoint>,
}

impl CoreRoute {
    fn new(plan: &RoutePlan) -> Self {
        let names = Names::of(&plan.pattern);
        let make = |endpoint: &EndpointPlan| Endpoint::new(endpoint, Some(&names));
        let mut given: [Option<Rc<Endpoint>>; METHODS.len()] = Default::default();
        let mut any = None;
        for endpoint in &plan.endpoints {
            match &endpoint.method {
                Some(method) => {
                    if let Some(place) = place(method) {
                        given[place] = Some(make(endpoint));
                    }
                }
                None => any = Some(make(endpoint)),
            }
        }
        let [get, head, ..] = &mut given;
        if head.is_none() {
            head.clone_from(get);
        }
        // What the router answers itself is inside of the same middleware as the route's own handlers.
        let around = plan.endpoints.first().map_or(&[][..], |endpoint| &endpoint.middleware);
        let allow = allow(&given, any.is_some());
        let own = |status: StatusCode| {
            let allow = allow.clone();
            let handler = MakeHandler::new(async move || ([(header::ALLOW, allow.clone())], status));
            make(&EndpointPlan::own(handler, around))
        };
        let (not_allowed, options) = (own(StatusCode::METHOD_NOT_ALLOWED), own(StatusCode::NO_CONTENT));
        let endpoints = std::array::from_fn(|index| {
            let automatic = match METHODS[index] {
                Method::OPTIONS => any.as_ref().unwrap_or(&options),
                // Who answers any method does not mean to open a tunnel (RFC 9110, section 9.3.6).
                Method::CONNECT => &not_allowed,
                _ => any.as_ref().unwrap_or(&not_allowed),
            };
            Rc::clone(given[index].as_ref().unwrap_or(automatic))
        });
        Self { endpoints, other: any.unwrap_or(not_allowed) }
    }

    fn endpoint(&self, method: &Method) -> &Rc<Endpoint> {
        place(method).map_or(&self.other, |place| &self.endpoints[place])
    }
}

/// The value of `Allow` (RFC 9110, section 10.2.1).
fn allow(given: &[Option<Rc<Endpoint>>], is_any: bool) -> HeaderValue {
    let mut names = String::new();
    for (method, endpoint) in METHODS.iter().zip(given) {
        let is_any = is_any && *method != Method::CONNECT;
        if endpoint.is_some() || is_any || *method == Method::OPTIONS {
            if !names.is_empty() {
                names.push_str(", ");
            }
            names.push_str(method.as_str());
        }
    }
    HeaderValue::try_from(names).expect("method names are tokens")
}

/// Finds the handler of a request, on one core.
pub(crate) struct Router {
    blueprint: Arc<Blueprint>,
    routes: Vec<CoreRoute>,
    /// In the order of the blueprint's.
    fallbacks: Vec<Rc<Endpoint>>,
    /// For `OPTIONS *`.
    asterisk: Rc<Endpoint>,
    /// For CONNECT where no route at `/` answers it.
    no_tunnel: Rc<Endpoint>,
    /// For what came as early data of TLS to a route that is not safe to replay (RFC 8470, section 5.2).
    too_early: Rc<Endpoint>,
    states: HashMap<TypeId, Rc<dyn Any>>,
}

impl Router {
    pub(crate) fn new(blueprint: &Arc<Blueprint>) -> Self {
        let around = &blueprint.fallbacks[0].endpoint.middleware;
        let own = |status: StatusCode, around: &[MakeMiddleware]| {
            let handler = MakeHandler::new(async move || status);
            Endpoint::new(&EndpointPlan::own(handler, around), None)
        };
        Self {
            blueprint: Arc::clone(blueprint),
            routes: blueprint.routes.iter().map(CoreRoute::new).collect(),
            fallbacks: blueprint
                .fallbacks
                .iter()
                .map(|fallback| Endpoint::new(&fallback.endpoint, None))
                .collect(),
            asterisk: own(StatusCode::NO_CONTENT, around),
            no_tunnel: Endpoint::new(&EndpointPlan::own(MakeHandler::new(refuse_tunnel), around), None),
            // Not even middleware sees it.
            too_early: own(StatusCode::TOO_EARLY, &[]),
            states: blueprint.states.iter().map(|state| (state.of, (state.make)())).collect(),
        }
    }

    pub(crate) fn state<T: 'static>(&self) -> Option<Rc<T>> {
        Rc::clone(self.states.get(&TypeId::of::<T>())?).downcast().ok()
    }

    /// Whether it is the answer to what came too early, which no middleware stands around.
    pub(crate) fn is_too_early(&self, endpoint: &Rc<Endpoint>) -> bool {
        Rc::ptr_eq(endpoint, &self.too_early)
    }

    /// What answers where no route does, with the middleware of the app itself around it.
    pub(crate) fn root(&self) -> &Endpoint {
        &self.fallbacks[0]
    }

    /// Finds what answers a request, and notes the parameters of its path. `is_early` says that it may be a replay.
    pub(crate) fn find(&self, head: &mut Head, is_early: bool) -> &Rc<Endpoint> {
        let endpoint = self.find_route(head);
        if is_early && !endpoint.replay_safe { &self.too_early } else { endpoint }
    }

    fn find_route(&self, head: &mut Head) -> &Rc<Endpoint> {
        let Head { parsed, bytes, normalized, parameters } = head;
        let view = parsed.view(bytes);
        if let Some(index) = self.blueprint.exact.get(view.path_bytes()) {
            return self.routes[index].endpoint(view.method());
        }
        let sent = view.path();
        *normalized = normalize_path(sent);
        let path = match normalized {
            Some(path) => path.as_str(),
            // The target of CONNECT has no path.
            None if sent.is_empty() => "/",
            None => sent,
        };
        match self.blueprint.matcher.at(path) {
            Ok(matched) => {
                parameters.extend(matched.params.iter().map(|(_, value)| Parameter {
                    start: (value.as_ptr().addr() - path.as_ptr().addr()) as u32,
                    len: value.len() as u32,
                }));
                self.routes[*matched.value].endpoint(view.method())
            }
            Err(_) if path == "*" => &self.asterisk,
            Err(_) if *view.method() == Method::CONNECT => &self.no_tunnel,
            Err(_) => {
                let fallbacks = self.blueprint.fallbacks.iter().enumerate();
                let innermost = fallbacks
                    .filter(|(_, fallback)| fallback.answers(path))
                    .max_by_key(|(_, fallback)| fallback.rank());
                // The app itself answers everywhere, and is the first.
                &self.fallbacks[innermost.map_or(0, |(index, _)| index)]
            }
        }
    }
}

/// The target of CONNECT, a host and a port, supports no method here (RFC 9110, section 10.2.1).
async fn refuse_tunnel() -> ([(HeaderName, HeaderValue); 1], StatusCode) {
    ([(header::ALLOW, HeaderValue::from_static(""))], StatusCode::METHOD_NOT_ALLOWED)
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("blueprint", &self.blueprint).finish_non_exhaustive()
    }
}
