//! Numbers that look random, the same for the same seed.

/// A generator of numbers (SplitMix64, Steele, Lea and Flood 2014). Nothing secret depends on it.
pub(super) struct Random(u64);

impl Random {
    /// Begins with that seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);

        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `end`; 0 if there is none.
    pub fn below(&mut self, end: usize) -> usize {
        let end = end.max(1) as u64;

        (self.number() % end) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_below_the_end_comes_about_as_often() {
        let mut random = Random::new(7);
        let mut counts = [0; 10];

        for _ in 0..10_000 {
            counts[random.below(10)] += 1;
        }

        assert!(counts.iter().all(|count| (800..1_200).contains(count)));
        assert_eq!(random.below(0), 0);
    }
}
