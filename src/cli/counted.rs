//! A number and what it counts.

/// Returns the number with its noun, as in `1 owner` and `3 owners`.
pub(super) fn counted(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };

    format!("{number} {thing}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!(counted(0, "owner"), "0 owners");
        assert_eq!(counted(1, "owner"), "1 owner");
        assert_eq!(counted(2, "owner"), "2 owners");
    }
}
