//! A validated set of policies, and its decisions.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use cedar_policy::{
    Authorizer, Context, Decision, PolicyId, PolicySet, Request, Schema, SchemaFragment, ValidationMode,
    Validator,
};

use super::entities::{EntityNames, entities, uid};
use super::source::{PolicyError, SourceText};
use super::{Access, AccessRequest};
use crate::rbac::Roles;

#[derive(Debug)]
struct Loaded {
    schema: Schema,
    policies: PolicySet,
    names: EntityNames,
}

/// Policies that are in force. See the [module](super) for an example.
///
/// A decision takes some microseconds. It sees one whole set, however often sets are reloaded meanwhile.
#[derive(Debug)]
pub struct Policies {
    loaded: RwLock<Arc<Loaded>>,
    roles: Option<Arc<Roles>>,
}

impl Policies {
    /// Reads a schema and policies, both in Cedar's own syntax, and validates the ones against the other. A policy is
    /// named by its `@id`, or else by its file and its place in it.
    ///
    /// # Errors
    /// [`PolicyError`] names the first fault, its file and its line.
    pub fn load(schema: &SourceText, policies: &[SourceText]) -> Result<Self, PolicyError> {
        let loaded = load(schema, policies)?;
        Ok(Self { loaded: RwLock::new(Arc::new(loaded)), roles: None })
    }

    /// Gives principals the roles that theirs include, as further parents.
    #[must_use]
    pub fn with_roles(mut self, roles: Arc<Roles>) -> Self {
        self.roles = Some(roles);
        self
    }

    /// Puts a new schema and new policies in the place of the old ones, for all cores at once.
    ///
    /// # Errors
    /// [`PolicyError`] as of [`load`](Self::load): then the old ones stay in force.
    pub fn reload(&self, schema: &SourceText, policies: &[SourceText]) -> Result<(), PolicyError> {
        let loaded = Arc::new(load(schema, policies)?);
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// How many policies there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.loaded().policies.num_of_policies()
    }

    /// Whether there are none, and so nothing is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Decides. Allowed is what a policy permits and none forbids.
    pub fn decide(&self, request: &AccessRequest<'_>) -> Access {
        match self.evaluate(request) {
            Ok(access) => access,
            Err(error) => Access { errors: vec![error], ..Access::default() },
        }
    }

    fn evaluate(&self, request: &AccessRequest<'_>) -> Result<Access, String> {
        let loaded = self.loaded();
        let Loaded { schema, policies, names } = &*loaded;
        let action = uid("Action", request.action)?;
        let environment = request.environment.clone().into();
        let context = Context::from_json_value(environment, Some((schema, &action))).map_err(describe)?;
        let entities = entities(request, names, self.roles.as_deref(), schema)?;
        let principal = uid(names.principal(), request.principal.id())?;
        let resource = uid(&request.resource.kind, &request.resource.id)?;
        let question = Request::new(principal, action, resource, context, Some(schema)).map_err(describe)?;
        let answer = Authorizer::new().is_authorized(&question, policies, &entities);
        let mut reasons: Vec<String> = answer.diagnostics().reason().map(ToString::to_string).collect();
        reasons.sort_unstable();
        let errors = answer.diagnostics().errors().map(describe).collect();
        Ok(match answer.decision() {
            Decision::Allow => Access { permitted_by: reasons, errors, ..Access::default() },
            Decision::Deny => Access { forbidden_by: reasons, errors, ..Access::default() },
        })
    }

    fn loaded(&self) -> Arc<Loaded> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn describe(error: impl std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn load(schema_text: &SourceText, texts: &[SourceText]) -> Result<Loaded, PolicyError> {
    let file = &schema_text.name;
    let schema_error = |error: &dyn miette::Diagnostic| PolicyError::Schema {
        file: file.clone(),
        line: schema_text.line_of(error),
        message: error.to_string(),
    };
    let (fragment, _) =
        SchemaFragment::from_cedarschema_str(&schema_text.text).map_err(|error| schema_error(&error))?;
    let names = EntityNames::of(&fragment, file)?;
    let schema = Schema::from_schema_fragments([fragment]).map_err(|error| schema_error(&error))?;
    let mut policies = PolicySet::new();
    // Where each policy is from.
    let mut sources = BTreeMap::new();
    for text in texts {
        for (id, policy) in parse(text)? {
            if sources.insert(id.clone(), text).is_some() {
                return Err(PolicyError::Repeated { file: text.name.clone(), policy: id });
            }
            let repeated = |_| PolicyError::Repeated { file: text.name.clone(), policy: id.clone() };
            policies.add(policy.new_id(PolicyId::new(&id))).map_err(repeated)?;
        }
    }
    validate(&schema, &policies, &sources)?;
    Ok(Loaded { schema, policies, names })
}

/// The policies of one text, by their names.
fn parse(text: &SourceText) -> Result<Vec<(String, cedar_policy::Policy)>, PolicyError> {
    let syntax = |error: cedar_policy::ParseErrors| PolicyError::Syntax {
        file: text.name.clone(),
        line: text.line_of(&error),
        message: error.to_string(),
    };
    let set: PolicySet = text.text.parse().map_err(syntax)?;
    if set.num_of_templates() > 0 {
        return Err(PolicyError::Template { file: text.name.clone() });
    }
    // Cedar names them `policy0` and so on, in their order in the text.
    let place = |policy: &cedar_policy::Policy| {
        policy.id().to_string().trim_start_matches("policy").parse().map_or(0, |index: usize| index + 1)
    };
    let named = |policy: &cedar_policy::Policy| match policy.annotation("id") {
        Some(id) if !id.is_empty() => (id.to_owned(), policy.clone()),
        _ => (format!("{}#{}", text.name, place(policy)), policy.clone()),
    };
    Ok(set.policies().map(named).collect())
}

fn validate(
    schema: &Schema,
    policies: &PolicySet,
    sources: &BTreeMap<String, &SourceText>,
) -> Result<(), PolicyError> {
    let result = Validator::new(schema.clone()).validate(policies, ValidationMode::Strict);
    let error = |error: &cedar_policy::ValidationError| {
        let policy = error.policy_id().to_string();
        let text = sources.get(&policy);
        PolicyError::Validation {
            file: text.map(|text| text.name.clone()).unwrap_or_default(),
            line: text.map_or(1, |text| text.line_of(error)),
            policy,
            message: error.to_string(),
        }
    };
    let first = result.validation_errors().map(error).min_by_key(|error| match error {
        PolicyError::Validation { file, line, .. } => (file.clone(), *line),
        _ => (String::new(), 0),
    });
    first.map_or(Ok(()), Err)
}
