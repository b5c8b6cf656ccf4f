//! Rate limits by the generic cell rate algorithm (GCRA, ITU-T I.371), which spaces requests evenly, lets a burst
//! through, and needs one number per key.
//!
//! A [`Quota`] says how many; a [`RateLimiter`] counts for one machine, in fixed memory shared by all cores; a
//! [`Store`] counts for many (`RedisStore`, feature `redis`). Both give a [`Decision`], which [`fields`] turns into
//! `RateLimit`, `RateLimit-Policy` and `Retry-After`.
//!
//! To hold a client to several quotas, ask one limiter after the other and stop at the first refusal.

mod fields;
mod limiter;
mod quota;
#[cfg(feature = "redis")]
mod redis_store;
mod store;

pub use fields::{RATE_LIMIT, RATE_LIMIT_POLICY, fields};
pub use limiter::{RateLimiter, address_key};
pub use quota::{Decision, Quota, QuotaError, TooHeavy};
#[cfg(feature = "redis")]
pub use redis_store::RedisStore;
pub use store::{Checked, Store, StoreError};
