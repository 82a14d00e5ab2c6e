//! What older versions of the API send and expect: converted here, at the edge, so that the engine knows the latest only.
//!
//! Requests are brought to the latest form before the engine sees them ([`create`]); answers are taken back ([`answer`]).
//! Each rule says which version brought the change.

pub(crate) mod answer;
pub(crate) mod create;

pub(crate) use create::create;
