//! Decisions made of octets, so that near octets make near decisions. Where they end all is zero,
//! which is what is most ordinary.

#[derive(Debug)]
pub struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    pub fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn octet(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// Seldom: some octets in 256.
    pub fn seldom(&mut self, octets: u8) -> bool {
        u16::from(self.octet()) + u16::from(octets) > 255
    }

    pub fn either(&mut self) -> bool {
        self.octet() & 1 == 1
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.octet()) % end.max(1)
    }

    pub fn pick<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }

    pub fn list<T>(&mut self, most: usize, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.below(most + 1);
        (0..count).map(|_| one(self)).collect()
    }

    /// The next piece: two octets say how long it is, and the last one is what is left.
    pub fn piece(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (piece, rest) = rest.split_at(length);
        self.0 = rest;
        Some(piece)
    }
}
