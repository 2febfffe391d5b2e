//! Keys, values and the order in which they are used: the same for every store and in every run.

/// Bytes of every key.
pub const KEY_BYTES: usize = 16;
/// Bytes of a value, where nothing else is said.
pub const VALUE_BYTES: usize = 100;

/// What a value begins with: the number of its key, and how often that had been written before.
const STAMP_BYTES: usize = 16;
const POOL_BYTES: usize = 1 << 20;

/// The key of a number. Numbers that follow each other have keys that lie far apart.
pub fn key(number: u64) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    let (high, low) = key.split_at_mut(8);
    high.copy_from_slice(&mix(number).to_be_bytes());
    low.copy_from_slice(&mix(!number).to_be_bytes());
    key
}

/// Values that cannot be compressed, and that say whose they are.
pub struct Values {
    pool: Vec<u8>,
    bytes: usize,
}

impl Values {
    /// Values of `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        assert!(bytes >= STAMP_BYTES, "a value must hold its stamp");
        let mut random = Random::new(0x7661_6c75_6573);
        let pool = (0..(POOL_BYTES + bytes) / 8 + 1).flat_map(|_| random.next().to_le_bytes());
        Self { pool: pool.collect(), bytes }
    }

    /// Writes the value of `generation` of the key with this number into `out`.
    pub fn fill(&self, number: u64, generation: u64, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&generation.to_le_bytes());
        out.extend_from_slice(self.rest(number, generation));
    }

    /// Whether this can be a value of the key with this number. Looks at the stamp only: the rest of the time that
    /// would take is not the store's.
    pub fn is_of(&self, number: u64, value: &[u8]) -> bool {
        value.len() == self.bytes && value[..8] == number.to_le_bytes()
    }

    /// Whether this is, in every byte, a value of the key with this number.
    pub fn is_exactly_of(&self, number: u64, value: &[u8]) -> bool {
        if !self.is_of(number, value) {
            return false;
        }
        let generation = u64::from_le_bytes(value[8..16].try_into().expect("eight bytes"));
        value[STAMP_BYTES..] == *self.rest(number, generation)
    }

    fn rest(&self, number: u64, generation: u64) -> &[u8] {
        let at = mix(number ^ generation.rotate_left(40)) as usize % POOL_BYTES;
        &self.pool[at..at + self.bytes - STAMP_BYTES]
    }
}

/// A small generator of numbers (splitmix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// One of `0..end`, each as likely as any other.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Some numbers far more often than others (Gray et al., "Quickly generating billion-record synthetic databases").
#[derive(Clone)]
pub struct Zipf {
    count: f64,
    skew: f64,
    zeta: f64,
    alpha: f64,
    eta: f64,
}

impl Zipf {
    pub fn new(count: u64, skew: f64) -> Self {
        let zeta_of = |n: u64| (1..=n).map(|rank| (rank as f64).powf(-skew)).sum::<f64>();
        let (zeta, count) = (zeta_of(count), count as f64);
        let alpha = 1.0 / (1.0 - skew);
        let eta = (1.0 - (2.0 / count).powf(1.0 - skew)) / (1.0 - zeta_of(2) / zeta);
        Self { count, skew, zeta, alpha, eta }
    }

    pub fn pick(&self, random: &mut Random) -> u64 {
        let fraction = random.fraction();
        let scaled = fraction * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(self.skew) {
            return 1;
        }
        let rank = self.count * (self.eta * fraction - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.count as u64 - 1)
    }
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_recognized_as_that_of_its_key_alone() {
        let values = Values::new(100);
        let mut value = Vec::new();
        values.fill(7, 3, &mut value);
        assert!(values.is_exactly_of(7, &value) && !values.is_of(8, &value));
        value[99] ^= 1;
        assert!(!values.is_exactly_of(7, &value));
    }

    #[test]
    fn the_first_of_a_thousand_is_picked_about_an_eighth_of_the_time() {
        let (zipf, mut random) = (Zipf::new(1_000, 0.99), Random::new(1));
        let picks: Vec<u64> = (0..100_000).map(|_| zipf.pick(&mut random)).collect();
        let share = picks.iter().filter(|&&pick| pick == 0).count() as f64 / 100_000.0;
        assert!((0.12..0.14).contains(&share), "{share}");
        assert!(picks.iter().all(|&pick| pick < 1_000));
    }
}
