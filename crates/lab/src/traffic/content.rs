//! Deterministic pseudo-random bytes: both ends make the same ones, and a checksum over what has
//! arrived is compared with the one over what should have.

/// A stream of bytes that looks random and is the same for the same seed (xorshift64*).
#[derive(Debug, Clone)]
pub struct Content {
    state: u64,
}

impl Content {
    /// A stream of its own for each seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // The state must not be zero, where xorshift stays for ever.
        Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    /// Fills `buffer` with the next bytes.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }

    /// The next `length` bytes.
    #[must_use]
    pub fn take(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes);
        bytes
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// A 64-bit checksum (FNV-1a over words of eight bytes) that notices lost, changed, doubled and
/// exchanged bytes.
#[derive(Debug, Clone)]
pub struct Checksum {
    sum: u64,
    word: u64,
    count: u64,
}

impl Default for Checksum {
    fn default() -> Self {
        Self {
            sum: 0xcbf2_9ce4_8422_2325,
            word: 0,
            count: 0,
        }
    }
}

impl Checksum {
    /// Adds bytes; how they are cut into calls makes no difference.
    pub fn add(&mut self, bytes: &[u8]) {
        let to_word = (8 - (self.count % 8) as usize) % 8;
        let (start, bytes) = bytes.split_at(to_word.min(bytes.len()));
        self.add_bytes(start);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.add_word(u64::from_be_bytes(*word));
        }
        self.count += 8 * words.len() as u64;
        self.add_bytes(rest);
    }

    fn add_bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.word = self.word << 8 | u64::from(byte);
            self.count += 1;
            if self.count.is_multiple_of(8) {
                self.add_word(self.word);
            }
        }
    }

    fn add_word(&mut self, word: u64) {
        self.sum = (self.sum ^ word).wrapping_mul(0x0100_0000_01b3);
    }

    /// How many bytes were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The checksum over all of them.
    #[must_use]
    pub fn value(&self) -> u64 {
        let rest = match self.count % 8 {
            0 => self.count,
            bytes => self.count ^ (self.word << (64 - 8 * bytes)),
        };
        (self.sum ^ rest).wrapping_mul(0x0100_0000_01b3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let bytes = Content::new(7).take(10_000);
        assert_eq!(bytes, Content::new(7).take(10_000));
        assert_ne!(bytes, Content::new(8).take(10_000));
        assert!((0..=255).all(|value| bytes.contains(&value)));
    }

    #[test]
    fn the_checksum_does_not_depend_on_how_the_bytes_are_cut() {
        let bytes = Content::new(1).take(1003);
        let mut whole = Checksum::default();
        whole.add(&bytes);
        let mut pieces = Checksum::default();
        bytes.chunks(13).for_each(|piece| pieces.add(piece));
        assert_eq!(whole.value(), pieces.value());
    }

    #[test]
    fn the_checksum_notices_each_changed_byte_and_a_lost_end() {
        let bytes = Content::new(1).take(43);
        let sum = |bytes: &[u8]| {
            let mut sum = Checksum::default();
            sum.add(bytes);
            sum.value()
        };
        let right = sum(&bytes);
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            assert_ne!(sum(&wrong), right, "byte {at}");
            assert_ne!(sum(&bytes[..at]), right, "cut at {at}");
        }
    }
}
