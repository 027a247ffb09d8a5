//! SipHash-1-3 over whole words: the keyed hash behind every table and every choice an outsider
//! could try to predict.
//!
//! Tables indexed by addresses that strangers pick need a keyed hash, or the strangers can make all
//! of them collide. The standard library's keyed hasher takes its key from the system, which this
//! crate may not do: here the key is an argument.

use std::hash::{BuildHasher, Hasher};

/// A key, and the hash function that goes with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SipKey {
    k0: u64,
    k1: u64,
}

impl SipKey {
    pub(crate) const fn new(key: [u64; 2]) -> Self {
        Self {
            k0: key[0],
            k1: key[1],
        }
    }

    /// SipHash-1-3 of the words' little-endian bytes.
    #[inline]
    pub(crate) fn hash<const N: usize>(&self, words: [u64; N]) -> u64 {
        let mut state = self.build_hasher();
        for word in words {
            state.write_u64(word);
        }
        state.finish()
    }

    /// The hash of an IPv6 address.
    #[inline]
    pub(crate) fn hash_address(&self, address: u128) -> u64 {
        self.hash([address as u64, (address >> 64) as u64])
    }
}

impl BuildHasher for SipKey {
    type Hasher = SipHasher;

    #[inline]
    fn build_hasher(&self) -> SipHasher {
        SipHasher {
            v: [
                self.k0 ^ 0x736f_6d65_7073_6575,
                self.k1 ^ 0x646f_7261_6e64_6f6d,
                self.k0 ^ 0x6c79_6765_6e65_7261,
                self.k1 ^ 0x7465_6462_7974_6573,
            ],
            len: 0,
        }
    }
}

/// A hash in the making. Integers of up to 64 bits count as one word each.
pub(crate) struct SipHasher {
    v: [u64; 4],
    len: u64,
}

impl SipHasher {
    #[inline]
    fn round(&mut self) {
        let [v0, v1, v2, v3] = &mut self.v;
        *v0 = v0.wrapping_add(*v1);
        *v2 = v2.wrapping_add(*v3);
        *v1 = v1.rotate_left(13) ^ *v0;
        *v3 = v3.rotate_left(16) ^ *v2;
        *v0 = v0.rotate_left(32);
        *v2 = v2.wrapping_add(*v1);
        *v0 = v0.wrapping_add(*v3);
        *v1 = v1.rotate_left(17) ^ *v2;
        *v3 = v3.rotate_left(21) ^ *v0;
        *v2 = v2.rotate_left(32);
    }

    #[inline]
    fn absorb(&mut self, word: u64) {
        self.v[3] ^= word;
        self.round();
        self.v[0] ^= word;
    }
}

impl Hasher for SipHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    #[inline]
    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.len = self.len.wrapping_add(8);
        self.absorb(value);
    }

    #[inline]
    fn write_u128(&mut self, value: u128) {
        self.write_u64(value as u64);
        self.write_u64((value >> 64) as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        let mut end = Self {
            v: self.v,
            len: self.len,
        };
        end.absorb(self.len << 56);
        end.v[2] ^= 0xff;
        end.round();
        end.round();
        end.round();
        end.v[0] ^ end.v[1] ^ end.v[2] ^ end.v[3]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(key: [u64; 2], words: &[u64]) -> u64 {
        let mut hasher = siphasher::sip::SipHasher13::new_with_keys(key[0], key[1]);
        for word in words {
            hasher.write(&word.to_le_bytes());
        }
        hasher.finish()
    }

    #[test]
    fn words_hash_as_in_another_implementation() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let words = [0x0706_0504_0302_0100, u64::MAX, 0, 0x1234_5678_9abc_def0];
        let sip = SipKey::new(key);
        assert_eq!(sip.hash([]), reference(key, &[]));
        assert_eq!(sip.hash([words[0]]), reference(key, &words[..1]));
        assert_eq!(sip.hash(words), reference(key, &words));
        let address = u128::from(words[0]) | u128::from(words[3]) << 64;
        assert_eq!(
            sip.hash_address(address),
            reference(key, &[words[0], words[3]])
        );
    }

    #[test]
    fn the_key_and_every_input_change_the_hash() {
        let one = SipKey::new([1, 2]);
        assert_ne!(one.hash([7]), SipKey::new([1, 3]).hash([7]));
        assert_ne!(one.hash([7]), one.hash([7, 0]));
        assert_eq!(one.hash_one(7u32), one.hash([7]));
    }
}
