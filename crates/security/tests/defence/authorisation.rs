//! Roles and requirements.

use std::collections::BTreeSet;

use gimmal_security::rbac::{RoleError, RoleModel, Roles};
use gimmal_security::{Mechanism, Principal, Refusal, Requirement, RequirementError};
use proptest::prelude::*;

fn principal(roles: &[&str]) -> Principal {
    roles.iter().fold(Principal::new("p", Mechanism::Basic, 0), |principal, &role| principal.with_role(role))
}

fn blog() -> Roles {
    RoleModel::new()
        .permissions(["articles:read", "articles:write", "articles:comments:delete", "users:ban"])
        .role("reader", [], ["articles:read"])
        .role("moderator", ["reader"], ["*:comments:*"])
        .role("editor", ["reader"], ["articles:*"])
        .role("chief", ["editor", "moderator"], [])
        .role("admin", ["chief"], ["users:ban"])
        .build()
        .unwrap()
}

#[test]
fn a_role_may_what_it_includes_may_and_no_more() {
    let roles = blog();
    assert!(roles.allows(&principal(&["chief"]), "articles:comments:delete"));
    assert!(!roles.allows(&principal(&["chief"]), "users:ban"));
    assert!(!roles.allows(&principal(&["moderator"]), "articles:write"));
    assert!(roles.allows(&principal(&["moderator", "editor"]), "articles:write"));
    assert!(roles.has_role(&principal(&["admin"]), "reader"));
    assert!(!roles.has_role(&principal(&["reader"]), "admin"));
    let all: Vec<_> = roles.permissions_of("admin").collect();
    assert_eq!(all, ["articles:comments:delete", "articles:read", "articles:write", "users:ban"]);
}

#[test]
fn what_the_model_does_not_know_is_denied() {
    let roles = blog();
    for who in [principal(&[]), principal(&["root", "", "articles:*", "*"])] {
        assert!(!roles.allows(&who, "articles:read") && !roles.has_role(&who, "reader"));
    }
    let admin = principal(&["admin"]);
    for unknown in ["", "*", "articles:*", "articles", "ARTICLES:READ", "articles:read "] {
        assert!(!roles.allows(&admin, unknown), "{unknown}");
    }
    // A role that is unknown to the model is not held, even by who was given it.
    assert!(!roles.has_role(&principal(&["ghost"]), "ghost"));
}

#[test]
fn a_grant_is_explained_by_the_shortest_way() {
    let explain = |held: &[&str], permission| {
        blog().explain(&principal(held), permission).map(|grant| grant.to_string())
    };
    let because = explain(&["admin"], "articles:write").unwrap();
    assert_eq!(because, "articles:write granted by role admin > chief > editor via articles:*");
    assert_eq!(explain(&["reader"], "articles:read").unwrap(), "articles:read granted by role reader");
    assert_eq!(explain(&["reader"], "users:ban"), None);
    assert_eq!(explain(&["admin"], "no:such"), None);
}

#[test]
fn a_cycle_is_an_error_that_names_it() {
    let cycle = RoleModel::new().role("a", ["b"], []).role("b", ["c"], []).role("c", ["b"], []).build();
    assert_eq!(cycle.unwrap_err(), RoleError::Cycle(["b", "c", "b"].map(str::to_owned).to_vec()));
    let own = RoleModel::new().role("a", ["a"], []).build();
    assert_eq!(own.unwrap_err(), RoleError::Cycle(["a", "a"].map(str::to_owned).to_vec()));
    // Two ways to the same role are none.
    assert!(
        RoleModel::new().role("a", ["b", "c"], []).role("b", ["c"], []).role("c", [], []).build().is_ok()
    );
}

#[test]
fn a_chain_of_many_roles_needs_no_stack() {
    let names: Vec<String> = (0..20_000).map(|number| format!("role{number}")).collect();
    let model = names.windows(2).fold(RoleModel::new().permissions(["x"]), |model, pair| {
        model.role(&pair[0], [pair[1].as_str()], [])
    });
    let roles = model.role(&names[19_999], [], ["x"]).build().unwrap();
    assert!(roles.allows(&principal(&["role0"]), "x"));
}

#[test]
fn unknown_and_ill_formed_names_are_errors_that_name_them() {
    let unknown = RoleModel::new().role("a", ["b"], []).build().unwrap_err();
    assert_eq!(unknown, RoleError::UnknownRole { role: "a".into(), inherits: "b".into() });
    for grant in ["articles:wriet", "articels:*"] {
        let model = RoleModel::new().permissions(["articles:write"]).role("a", [], [grant]);
        let expected = RoleError::UnknownPermission { role: "a".into(), grant: grant.into() };
        assert_eq!(model.build().unwrap_err(), expected);
        assert!(expected.to_string().contains(grant));
    }
    assert!(
        matches!(RoleModel::new().permissions(["a:*"]).build(), Err(RoleError::Name(name)) if name == "a:*")
    );
    assert!(matches!(RoleModel::new().role("a b", [], []).build(), Err(RoleError::Name(_))));
    let twice = RoleModel::new().role("a", [], []).role("a", [], []).build();
    assert_eq!(twice.unwrap_err(), RoleError::RoleRepeated("a".into()));
}

