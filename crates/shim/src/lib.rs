//! One small process per container: standard streams, log, exit record.
//!
//! (The lead writes this crate since 10:56: protocol, client, streams, log and exit; `init` is G's.)
