//! Random numbers that a test repeats by their seed.

/// A generator that returns the same numbers for the same seed (xorshift, Marsaglia 2003).
pub struct SeededNumbers(pub u64);

impl SeededNumbers {
    /// Returns the next number, which is less than `below`.
    pub fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;

        (self.0 >> 33) as usize % below
    }
}
