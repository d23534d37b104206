//! What the kernel holds of one NIC, compared with what it is to hold.

/// What the kernel holds of one NIC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// How many elements of sets and maps were looked for.
    pub elements: usize,
    /// How many rules its groups have in the kernel.
    pub rules: usize,
    /// What is not there, or not as it should be, in words; the first few.
    pub missing: Vec<String>,
}
