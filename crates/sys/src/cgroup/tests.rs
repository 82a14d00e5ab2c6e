//! Against the kernel, in groups of this process's own.
