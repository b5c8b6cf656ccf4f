//! A role model as it is written down, and its checks.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{BitSet, Role, Roles, pattern};

/// What is wrong with a [`RoleModel`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RoleError {
    /// A role includes itself, by way of the named ones: first and last are the same.
    #[error("roles include each other in a cycle, {}: remove one of these inheritances", .0.join(" > "))]
    Cycle(Vec<String>),
    /// A role includes one that is not defined.
    #[error("role {role} inherits the unknown role {inherits}: define it, or correct the name")]
    UnknownRole {
        /// The role with the fault.
        role: String,
        /// The role that it names.
        inherits: String,
    },
    /// A role grants a permission that is not declared, or a pattern that fits none.
    #[error("role {role} grants {grant}, which is no declared permission: declare it, or correct the name")]
    UnknownPermission {
        /// The role with the fault.
        role: String,
        /// The grant that it names.
        grant: String,
    },
    /// A role is defined twice.
    #[error("role {0} is defined twice: give all of its grants in one place")]
    RoleRepeated(String),
    /// A name outside the grammar that the [module](super) gives.
    #[error(
        "{0:?} is no name for a role, permission or grant: use letters, digits, _ - . and : between segments"
    )]
    Name(String),
}

/// One role as it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleDefinition {
    /// The roles that it includes.
    #[serde(default)]
    pub inherits: Vec<String>,
    /// Permissions, or patterns over them.
    #[serde(default)]
    pub grants: Vec<String>,
}

/// Roles and permissions as they are written down, in code or in a configuration file.
///
/// ```
/// use gimmal_security::rbac::{RoleError, RoleModel};
///
/// let model: RoleModel = serde_json::from_str(
///     r#"{
///         "permissions": ["articles:read", "articles:write"],
///         "roles": {
///             "reader": { "grants": ["articles:read"] },
///             "editor": { "inherits": ["raeder"], "grants": ["articles:write"] }
///         }
///     }"#,
/// )?;
/// let error = model.build().unwrap_err();
/// assert_eq!(error, RoleError::UnknownRole { role: "editor".into(), inherits: "raeder".into() });
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleModel {
    permissions: BTreeSet<String>,
    roles: BTreeMap<String, RoleDefinition>,
    #[serde(skip)]
    repeated: Option<String>,
}

impl RoleModel {
    /// A model without roles.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares permissions.
    #[must_use]
    pub fn permissions<'a>(mut self, permissions: impl IntoIterator<Item = &'a str>) -> Self {
        self.permissions.extend(permissions.into_iter().map(str::to_owned));
        self
    }

    /// Defines a role: those that it includes, and what it grants besides.
    #[must_use]
    pub fn role<'a>(
        mut self,
        name: &str,
        inherits: impl IntoIterator<Item = &'a str>,
        grants: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let definition = RoleDefinition {
            inherits: inherits.into_iter().map(str::to_owned).collect(),
            grants: grants.into_iter().map(str::to_owned).collect(),
        };
        if self.roles.insert(name.to_owned(), definition).is_some() {
            self.repeated.get_or_insert_with(|| name.to_owned());
        }
        self
    }

    /// Checks the model and works out what each role may do.
    ///
    /// # Errors
    /// [`RoleError`] names the first fault: a bad name, a role that is defined twice, an unknown role or permission,
    /// a cycle.
    pub fn build(&self) -> Result<Roles, RoleError> {
        if let Some(role) = &self.repeated {
            return Err(RoleError::RoleRepeated(role.clone()));
        }
        self.check_names()?;
        let permission_numbers: HashMap<String, usize> =
            self.permissions.iter().enumerate().map(|(number, name)| (name.clone(), number)).collect();
        let role_numbers: HashMap<String, usize> =
            self.roles.keys().enumerate().map(|(number, name)| (name.clone(), number)).collect();
        let mut roles = Vec::with_capacity(self.roles.len());
        for (name, definition) in &self.roles {
            roles.push(Role {
                name: name.clone(),
                inherits: self.inherited(name, definition, &role_numbers)?,
                grants: self.granted(name, definition)?,
                included: BitSet::default(),
                permissions: BitSet::default(),
            });
        }
        for number in order(&roles)? {
            close(&mut roles, number);
        }
        Ok(Roles { roles, role_numbers, permission_numbers })
    }

    fn check_names(&self) -> Result<(), RoleError> {
        let bad_permission = self.permissions.iter().find(|name| !pattern::is_permission(name));
        let bad_role = self.roles.keys().find(|name| !pattern::is_name(name));
        let bad_grant =
            self.roles.values().flat_map(|role| &role.grants).find(|name| !pattern::is_pattern(name));
        match bad_permission.or(bad_role).or(bad_grant) {
            Some(name) => Err(RoleError::Name(name.clone())),
            None => Ok(()),
        }
    }

    fn inherited(
        &self,
        role: &str,
        definition: &RoleDefinition,
        numbers: &HashMap<String, usize>,
    ) -> Result<Vec<usize>, RoleError> {
        let number = |inherits: &String| {
            numbers
                .get(inherits)
                .copied()
                .ok_or_else(|| RoleError::UnknownRole { role: role.to_owned(), inherits: inherits.clone() })
        };
        definition.inherits.iter().map(number).collect()
    }

    fn granted(&self, role: &str, definition: &RoleDefinition) -> Result<Vec<(String, BitSet)>, RoleError> {
        let mut granted = Vec::with_capacity(definition.grants.len());
        for grant in &definition.grants {
            let mut permissions = BitSet::default();
            for (number, permission) in self.permissions.iter().enumerate() {
                if pattern::grants(grant, permission) {
                    permissions.insert(number);
                }
            }
            if permissions == BitSet::default() {
                return Err(RoleError::UnknownPermission { role: role.to_owned(), grant: grant.clone() });
            }
            granted.push((grant.clone(), permissions));
        }
        Ok(granted)
    }
}

/// Adds to a role what the roles that it inherits, which are complete, may do.
fn close(roles: &mut [Role], number: usize) {
    let mut included = BitSet::default();
    let mut permissions = BitSet::default();
    included.insert(number);
    for (_, granted) in &roles[number].grants {
        permissions.insert_all(granted);
    }
    for &inherited in &roles[number].inherits {
        included.insert_all(&roles[inherited].included);
        permissions.insert_all(&roles[inherited].permissions);
    }
    roles[number].included = included;
    roles[number].permissions = permissions;
}

/// The roles in an order in which each comes after all that it inherits. Depth first, without recursion: the depth
/// comes from a file.
fn order(roles: &[Role]) -> Result<Vec<usize>, RoleError> {
    let mut order = Vec::with_capacity(roles.len());
    let mut done = BitSet::default();
    for start in 0..roles.len() {
        // The roles on the way from the start, each with how many of those it inherits were looked at.
        let mut path = vec![(start, 0)];
        while let Some((role, looked_at)) = path.last_mut() {
            let role = *role;
            if done.contains(role) {
                path.pop();
            } else if let Some(&inherited) = roles[role].inherits.get(*looked_at) {
                *looked_at += 1;
                if let Some(position) = path.iter().position(|&(on_path, _)| on_path == inherited) {
                    let cycle = path[position..].iter().map(|&(on_path, _)| on_path).chain([inherited]);
                    return Err(RoleError::Cycle(cycle.map(|role| roles[role].name.clone()).collect()));
                }
                path.push((inherited, 0));
            } else {
                done.insert(role);
                order.push(role);
                path.pop();
            }
        }
    }
    Ok(order)
}
