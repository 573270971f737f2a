//! Dev.
