//! Counters that are kept elsewhere, for many machines.

use std::fmt;
use std::num::NonZeroU32;
use std::pin::Pin;

use thiserror::Error;

use super::quota::{Decision, Quota, TooHeavy};

/// Why a store gave no decision.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The request can never be allowed.
    #[error(transparent)]
    TooHeavy(#[from] TooHeavy),
    /// The store cannot be reached, or does not answer as it should. Whether to let the request pass is the caller's
    /// choice: refuse where the limit guards a password, pass where it guards only the load.
    #[error("the rate limit store is not available: check that it runs and can be reached")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The decision of a [`Store`], when it comes.
pub type Checked<'a> = Pin<Box<dyn Future<Output = Result<Decision, StoreError>> + Send + 'a>>;

/// Counters that many machines share. Time is the store's own, so that no machine's clock can help a client.
pub trait Store: fmt::Debug + Send + Sync {
    /// Counts a request of `key` that weighs as much as `weight` plain ones against `quota`, if it is allowed; all or
    /// nothing, and at once for all machines. Counters of quotas of different names are apart.
    fn check<'a>(&'a self, quota: &'a Quota, key: &'a str, weight: NonZeroU32) -> Checked<'a>;
}
