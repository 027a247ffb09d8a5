//! Random numbers that come again with their seed, and what they do to files and packets.

/// Random numbers: xorshift.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed.max(1));
        for _ in 0..20 {
            random.below(1);
        }
        random
    }

    /// The next number, below a limit.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % limit.max(1)
    }

    /// What disks, crashes and editors do to a file.
    pub fn damage(&mut self, bytes: &mut Vec<u8>) {
        let (at, value) = (self.below(bytes.len()), self.below(256) as u8);
        match self.below(8) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << (value % 8),
            1 if !bytes.is_empty() => bytes[at] = value,
            2 => bytes.truncate(at),
            3 => bytes.insert(at, value),
            4 => bytes.extend_from_within(at..),
            5 => bytes[at..].fill(0),
            // A digit is another one.
            6 => {
                let digit = bytes[at..].iter().position(u8::is_ascii_digit);
                if let Some(digit) = digit {
                    bytes[at + digit] ^= 1;
                }
            }
            _ => {
                let end = (at + usize::from(value)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
    }

    /// Changes one to eight bytes of a message behind its first `spared`, or cuts it there.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>, spared: usize) {
        for _ in 0..=self.below(8) {
            let Some(room) = bytes.len().checked_sub(spared).filter(|room| *room > 0) else {
                return;
            };
            let (at, value) = (spared + self.below(room), self.below(256) as u8);
            match self.below(12) {
                0 => bytes.truncate(at),
                1 => bytes[at] = 0,
                2 => bytes[at] = 0xff,
                3..7 => bytes[at] ^= 1 << (value % 8),
                7 => bytes.extend_from_within(at..),
                _ => bytes[at] = value,
            }
            bytes.truncate(1400);
        }
    }
}
