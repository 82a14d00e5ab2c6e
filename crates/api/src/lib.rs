//! Engine API types at the latest version, stream framing, and what older versions differ in.
