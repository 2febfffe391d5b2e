//! What happened, as one number and, if somebody wants to read it, as text.

/// A running hash of everything that happens in a world, and optionally a log of it.
///
/// Two runs with the same hash did the same in the same order.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    events: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// Begins to keep lines.
    pub fn keep_lines(&mut self) {
        self.lines.get_or_insert_default();
    }

    /// The hash of all that was noted so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events were noted so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The lines kept so far, oldest first.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }

    /// Takes an event into the hash.
    pub fn note(&mut self, words: &[u64]) {
        self.events += 1;
        for word in words {
            let mixed = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.hash = mixed ^ (mixed >> 29);
        }
    }

    /// Adds a line, if lines are kept; it is only made then.
    pub fn line(&mut self, at_us: u64, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            let (seconds, rest) = (at_us / 1_000_000, at_us % 1_000_000);
            lines.push(format!("{seconds:4}.{rest:06} {}", line()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_content_both_count() {
        let hash = |words: &[u64]| {
            let mut trace = Trace::default();
            trace.note(words);
            trace.hash()
        };
        assert_ne!(hash(&[1, 2]), hash(&[2, 1]));
        assert_ne!(hash(&[1, 2]), hash(&[1, 3]));
        assert_eq!(hash(&[1, 2]), hash(&[1, 2]));
    }

    #[test]
    fn lines_are_made_only_if_wanted() {
        let mut trace = Trace::default();
        trace.line(0, || unreachable!("nobody reads it"));
        trace.keep_lines();
        trace.line(1_500_000, || "n1 starts".to_owned());
        assert_eq!(trace.lines(), ["   1.500000 n1 starts"]);
    }
}
