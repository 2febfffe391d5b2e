use std::{fmt, str::FromStr};

use serde::Serialize;

use crate::{Distribution, random::Random};

/// What is done to one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Reads a key.
    Get,
    /// Writes one of the keys that there are.
    Put,
    /// Writes a new key.
    Insert,
    /// Reads a key, then writes it: two requests, and one latency from the first to the end of the
    /// second.
    ReadModifyWrite,
    /// Deletes a key.
    Delete,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Get, Self::Put, Self::Insert, Self::ReadModifyWrite, Self::Delete];

    /// How it is called in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Insert => "insert",
            Self::ReadModifyWrite => "read-modify-write",
            Self::Delete => "delete",
        }
    }
}

/// Which operations are done, and how often each: workloads A, B, C, D and F of YCSB (Cooper et al.,
/// SoCC 2010), or one operation alone.
///
/// ```
/// use quorate_load::{Distribution, Mix};
///
/// let mix: Mix = "d".parse()?;
/// assert_eq!(mix, Mix::D);
/// assert_eq!(mix.distribution(), Distribution::Latest);
/// # Ok::<(), quorate_load::UnknownName>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mix {
    /// Update heavy: 50 % gets, 50 % puts.
    A,
    /// Read mostly: 95 % gets, 5 % puts.
    B,
    /// Read only.
    C,
    /// Read latest: 95 % gets of what was inserted last, 5 % inserts.
    D,
    /// 50 % gets, 50 % read-modify-writes.
    F,
    /// Gets alone.
    Get,
    /// Puts alone.
    Put,
    /// Inserts alone.
    Insert,
    /// Deletes alone.
    Delete,
}

impl Mix {
    const NAMES: [(&'static str, Self); 9] = [
        ("a", Self::A),
        ("b", Self::B),
        ("c", Self::C),
        ("d", Self::D),
        ("f", Self::F),
        ("get", Self::Get),
        ("put", Self::Put),
        ("insert", Self::Insert),
        ("delete", Self::Delete),
    ];

    /// The distribution that belongs to it: YCSB's, and uniform where one operation is alone.
    #[must_use]
    pub fn distribution(self) -> Distribution {
        match self {
            Self::A | Self::B | Self::C | Self::F => Distribution::Zipfian,
            Self::D => Distribution::Latest,
            Self::Get | Self::Put | Self::Insert | Self::Delete => Distribution::Uniform,
        }
    }

    /// How many of a hundred operations are the first one, and what the others are.
    fn shares(self) -> (u64, Operation, Operation) {
        match self {
            Self::A => (50, Operation::Get, Operation::Put),
            Self::B => (95, Operation::Get, Operation::Put),
            Self::D => (95, Operation::Get, Operation::Insert),
            Self::F => (50, Operation::Get, Operation::ReadModifyWrite),
            Self::C | Self::Get => (100, Operation::Get, Operation::Get),
            Self::Put => (100, Operation::Put, Operation::Put),
            Self::Insert => (100, Operation::Insert, Operation::Insert),
            Self::Delete => (100, Operation::Delete, Operation::Delete),
        }
    }

    pub(crate) fn draw(self, random: &mut Random) -> Operation {
        let (percent, first, second) = self.shares();
        if percent == 100 || random.below(100) < percent { first } else { second }
    }
}

/// A name that stands for nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is none of {known}")]
pub struct UnknownName {
    pub(crate) name: String,
    pub(crate) known: String,
}

/// What `name` stands for among `names`, whatever its case.
pub(crate) fn named<T: Copy>(name: &str, names: &[(&str, T)]) -> Result<T, UnknownName> {
    let found = names.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|&(_, value)| value).ok_or_else(|| {
        let known: Vec<_> = names.iter().map(|(known, _)| *known).collect();
        UnknownName { name: name.to_owned(), known: known.join(", ") }
    })
}

impl FromStr for Mix {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        named(name, &Self::NAMES)
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, mix)| mix == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for (name, mix) in Mix::NAMES {
            assert_eq!(mix.to_string(), name);
            assert_eq!(name.to_uppercase().parse(), Ok(mix));
        }
        let unknown = "e".parse::<Mix>().unwrap_err().to_string();
        assert_eq!(unknown, r#""e" is none of a, b, c, d, f, get, put, insert, delete"#);
    }

    #[test]
    fn operations_come_as_often_as_the_mix_says() {
        for (mix, first, percent) in [
            (Mix::A, Operation::Get, 50),
            (Mix::B, Operation::Get, 95),
            (Mix::C, Operation::Get, 100),
            (Mix::D, Operation::Insert, 5),
            (Mix::F, Operation::ReadModifyWrite, 50),
            (Mix::Delete, Operation::Delete, 100),
        ] {
            let mut random = Random::new(3);
            let hits = (0..10_000).filter(|_| mix.draw(&mut random) == first).count();
            assert!(hits.abs_diff(percent * 100) < 200, "{mix}: {hits}");
        }
    }
}
