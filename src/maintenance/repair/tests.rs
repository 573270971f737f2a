//! The rules of a repair, on records in memory.
