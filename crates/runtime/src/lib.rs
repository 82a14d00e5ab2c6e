//! From a bundle to a running process, and the runc command line over it.
