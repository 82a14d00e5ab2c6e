//! The gantry and docker commands: a client of the Engine API.
