//! Laboratory.
