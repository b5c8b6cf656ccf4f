//! Guards: found wrong at start, 401 and 403, and what is recorded.

use std::sync::Arc;

use gimmal::auth::{
    Accounts, Authenticates, Authenticator, Authorizer, Login, MemoryUsers, Principal, Requirement, Session,
    User,
};
use gimmal::security::RequirementError;
use gimmal::security::audit::{AuditLog, verify};
use gimmal::security::rbac::{RoleModel, Roles};
use gimmal::test::TestClient;
use gimmal::{App, AppError, Error, Next, Request, Response, StatusCode, get};

use crate::{HASH, PASSWORD, Service, alice, realm};

fn roles() -> Roles {
    let model = RoleModel::new().permissions(["articles:read", "articles:write"]);
    let model = model.role("reader", [], ["articles:read"]).role("editor", ["reader"], ["articles:write"]);
    model.build().unwrap()
}

fn error(app: App) -> String {
    TestClient::new(app).unwrap_err().to_string()
}

#[test]
fn a_forgotten_guard_is_named_at_start() {
    let open = || get(async || "open").require(Requirement::Public);
    let guarded = App::new().deny_by_default().route("/open", open());
    assert!(TestClient::new(App::new().deny_by_default().route("/open", open())).is_ok());
    let forgotten = error(guarded.get("/forgotten", async || "secret"));
    assert!(forgotten.contains("\"/forgotten\"") && forgotten.contains("Route::require"), "{forgotten}");
    // What is nested is denied by default, too; a requirement of the app around it guards it.
    let nested = || App::new().get("/{id}", async || "secret");
    let forgotten = App::new().deny_by_default().nest("/users", nested());
    assert!(error(forgotten).contains("\"/users/{id}\""));
    let required =
        authenticated().deny_by_default().nest("/users", nested().require(Requirement::Authenticated));
    assert!(TestClient::new(required).is_ok());
    // A fallback may serve files.
    let fallback = App::new().deny_by_default().fallback(async || "a file");
    assert!(error(fallback).contains("fallback"));
    let fallback = App::new().deny_by_default().fallback(async || "a file");
    assert!(TestClient::new(fallback.require_for_fallback(Requirement::Public)).is_ok());
    assert!(TestClient::new(nested()).is_ok(), "without deny_by_default it may be left out");
}

#[test]
fn an_unknown_role_or_permission_is_named_at_start() {
    let guard = |requirement| App::new().route("/x", get(async || ()).require(requirement));
    let unknown = TestClient::new(guard(Requirement::role("edtior")).roles(roles())).unwrap_err();
    assert!(matches!(
        &unknown,
        AppError::Guard { pattern, error: RequirementError::UnknownRole(role) } if pattern == "/x" && role == "edtior"
    ));
    let unknown = error(guard(Requirement::permission("articles:wirte")).roles(roles()));
    assert!(unknown.contains("articles:wirte") && unknown.contains("\"/x\""), "{unknown}");
    assert!(
        error(guard(Requirement::role("editor"))).contains("App::roles"),
        "without a model no role is known"
    );
    assert!(error(guard(Requirement::any_of([])).roles(roles())).contains("choice"));
    let known = guard(Requirement::role("editor")).roles(roles());
    assert!(TestClient::new(known.with(Authenticator::new(realm()))).is_ok());
}

/// Found at start, as it would refuse everybody.
#[test]
fn a_guard_where_nothing_finds_out_who_asks_is_named_at_start() {
    let guarded = |requirement| App::new().route("/x", get(async || ()).require(requirement));
    let named = error(guarded(Requirement::Authenticated));
    assert!(named.contains("\"/x\" requires a login") && named.contains("auth::Authenticator"), "{named}");
    assert!(error(guarded(Requirement::role("editor")).roles(roles())).contains("role \"editor\""));
    let whole_app = App::new().get("/", async || ()).require(Requirement::Authenticated);
    assert!(error(whole_app).contains("requires a login"));
    let taken = error(App::new().get("/me", async |me: Principal| me.id().to_owned()));
    assert!(taken.contains("\"/me\" requires a login"), "{taken}");
    // What nobody need be for, nobody need find out.
    assert!(TestClient::new(guarded(Requirement::Public)).is_ok());
    assert!(TestClient::new(App::new().get("/", async |_: Option<Principal>| ())).is_ok());

    // It has to stand around the route itself.
    let elsewhere =
        App::new().nest("/open", authenticated()).nest("/closed", guarded(Requirement::Authenticated));
    assert!(error(elsewhere).contains("\"/closed/x\""));
    let on_route = get(async || ()).require(Requirement::Authenticated).with(Authenticator::new(realm()));
    assert!(TestClient::new(App::new().route("/x", on_route)).is_ok());

    // Middleware of an app's own says that it does.
    async fn by_proxy(request: Request, next: Next) -> Response {
        next.run(request).await
    }
    assert!(TestClient::new(guarded(Requirement::Authenticated).with(by_proxy)).is_err());
    assert!(TestClient::new(guarded(Requirement::Authenticated).with(Authenticates(by_proxy))).is_ok());

    let sessions = error(authenticated().get("/cart", async |_: Session| ()));
    assert!(sessions.contains("\"/cart\"") && sessions.contains("auth::Sessions"), "{sessions}");
    let login =
        authenticated().post("/login", async |_: Login| ()).state(Accounts::new(MemoryUsers::new([])));
    assert!(error(login).contains("auth::Sessions"));
}

fn authenticated() -> App {
    App::new().with(Authenticator::new(realm()))
}

