//! Policies in Cedar.

use std::sync::Arc;

use gimmal_security::abac::{Access, AccessRequest, Policies, PolicyError, Resource, SourceText};
use gimmal_security::rbac::RoleModel;
use gimmal_security::{Mechanism, Principal};
use serde_json::json;

const SCHEMA: &str = r#"
entity Role;
entity Folder;
entity User in [Role] = {
    department: String,
    clearance?: Long,
    scopes: Set<String>,
    mechanism: String,
    authenticated_at: Long,
};
entity Article in [Folder] = { owner: User, draft: Bool };
action read, write, publish appliesTo {
    principal: User,
    resource: Article,
    context: { hour: Long, address?: ipaddr },
};
"#;

const POLICIES: &str = r#"
@id("owners")
permit (principal, action, resource) when { resource.owner == principal };

@id("editors read")
permit (principal in Role::"editor", action == Action::"read", resource);

@id("news writes news")
permit (principal, action == Action::"write", resource in Folder::"news")
when { principal.department == "news" && principal.scopes.contains("articles:write") };

@id("no publishing at night")
forbid (principal, action == Action::"publish", resource) when { context.hour < 6 };

@id("publishing needs a certificate")
forbid (principal, action == Action::"publish", resource)
unless { principal.mechanism == "client_certificate" };

forbid (principal, action, resource)
when { context has address && context.address.isInRange(ip("192.0.2.0/24")) };
"#;

fn schema() -> SourceText {
    SourceText::new("app.cedarschema", SCHEMA)
}

fn policies() -> Policies {
    Policies::load(&schema(), &[SourceText::new("app.cedar", POLICIES)]).unwrap()
}

fn alice(mechanism: Mechanism) -> Principal {
    Principal::new("alice", mechanism, 1_700_000_000).with_attribute("department", "news")
}

fn article(owner: &str) -> Resource {
    Resource::new("Article", "1")
        .attribute("owner", json!({"type": "User", "id": owner}))
        .attribute("draft", false)
        .parent("Folder", "news")
}

fn decide(
    policies: &Policies,
    principal: &Principal,
    action: &str,
    resource: &Resource,
    hour: i64,
) -> Access {
    policies.decide(&AccessRequest::new(principal, action, resource).environment("hour", hour))
}

#[test]
fn each_decision_names_the_policies_that_made_it() {
    let policies = policies();
    let (mine, theirs) = (article("alice"), article("bob"));
    let alice = alice(Mechanism::Password);
    let access = decide(&policies, &alice, "read", &mine, 9);
    assert_eq!((access.is_allowed(), access.permitted_by), (true, vec!["owners".to_owned()]));
    let access = decide(&policies, &alice, "read", &theirs, 9);
    assert_eq!(access.to_string(), "denied: no policy permits it");
    let access = decide(&policies, &alice.clone().with_role("editor"), "read", &theirs, 9);
    assert_eq!(access.to_string(), "allowed: permitted by editors read");
    let access = decide(&policies, &alice.clone().with_scope("articles:write"), "write", &theirs, 9);
    assert_eq!(access.permitted_by, ["news writes news"]);
    let access = decide(&policies, &alice, "publish", &mine, 3);
    assert_eq!(access.forbidden_by, ["no publishing at night", "publishing needs a certificate"]);
    let certified = self::alice(Mechanism::ClientCertificate);
    assert!(decide(&policies, &certified, "publish", &mine, 9).is_allowed());
}

#[test]
fn an_unnamed_policy_is_named_by_its_place() {
    let (alice, mine) = (alice(Mechanism::Password), article("alice"));
    let request =
        AccessRequest::new(&alice, "read", &mine).environment("hour", 9).environment("address", "192.0.2.7");
    assert_eq!(policies().decide(&request).forbidden_by, ["app.cedar#6"]);
}

#[test]
fn what_cannot_be_evaluated_is_denied() {
    let policies = policies();
    let (alice, mine) = (alice(Mechanism::Password), article("alice"));
    let is_error = |access: &Access| !access.is_allowed() && !access.errors.is_empty();
    // Without the hour, with a wrong type, with an unknown action, without attributes that the schema demands.
    assert!(is_error(&policies.decide(&AccessRequest::new(&alice, "read", &mine))));
    assert!(is_error(
        &policies.decide(&AccessRequest::new(&alice, "read", &mine).environment("hour", "nine"))
    ));
    assert!(is_error(&decide(&policies, &alice, "delete", &mine, 9)));
    assert!(is_error(&decide(&policies, &alice, "read", &Resource::new("Article", "1"), 9)));
    assert!(is_error(&decide(&policies, &alice, "read", &Resource::new("Planet", "1"), 9)));
    assert!(is_error(&decide(&policies, &alice, "read", &Resource::new("not a name", "1"), 9)));
    let nobody = Principal::new("bob", Mechanism::Password, 0);
    assert!(is_error(&decide(&policies, &nobody, "read", &mine, 9)));
}

#[test]
fn an_error_in_one_policy_denies_what_another_permits() {
    // An overflow is found at evaluation alone.
    let text = r#"
        @id("all") permit (principal, action, resource);
        @id("broken") forbid (principal, action, resource) when { context.hour + 9223372036854775807 > 0 };
    "#;
    let policies = Policies::load(&schema(), &[SourceText::new("p", text)]).unwrap();
    let access = decide(&policies, &alice(Mechanism::Password), "read", &article("bob"), 9);
    assert!(!access.is_allowed());
    assert!(access.errors[0].contains("broken"), "{:?}", access.errors);
}

