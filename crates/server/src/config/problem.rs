use std::fmt;

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// What was read: a path, or "command line".
    pub source: String,
    /// What is wrong with it, in the order of its fields; never empty.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field, like `nodes[2].id`; empty for the file as a whole.
    pub field: String,
    /// Where the field stands, if it is there.
    pub place: Option<Place>,
    /// What is wrong and, where that is not plain, what to write instead.
    pub what: String,
}

/// A place in a text; both count from 1, columns in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be used:", self.source)?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.field.as_str(), self.place) {
            ("", None) => {}
            ("", Some(place)) => write!(f, "{place}: ")?,
            (field, None) => write!(f, "{field}: ")?,
            (field, Some(place)) => write!(f, "{field} ({place}): ")?,
        }
        f.write_str(&self.what)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}
