//! What is random, the same each time unless asked otherwise; and how much is to be done.

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators").
pub(super) struct Random(u64);

impl Random {
    /// One that begins as `SGAGENT_FAULTS_SEED` says.
    pub(super) fn new() -> Self {
        let seed = number("SGAGENT_FAULTS_SEED", 1);
        Self(u64::try_from(seed).unwrap() ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// Less than `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        usize::try_from(value).unwrap() % end
    }
}

/// A number of the environment.
pub(super) fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}