#[test]
fn an_attribute_cannot_pass_for_what_was_proved() {
    let forged = alice(Mechanism::Password)
        .with_attribute("mechanism", "client_certificate")
        .with_attribute("scopes", json!(["articles:write"]))
        .with_attribute("admin", true);
    let policies = policies();
    assert!(!decide(&policies, &forged, "publish", &article("alice"), 9).is_allowed());
    assert!(!decide(&policies, &forged, "write", &article("bob"), 9).is_allowed());
    // An identifier is data, whatever is in it.
    let quoted =
        Principal::new("x\" || true //", Mechanism::Password, 0).with_attribute("department", "news");
    assert!(!decide(&policies, &quoted, "read", &article("alice"), 9).is_allowed());
    let role = alice(Mechanism::Password).with_role("x\"::Role::\"editor");
    assert!(!decide(&policies, &role, "read", &article("bob"), 9).is_allowed());
}

#[test]
fn roles_include_other_roles() {
    let model = RoleModel::new().role("editor", [], []).role("chief", ["editor"], []);
    let roles = Arc::new(model.build().unwrap());
    let chief = alice(Mechanism::Password).with_role("chief");
    assert!(!decide(&policies(), &chief, "read", &article("bob"), 9).is_allowed());
    assert!(decide(&policies().with_roles(roles), &chief, "read", &article("bob"), 9).is_allowed());
}

#[test]
fn a_mistake_is_found_at_start_with_its_file_and_line() {
    let load = |text: &str| Policies::load(&schema(), &[SourceText::new("p.cedar", text)]).unwrap_err();
    let misspelt =
        load("permit (principal, action, resource)\nwhen {\n  principal.departement == \"news\"\n};");
    let PolicyError::Validation { file, line, policy, message } = &misspelt else { panic!("{misspelt}") };
    assert_eq!((file.as_str(), *line, policy.as_str()), ("p.cedar", 3, "p.cedar#1"));
    assert!(message.contains("departement"), "{message}");
    assert!(misspelt.to_string().starts_with("p.cedar:3: "), "{misspelt}");

    let wrong_type = load(
        "permit (principal, action, resource);\n\npermit (principal, action, resource) when { principal.department > 3 };",
    );
    assert!(matches!(&wrong_type, PolicyError::Validation { line: 3, .. }), "{wrong_type}");
    let unknown = load("permit (principal, action == Action::\"fly\", resource);");
    assert!(matches!(&unknown, PolicyError::Validation { line: 1, .. }), "{unknown}");
    // An optional attribute must be asked for before it is used.
    let optional = load("permit (principal, action, resource) when { principal.clearance > 3 };");
    assert!(matches!(&optional, PolicyError::Validation { .. }), "{optional}");

    let syntax = load("permit (principal, action, resource);\npermit principal;");
    assert!(matches!(&syntax, PolicyError::Syntax { line: 2, .. }), "{syntax:?}");
    let template = load("permit (principal == ?principal, action, resource);");
    assert!(matches!(template, PolicyError::Template { .. }));
    let twice = load(
        "@id(\"a\") permit (principal, action, resource); @id(\"a\") forbid (principal, action, resource);",
    );
    assert!(matches!(twice, PolicyError::Repeated { policy, .. } if policy == "a"));

    let bad = Policies::load(&SourceText::new("s", "entity User;\nentity User;"), &[]).unwrap_err();
    assert!(matches!(&bad, PolicyError::Schema { .. }), "{bad}");
    let bad = Policies::load(&SourceText::new("s", "entity User;\n\nentity {"), &[]).unwrap_err();
    assert!(matches!(&bad, PolicyError::Schema { line: 3, .. }), "{bad}");
    let bad = Policies::load(&SourceText::new("s", "entity Person;"), &[]).unwrap_err();
    assert!(matches!(bad, PolicyError::NoEntityType { kind, .. } if kind == "User"));
}

#[test]
fn a_bad_new_set_leaves_the_old_one_in_force() {
    let policies = policies();
    let (alice, mine) = (alice(Mechanism::Password), article("alice"));
    let broken = SourceText::new("p", "forbid (principal, action, resource) when { principal.x == 1 };");
    assert!(policies.reload(&schema(), &[broken]).is_err());
    assert!(decide(&policies, &alice, "read", &mine, 9).is_allowed());
    assert_eq!(policies.len(), 6);
    let closed = SourceText::new("p", "@id(\"closed\") forbid (principal, action, resource);");
    policies.reload(&schema(), &[closed]).unwrap();
    assert_eq!(decide(&policies, &alice, "read", &mine, 9).forbidden_by, ["closed"]);
    policies.reload(&schema(), &[]).unwrap();
    assert!(policies.is_empty() && !decide(&policies, &alice, "read", &mine, 9).is_allowed());
}

#[test]
fn a_schema_may_be_without_roles_and_attributes() {
    let schema = SourceText::new(
        "s",
        "entity User; entity Thing; action use appliesTo { principal: User, resource: Thing };",
    );
    let policies =
        Policies::load(&schema, &[SourceText::new("p", "permit (principal, action, resource);")]).unwrap();
    let alice = alice(Mechanism::Password).with_role("editor");
    assert!(policies.decide(&AccessRequest::new(&alice, "use", &Resource::new("Thing", "1"))).is_allowed());
    // Who asks about itself.
    let schema =
        SourceText::new("s", "entity User; action see appliesTo { principal: User, resource: User };");
    let policy = SourceText::new("p", "permit (principal, action, resource) when { principal == resource };");
    let policies = Policies::load(&schema, &[policy]).unwrap();
    for (id, is_allowed) in [("alice", true), ("bob", false)] {
        let access = policies.decide(&AccessRequest::new(&alice, "see", &Resource::new("User", id)));
        assert_eq!((access.is_allowed(), access.errors.len()), (is_allowed, 0));
    }
}
