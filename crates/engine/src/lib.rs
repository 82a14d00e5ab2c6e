//! The life of containers, execs, volumes and images, and the events they cause.
