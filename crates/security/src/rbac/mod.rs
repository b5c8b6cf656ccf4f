//! Role-based access control: roles that include other roles, and the permissions that they grant.
//!
//! A [`RoleModel`] is what a person writes down; [`RoleModel::build`] checks it and works out, once, everything that
//! each role may do. The [`Roles`] that come out answer in constant time, whatever the depth of the inheritance.
//!
//! # Permissions
//! A permission is a name of one or more segments between colons, as `articles:write`; a segment is made of ASCII
//! letters, digits, `_`, `-` and `.`. All permissions are declared, so that a misspelt one is found at start.
//!
//! A grant is a permission, or a pattern over the declared ones. In a pattern, `*` stands for exactly one segment,
//! and in last place for one segment or more: `articles:*` grants `articles:write` and `articles:comments:delete`,
//! `*:read` grants `articles:read` but not `articles:comments:read`, and `*` alone grants everything. A pattern that
//! grants nothing is an error.
//!
//! ```
//! use gimmal_security::rbac::RoleModel;
//! use gimmal_security::{Mechanism, Principal};
//!
//! let roles = RoleModel::new()
//!     .permissions(["articles:read", "articles:write", "users:ban"])
//!     .role("reader", [], ["articles:read"])
//!     .role("editor", ["reader"], ["articles:*"])
//!     .role("admin", ["editor"], ["*"])
//!     .build()?;
//!
//! let alice = Principal::new("alice", Mechanism::Basic, 0).with_role("editor");
//! assert!(roles.allows(&alice, "articles:write") && !roles.allows(&alice, "users:ban"));
//! assert!(roles.has_role(&alice, "reader"));
//! assert_eq!(
//!     roles.explain(&alice, "articles:read").unwrap().to_string(),
//!     "articles:read granted by role editor via articles:*"
//! );
//! # Ok::<(), gimmal_security::rbac::RoleError>(())
//! ```

mod model;
mod pattern;

use std::collections::{HashMap, VecDeque};
use std::fmt;

pub use model::{RoleDefinition, RoleError, RoleModel};

use crate::Principal;

/// A set of small numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BitSet(Vec<u64>);

impl BitSet {
    fn insert(&mut self, number: usize) {
        let word = number / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % 64);
    }

    fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    fn insert_all(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, added) in self.0.iter_mut().zip(&other.0) {
            *word |= added;
        }
    }
}

#[derive(Debug)]
struct Role {
    name: String,
    /// Those that it names itself, in order.
    inherits: Vec<usize>,
    /// As written, and what each stands for.
    grants: Vec<(String, BitSet)>,
    /// Itself and all roles that it includes.
    included: BitSet,
    /// All permissions of all included roles.
    permissions: BitSet,
}

/// A checked role model: answers what a principal may do. See the [module](self) for an example.
///
/// A role that a principal holds and the model does not know grants nothing.
#[derive(Debug)]
pub struct Roles {
    roles: Vec<Role>,
    role_numbers: HashMap<String, usize>,
    permission_numbers: HashMap<String, usize>,
}

impl Roles {
    /// Whether one of the principal's roles grants this permission. A permission that was not declared is granted
    /// to nobody; [`knows_permission`](Self::knows_permission) finds such a mistake at start.
    #[must_use]
    pub fn allows(&self, principal: &Principal, permission: &str) -> bool {
        let Some(&permission) = self.permission_numbers.get(permission) else { return false };
        self.held(principal).any(|role| role.permissions.contains(permission))
    }

    /// Whether the principal holds this role, or one that includes it.
    #[must_use]
    pub fn has_role(&self, principal: &Principal, role: &str) -> bool {
        let Some(&role) = self.role_numbers.get(role) else { return false };
        self.held(principal).any(|held| held.included.contains(role))
    }

    /// The roles that the principal holds, and those that they include.
    pub fn included_roles(&self, principal: &Principal) -> impl Iterator<Item = &str> {
        let mut included = BitSet::default();
        self.held(principal).for_each(|role| included.insert_all(&role.included));
        let names = self.roles.iter().enumerate().filter(move |&(number, _)| included.contains(number));
        names.map(|(_, role)| role.name.as_str())
    }

    /// Why the principal has this permission, `None` if it has not. For logs and for people: this walks the
    /// inheritance, which [`allows`](Self::allows) does not.
    #[must_use]
    pub fn explain(&self, principal: &Principal, permission: &str) -> Option<Grant> {
        let (permission, &number) = self.permission_numbers.get_key_value(permission)?;
        let held = self.held(principal).find(|role| role.permissions.contains(number))?;
        self.shortest_path(held, number).map(|(path, granted_as)| Grant {
            permission: permission.clone(),
            path,
            granted_as,
        })
    }

    /// Whether the model has this role.
    #[must_use]
    pub fn knows_role(&self, role: &str) -> bool {
        self.role_numbers.contains_key(role)
    }

    /// Whether the model has this permission.
    #[must_use]
    pub fn knows_permission(&self, permission: &str) -> bool {
        self.permission_numbers.contains_key(permission)
    }

    /// The permissions of a role with all that it includes, in order of their names.
    pub fn permissions_of(&self, role: &str) -> impl Iterator<Item = &str> {
        let role = self.role_numbers.get(role).map(|&number| &self.roles[number]);
        let mut names: Vec<&str> = self
            .permission_numbers
            .iter()
            .filter(|&(_, &number)| role.is_some_and(|role| role.permissions.contains(number)))
            .map(|(name, _)| name.as_str())
            .collect();
        names.sort_unstable();
        names.into_iter()
    }

    fn held<'a>(&'a self, principal: &'a Principal) -> impl Iterator<Item = &'a Role> {
        principal.roles().filter_map(|name| self.role_numbers.get(name)).map(|&number| &self.roles[number])
    }

    /// Breadth first, from the role that is held to the nearest one that itself names a fitting grant.
    fn shortest_path(&self, held: &Role, permission: usize) -> Option<(Vec<String>, String)> {
        let mut paths = VecDeque::from([vec![held]]);
        while let Some(path) = paths.pop_front() {
            let role = *path.last()?;
            if let Some((pattern, _)) = role.grants.iter().find(|(_, granted)| granted.contains(permission)) {
                return Some((path.iter().map(|role| role.name.clone()).collect(), pattern.clone()));
            }
            for &inherited in &role.inherits {
                let inherited = &self.roles[inherited];
                if inherited.permissions.contains(permission) {
                    paths.push_back([path.as_slice(), &[inherited]].concat());
                }
            }
        }
        None
    }
}

/// Why a permission is granted: which held role leads to which grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The permission that was asked for.
    pub permission: String,
    /// From the role that the principal holds to the one that names the grant; one role if they are the same.
    pub path: Vec<String>,
    /// The grant as it was written, a permission or a pattern.
    pub granted_as: String,
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} granted by role {}", self.permission, self.path.join(" > "))?;
        if self.granted_as == self.permission { Ok(()) } else { write!(f, " via {}", self.granted_as) }
    }
}
