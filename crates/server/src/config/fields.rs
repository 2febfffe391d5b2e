use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{
    Problem,
    outline::{Outline, element, member},
};

/// The problems found so far, with the means to say where they are.
pub(super) struct Problems {
    outline: Outline,
    found: Vec<Problem>,
}

impl Problems {
    pub(super) fn new(outline: Outline) -> Self {
        let found = outline
            .repeated
            .iter()
            .map(|(field, place)| Problem {
                field: field.clone(),
                place: Some(*place),
                what: "is there more than once".to_owned(),
            })
            .collect();
        Self { outline, found }
    }

    pub(super) fn add(&mut self, field: &str, what: impl Into<String>) {
        let place = self.outline.place(field);
        self.found.push(Problem { field: field.to_owned(), place, what: what.into() });
    }

    pub(super) fn has(&self, field: &str) -> bool {
        self.outline.place(field).is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The problems in the order of the file; those with what is not there come last.
    pub(super) fn into_found(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|problem| {
            problem.place.map_or((usize::MAX, 0), |place| (place.line, place.column))
        });
        self.found
    }
}

/// The members of one object, taken out one by one; what is left at the end is unknown.
pub(super) struct Fields {
    path: String,
    members: Map<String, Value>,
}

impl Fields {
    /// The members of `value`; none, and a problem, if it is no object.
    pub(super) fn of(value: Value, path: &str, problems: &mut Problems) -> Self {
        let members = match value {
            Value::Object(members) => members,
            other => {
                problems.add(path, format!("must be an object, not {}", kind(&other)));
                Map::new()
            }
        };
        Self { path: path.to_owned(), members }
    }

    /// The path of member `name`.
    pub(super) fn path(&self, name: &str) -> String {
        member(&self.path, name)
    }

    /// Member `name`, if it is there and of the right type.
    pub(super) fn take<T: DeserializeOwned>(
        &mut self,
        name: &str,
        problems: &mut Problems,
    ) -> Option<T> {
        let value = self.members.remove(name)?;
        serde_json::from_value(value)
            .inspect_err(|error| problems.add(&self.path(name), error.to_string()))
            .ok()
    }

    /// Member `name`, if it is there and `check` has nothing against it.
    pub(super) fn take_checked<T: DeserializeOwned, U>(
        &mut self,
        name: &str,
        problems: &mut Problems,
        check: impl FnOnce(T) -> Result<U, String>,
    ) -> Option<U> {
        check(self.take(name, problems)?)
            .inspect_err(|what| problems.add(&self.path(name), what))
            .ok()
    }

    /// The elements of array `name`, each with its path.
    pub(super) fn take_list(
        &mut self,
        name: &str,
        problems: &mut Problems,
    ) -> Vec<(String, Value)> {
        let path = self.path(name);
        let elements: Vec<Value> = self.take(name, problems).unwrap_or_default();
        elements.into_iter().enumerate().map(|(i, value)| (element(&path, i), value)).collect()
    }

    /// Finds fault with every member that nobody took.
    pub(super) fn finish(self, known: &[&str], problems: &mut Problems) {
        for name in self.members.keys() {
            let path = member(&self.path, name);
            problems.add(&path, format!("unknown field; known are {}", known.join(", ")));
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
