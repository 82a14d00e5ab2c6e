//! One small process per container: standard streams, log, exit record.