fn app() -> App {
    let users = MemoryUsers::new([alice(), User::new("bob").with_password_hash(&*HASH).with_role("reader")]);
    let delete = async |authorizer: Authorizer| -> Result<StatusCode, Error> {
        authorizer.require(&Requirement::permission("articles:write"))?;
        Ok(StatusCode::NO_CONTENT)
    };
    let staff = App::new()
        .route("/write", get(async || "written").require(Requirement::permission("articles:write")))
        .get("/read", async |principal: Principal| principal.id().to_owned())
        .delete("/read", delete)
        .require(Requirement::role("reader"));
    App::new()
        .get("/", async || "open")
        .nest("/staff", staff)
        .roles(roles())
        .with(Authenticator::new(realm()).basic(&Accounts::new(users)))
}

#[test]
fn nobody_gets_401_and_who_may_not_gets_403() {
    let service = Service::start(app());
    let (alice, bob) = (format!("alice:{PASSWORD}"), format!("bob:{PASSWORD}"));
    let status = |arguments: &[&str], path: &str| service.curl(arguments, path).status;
    assert_eq!(status(&[], "/"), 200);
    // Neither a route, nor what the router answers by itself, nor that there is no such route, is told to nobody.
    for path in ["/staff/read", "/staff/write", "/staff/nothing"] {
        for method in ["GET", "POST", "OPTIONS"] {
            assert_eq!(status(&["--request", method], path), 401, "{method} {path}");
        }
    }
    assert_eq!(status(&["--user", &bob], "/staff/read"), 200);
    assert_eq!(status(&["--user", &bob], "/staff/nothing"), 404);
    let refused = service.curl(&["--user", &bob], "/staff/write");
    assert_eq!((refused.status, refused.body.as_str(), refused.challenges().len()), (403, "Forbidden", 0));
    assert_eq!(status(&["--user", &alice], "/staff/write"), 200);
    assert_eq!(status(&["--user", &bob, "--request", "DELETE"], "/staff/read"), 403);
    assert_eq!(status(&["--user", &alice, "--request", "DELETE"], "/staff/read"), 204);
}

#[test]
fn what_happened_is_in_the_audit_log_and_no_password_is() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let log = Arc::new(AuditLog::new(file.reopen().unwrap(), None));
    let greet = async |who: Option<Principal>| who.map_or("nobody".to_owned(), |who| who.id().to_owned());
    let public = get(greet).require(Requirement::Public);
    let service = Service::start(app().route("/greet", public).audit_log(Arc::clone(&log)));
    let bob = format!("bob:{PASSWORD}");
    assert_eq!(service.curl(&[], "/greet").body, "nobody");
    service.curl(&[], "/staff/read?token=hunter2");
    service.curl(&["--user", "bob:hunter2"], "/staff/read");
    service.curl(&["--user", "eve\n{\"event\":\"x\"}:hunter2"], "/staff/read");
    service.curl(&["--user", &bob], "/staff/write");
    let text = std::fs::read_to_string(file.path()).unwrap();
    assert_eq!(verify(text.as_bytes(), None).unwrap(), log.head());
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    let expected = ["server_started", "unauthenticated", "login_failed", "login_succeeded", "forbidden"];
    assert_eq!(events, expected, "{text}");
    assert_eq!((&lines[1]["path"], &lines[1]["client"]), (&"/staff/read".into(), &"127.0.0.1".into()));
    assert_eq!((&lines[2]["account"], &lines[2]["mechanism"]), (&"bob".into(), &"basic".into()));
    assert_eq!(lines[4]["principal"], "bob");
    assert_eq!(lines[4]["reason"], "access is forbidden: lacks permission \"articles:write\"");
    assert!(!text.contains("hunter2") && !text.contains(PASSWORD), "{text}");
}

#[cfg(feature = "cedar")]
#[test]
fn policies_decide_and_the_log_names_them() {
    use gimmal::security::abac::{AccessRequest, Policies, Resource, SourceText};
    use gimmal::{Path, State};

    let schema = SourceText::new(
        "blog.cedarschema",
        "entity Role; entity User in [Role]; entity Article = { owner: User };
         action read appliesTo { principal: User, resource: Article };",
    );
    let policy = SourceText::new(
        "blog.cedar",
        "@id(\"owners read\") permit (principal, action, resource) when { resource.owner == principal };
         @id(\"never 13\") forbid (principal, action, resource == Article::\"13\");",
    );
    let policies = Arc::new(Policies::load(&schema, &[policy]).unwrap());
    let read = async |Path(id): Path<String>,
                      authorizer: Authorizer,
                      principal: Principal,
                      policies: State<Arc<Policies>>| {
        let owner = serde_json::json!({ "type": "User", "id": "alice" });
        let article = Resource::new("Article", &id).attribute("owner", owner);
        authorizer.decide(&policies, &AccessRequest::new(&principal, "read", &article))?;
        Ok::<_, Error>(format!("article {id}"))
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    let app = app()
        .get("/articles/{id}", read)
        .state(policies)
        .audit_log(AuditLog::new(file.reopen().unwrap(), None));
    let service = Service::start(app);
    let (alice, bob) = (format!("alice:{PASSWORD}"), format!("bob:{PASSWORD}"));
    assert_eq!(service.curl(&["--user", &alice], "/articles/1").body, "article 1");
    let refused = service.curl(&["--user", &bob], "/articles/1");
    assert_eq!((refused.status, refused.body.as_str()), (403, "Forbidden"));
    assert_eq!(service.curl(&["--user", &alice], "/articles/13").status, 403);
    assert_eq!(service.curl(&[], "/articles/1").status, 401);
    let text = std::fs::read_to_string(file.path()).unwrap();
    let forbidden: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &serde_json::Value| line["event"] == "forbidden")
        .collect();
    assert_eq!(forbidden[0]["reason"], "access is forbidden: denied: no policy permits it");
    assert_eq!(forbidden[1]["policies"], serde_json::json!(["never 13"]));
}
