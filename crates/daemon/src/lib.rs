//! The Engine API over HTTP: routes, versions, hijacked streams, configuration.
