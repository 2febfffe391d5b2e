use std::collections::BTreeMap;

use super::Place;

/// Deepest nesting of arrays and objects.
const MAX_DEPTH: usize = 16;

/// Where each field of a JSON text stands, by its path (`nodes[2].id`).
///
/// serde forgets places as soon as a value is read, and silently keeps the last of two members of
/// the same name; this finds both again.
#[derive(Debug, Default)]
pub(super) struct Outline {
    places: BTreeMap<String, Place>,
    /// Paths of members that are there more than once, with the place of the repetition.
    pub(super) repeated: Vec<(String, Place)>,
    /// Where the nesting becomes too deep.
    pub(super) too_deep: Option<Place>,
}

impl Outline {
    /// Walks over `text`, which must have been found to be valid JSON.
    pub(super) fn of(text: &str) -> Self {
        let mut scan = Scan { text, at: 0, outline: Self::default() };
        scan.value("", 0);
        scan.outline
    }

    /// Where the field at `path` stands, if it is there.
    pub(super) fn place(&self, path: &str) -> Option<Place> {
        self.places.get(path).copied()
    }
}

/// The path of member `name` of the object at `path`.
pub(super) fn member(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The path of element `index` of the array at `path`.
pub(super) fn element(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    outline: Outline,
}

impl Scan<'_> {
    fn value(&mut self, path: &str, depth: usize) {
        self.skip_space();
        if depth > MAX_DEPTH {
            self.outline.too_deep.get_or_insert(place_of(self.text, self.at));
            self.at = self.text.len();
            return;
        }
        match self.peek() {
            Some(b'{') => self.object(path, depth),
            Some(b'[') => self.array(path, depth),
            Some(b'"') => drop(self.string()),
            _ => {
                while self.peek().is_some_and(|byte| !b",]} \t\r\n".contains(&byte)) {
                    self.at += 1;
                }
            }
        }
        self.skip_space();
    }

    fn object(&mut self, path: &str, depth: usize) {
        self.at += 1;
        self.skip_space();
        while self.peek() == Some(b'"') {
            let place = place_of(self.text, self.at);
            let path = member(path, &self.string());
            if self.outline.places.insert(path.clone(), place).is_some() {
                self.outline.repeated.push((path.clone(), place));
            }
            self.skip_space();
            self.at += 1; // the colon
            self.value(&path, depth + 1);
            self.separator();
        }
        self.at += 1;
    }

    fn array(&mut self, path: &str, depth: usize) {
        self.at += 1;
        self.skip_space();
        let mut index = 0;
        while self.peek().is_some_and(|byte| byte != b']') {
            let path = element(path, index);
            self.outline.places.insert(path.clone(), place_of(self.text, self.at));
            self.value(&path, depth + 1);
            self.separator();
            index += 1;
        }
        self.at += 1;
    }

    fn string(&mut self) -> String {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                break;
            }
        }
        let quoted = self.text.get(start..self.at).unwrap_or_default();
        serde_json::from_str(quoted).unwrap_or_default()
    }

    fn separator(&mut self) {
        if self.peek() == Some(b',') {
            self.at += 1;
        }
        self.skip_space();
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(|byte| b" \t\r\n".contains(&byte)) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

fn place_of(text: &str, at: usize) -> Place {
    let before = &text.as_bytes()[..at];
    let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    Place { line, column: at - line_start + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_its_place() {
        let outline =
            Outline::of("{\n  \"a\": [1, {\"b\\u0063\": \"}\\\"\"}],\n\t\"d\" : null }\n");
        let found: Vec<_> =
            outline.places.iter().map(|(path, p)| (path.as_str(), p.line, p.column)).collect();
        assert_eq!(
            found,
            [("a", 2, 3), ("a[0]", 2, 9), ("a[1]", 2, 12), ("a[1].bc", 2, 13), ("d", 3, 2)]
        );
        assert!(outline.repeated.is_empty());
    }

    #[test]
    fn a_repeated_member_is_noticed() {
        let outline = Outline::of("{\"a\": {\"x\": 1},\n \"a\": {\"x\": 2}}");
        let repeated: Vec<_> =
            outline.repeated.iter().map(|(path, p)| (path.as_str(), p.line)).collect();
        assert_eq!(repeated, [("a", 2), ("a.x", 2)]);
    }

    #[test]
    fn nesting_has_a_limit() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Outline::of(&nested(MAX_DEPTH)).too_deep.is_none());
        assert!(Outline::of(&nested(MAX_DEPTH + 1)).too_deep.is_none());
        assert!(Outline::of(&nested(MAX_DEPTH + 2)).too_deep.is_some());
        assert!(Outline::of(&nested(120)).too_deep.is_some());
    }
}
