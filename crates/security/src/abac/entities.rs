//! Principals and resources as Cedar sees them.

use std::collections::BTreeSet;

use cedar_policy::{Entities, EntityId, EntityTypeName, EntityUid, Schema, SchemaFragment};
use serde_json::{Map, Value, json};

use super::AccessRequest;
use super::source::PolicyError;
use crate::Principal;
use crate::rbac::Roles;

const PRINCIPAL: &str = "User";
const ROLE: &str = "Role";

/// What the schema has for a principal.
#[derive(Debug)]
pub(super) struct EntityNames {
    /// The attributes that it gives to a principal.
    attributes: BTreeSet<String>,
    /// Whether it has roles.
    has_roles: bool,
}

impl EntityNames {
    pub(super) fn of(schema: &SchemaFragment, file: &str) -> Result<Self, PolicyError> {
        let missing = || PolicyError::NoEntityType { file: file.to_owned(), kind: PRINCIPAL.to_owned() };
        let schema = schema.clone().to_json_value().map_err(|error| PolicyError::Schema {
            file: file.to_owned(),
            line: 1,
            message: error.to_string(),
        })?;
        let namespace = &schema[""];
        let kinds = namespace["entityTypes"].as_object().ok_or_else(missing)?;
        let shape = &kinds.get(PRINCIPAL).ok_or_else(missing)?["shape"];
        let attributes = shape["attributes"].as_object();
        Ok(Self {
            attributes: attributes.into_iter().flatten().map(|(name, _)| name.clone()).collect(),
            has_roles: kinds.contains_key(ROLE),
        })
    }

    pub(super) fn principal(&self) -> &'static str {
        PRINCIPAL
    }

    fn attributes_of(&self, principal: &Principal) -> Map<String, Value> {
        let own = principal.attributes().map(|(name, value)| (name, value.clone()));
        // What was proved comes last, so that no attribute of the same name takes its place.
        let proved = [
            ("scopes", principal.scopes().collect()),
            ("mechanism", principal.mechanism().to_string().into()),
            ("authenticated_at", principal.authenticated_at().into()),
        ];
        let known = own.chain(proved).filter(|(name, _)| self.attributes.contains(*name));
        known.map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn parents_of(&self, principal: &Principal, roles: Option<&Roles>) -> Vec<Value> {
        if !self.has_roles {
            return Vec::new();
        }
        let held = principal.roles().map(str::to_owned);
        let included = roles.into_iter().flat_map(|roles| roles.included_roles(principal)).map(str::to_owned);
        let all: BTreeSet<String> = held.chain(included).collect();
        all.iter().map(|role| json!({"type": ROLE, "id": role})).collect()
    }
}

/// The entities that a request speaks of, checked against the schema.
pub(super) fn entities(
    request: &AccessRequest<'_>,
    names: &EntityNames,
    roles: Option<&Roles>,
    schema: &Schema,
) -> Result<Entities, String> {
    let AccessRequest { principal, resource, .. } = request;
    let mut entities = vec![json!({
        "uid": {"type": PRINCIPAL, "id": principal.id()},
        "attrs": names.attributes_of(principal),
        "parents": names.parents_of(principal, roles),
    })];
    let parent = |(kind, id): &(String, String)| json!({"type": kind, "id": id});
    // Who asks about itself is already there.
    if (resource.kind.as_str(), resource.id.as_str()) != (PRINCIPAL, principal.id()) {
        entities.push(json!({
            "uid": {"type": resource.kind, "id": resource.id},
            "attrs": resource.attributes,
            "parents": resource.parents.iter().map(parent).collect::<Vec<_>>(),
        }));
    }
    let entities = Value::Array(entities);
    Entities::from_json_value(entities, Some(schema)).map_err(|error| {
        match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        }
    })
}

pub(super) fn uid(kind: &str, id: &str) -> Result<EntityUid, String> {
    let kind: EntityTypeName = kind.parse().map_err(|_| format!("{kind:?} is no name of an entity type"))?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}
