//! What touches the Linux kernel.