#[test]
fn a_model_from_a_file_refuses_unknown_members() {
    assert!(serde_json::from_str::<RoleModel>(r#"{"permissions": [], "roles": {}, "rolse": {}}"#).is_err());
    let misspelt = r#"{"permissions": [], "roles": {"a": {"inherit": []}}}"#;
    assert!(serde_json::from_str::<RoleModel>(misspelt).is_err());
}

proptest! {
    /// The closure against the plain definition: a search through the graph at each question.
    #[test]
    fn the_closure_agrees_with_a_search(
        inherits in prop::collection::vec(prop::collection::vec(0_usize..12, 0..4), 12),
        grants in prop::collection::vec(0_usize..6, 12),
    ) {
        // Only to higher numbers, so that there is no cycle.
        let inherits: Vec<Vec<usize>> = inherits
            .iter()
            .enumerate()
            .map(|(role, list)| list.iter().copied().filter(|&inherited| inherited > role).collect())
            .collect();
        let role = |number: usize| format!("r{number}");
        let permission = |number: usize| format!("p{number}");
        let permissions: Vec<String> = (0..6).map(permission).collect();
        let mut model = RoleModel::new().permissions(permissions.iter().map(String::as_str));
        for number in 0..12 {
            let names: Vec<String> = inherits[number].iter().copied().map(role).collect();
            let grant = permission(grants[number]);
            model = model.role(&role(number), names.iter().map(String::as_str), [grant.as_str()]);
        }
        let roles = model.build().unwrap();
        for start in 0..12 {
            let who = principal(&[&role(start)]);
            let mut reached = BTreeSet::from([start]);
            let mut open = vec![start];
            while let Some(next) = open.pop() {
                open.extend(inherits[next].iter().filter(|&&inherited| reached.insert(inherited)));
            }
            for number in 0..12 {
                prop_assert_eq!(roles.has_role(&who, &role(number)), reached.contains(&number));
            }
            for number in 0..6 {
                let expected = reached.iter().any(|&role| grants[role] == number);
                prop_assert_eq!(roles.allows(&who, &permission(number)), expected);
                prop_assert_eq!(roles.explain(&who, &permission(number)).is_some(), expected);
            }
        }
    }
}

#[test]
fn a_requirement_tells_401_from_403_and_a_missing_scope() {
    let roles = blog();
    let bob = principal(&["reader"]).with_scope("articles:read");
    let refuse = |requirement: &Requirement, who| requirement.evaluate(who, &roles).unwrap_err();

    let scope = Requirement::scope("articles:write");
    assert_eq!(refuse(&scope, None), Refusal::Unauthenticated);
    assert_eq!(refuse(&scope, Some(&bob)), Refusal::InsufficientScope { scope: "articles:write".into() });
    assert_eq!(refuse(&scope, Some(&bob)).status(), 403);

    let permission = Requirement::permission("users:ban");
    let Refusal::Forbidden { reason } = refuse(&permission, Some(&bob)) else { panic!("not forbidden") };
    assert_eq!(reason, "lacks permission \"users:ban\"");
    // The client is told nothing of it.
    assert_eq!(refuse(&permission, Some(&bob)).to_string(), "access is forbidden");

    assert_eq!(Requirement::Public.evaluate(None, &roles), Ok(()));
    assert_eq!(refuse(&Requirement::Authenticated, None).status(), 401);
    assert_eq!(Requirement::Authenticated.evaluate(Some(&bob), &roles), Ok(()));
}

#[test]
fn all_of_and_any_of_compose() {
    let roles = blog();
    let bob = principal(&["reader"]).with_scope("a");
    let all = Requirement::all_of([Requirement::scope("a"), Requirement::role("admin")]);
    assert!(matches!(all.evaluate(Some(&bob), &roles), Err(Refusal::Forbidden { .. })));
    let any = Requirement::any_of([Requirement::scope("a"), Requirement::role("admin")]);
    assert_eq!(any.evaluate(Some(&bob), &roles), Ok(()));
    assert_eq!(any.evaluate(None, &roles), Err(Refusal::Unauthenticated));
    let neither = Requirement::any_of([Requirement::scope("b"), Requirement::role("admin")]);
    let help = Err(Refusal::InsufficientScope { scope: "b".into() });
    assert_eq!(neither.evaluate(Some(&bob), &roles), help);
    let public = Requirement::any_of([Requirement::role("admin"), Requirement::Public]);
    assert_eq!(public.evaluate(None, &roles), Ok(()));
    // A choice between nothing is met by nobody, and found at start.
    let nothing = Requirement::any_of([]);
    assert!(nothing.evaluate(Some(&bob), &roles).is_err());
    assert_eq!(nothing.check(&roles), Err(RequirementError::EmptyChoice));
}

#[test]
fn a_misspelt_requirement_is_found_at_start() {
    let roles = blog();
    let role = Requirement::all_of([Requirement::Authenticated, Requirement::role("edtior")]);
    assert_eq!(role.check(&roles), Err(RequirementError::UnknownRole("edtior".into())));
    let permission = Requirement::any_of([Requirement::permission("articles:wriet")]);
    assert_eq!(permission.check(&roles), Err(RequirementError::UnknownPermission("articles:wriet".into())));
}
