use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use quorate_record::{Key, NodeId, Record, Timestamp, Version, Writer};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::problem::{Problem, shortened};

/// A record as people write it.
///
/// `version` says what `ts`, `writer_id` and `incarnation` say together, for readers whose numbers
/// end at 2^53; one of the two ways is needed, and both must agree.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordForm {
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    ts: Option<u64>,
    writer_id: Option<String>,
    incarnation: Option<u64>,
    version: Option<String>,
    deleted: Option<bool>,
}

/// A key as text if it is UTF-8, in base64 if not.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ShownKey {
    Key(String),
    KeyBase64(String),
}

/// Adds a key to what is shown of it: `key` if it is UTF-8, `key_base64` if not.
pub(super) fn name_key(shown: &mut Map<String, Value>, key: &Key) {
    match ShownKey::new(key) {
        ShownKey::Key(text) => shown.insert("key".into(), text.into()),
        ShownKey::KeyBase64(text) => shown.insert("key_base64".into(), text.into()),
    };
}

/// Reads a JSON body strictly.
///
/// # Errors
/// `400`, which names the field if it can.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let message = error.to_string();
        let is_about_field = ["unknown field `", "missing field `", "duplicate field `"]
            .iter()
            .any(|beginning| message.starts_with(beginning));
        let field = message.split('`').nth(1).filter(|_| is_about_field).unwrap_or("body");
        Problem::bad(field, shortened_message(&message))
    })
}

/// Messages quote what was sent, which may be long.
fn shortened_message(message: &str) -> String {
    const SHOWN: usize = 512;
    message.chars().take(SHOWN).collect()
}

/// The key given under one of two names; `None` if under neither.
///
/// # Errors
/// `400` if it is given under both, is not base64, or is no key.
pub(super) fn key(
    [name, base64_name]: [&'static str; 2],
    text: Option<String>,
    base64: Option<String>,
) -> Result<Option<Key>, Problem> {
    let (name, bytes) = match (text, base64) {
        (None, None) => return Ok(None),
        (Some(text), None) => (name, text.into_bytes()),
        (None, Some(base64)) => (base64_name, from_base64(base64_name, &base64)?),
        (Some(_), Some(_)) => {
            return Err(Problem::bad(base64_name, format!("given beside {name}")));
        }
    };
    Key::new(bytes).map(Some).map_err(|error| Problem::bad(name, error.to_string()))
}

fn from_base64(name: &'static str, text: &str) -> Result<Vec<u8>, Problem> {
    STANDARD.decode(text).map_err(|error| Problem::bad(name, format!("no base64: {error}")))
}

impl RecordForm {
    /// The key and record that are meant.
    ///
    /// # Errors
    /// `400` with the field that is missing or wrong, `413` for a value that is too large.
    pub(super) fn into_record(self, max_value_bytes: usize) -> Result<(Key, Record), Problem> {
        let version = self.version()?;
        let key = key(["key", "key_base64"], self.key, self.key_base64)?
            .ok_or_else(|| Problem::bad("key", "missing"))?;
        let value = from_base64("value", self.value.as_deref().unwrap_or_default())?;
        if value.len() > max_value_bytes {
            return Err(Problem::too_large(max_value_bytes));
        }
        let deleted = self.deleted.unwrap_or(false);
        if deleted && !value.is_empty() {
            return Err(Problem::bad("value", "a deleted record has no value"));
        }
        let value = (!deleted).then(|| Bytes::from(value));
        Ok((key, Record { version, expires_ms: None, value }))
    }

    fn version(&self) -> Result<Version, Problem> {
        let version = self.version.as_deref().map(str::parse::<Version>).transpose();
        let version = version.map_err(|error| Problem::bad("version", error.to_string()))?;
        let node = self.writer_id.as_deref().map(NodeId::new).transpose();
        let node = node.map_err(|error| Problem::bad("writer_id", error.to_string()))?;
        let Some(version) = version else {
            let ts = self.ts.ok_or_else(|| Problem::bad("ts", "missing"))?;
            let node = node.ok_or_else(|| Problem::bad("writer_id", "missing"))?;
            let writer = Writer { node, incarnation: self.incarnation.unwrap_or(0) };
            return Ok(Version { timestamp: Timestamp::from_bits(ts), writer });
        };
        let Writer { node: writer, incarnation } = version.writer;
        for (name, agrees) in [
            ("ts", self.ts.is_none_or(|ts| ts == version.timestamp.bits())),
            ("writer_id", node.is_none_or(|node| node == writer)),
            ("incarnation", self.incarnation.is_none_or(|given| given == incarnation)),
        ] {
            if !agrees {
                return Err(Problem::bad(name, "differs from version"));
            }
        }
        Ok(version)
    }
}

/// A record as it is shown.
pub(super) fn shown_record(key: &Key, record: &Record) -> Map<String, Value> {
    let value = record.value.as_ref().map(|value| STANDARD.encode(value)).unwrap_or_default();
    let mut shown = shown_stamp(record);
    name_key(&mut shown, key);
    shown.insert("value".into(), value.into());
    shown
}

/// A record without its key and value.
pub(super) fn shown_stamp(record: &Record) -> Map<String, Value> {
    let Version { timestamp, writer } = record.version;
    [
        ("ts", Value::from(timestamp.bits())),
        ("writer_id", writer.node.as_str().into()),
        ("incarnation", writer.incarnation.into()),
        ("version", record.version.to_string().into()),
        ("deleted", record.is_tombstone().into()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into_iter()
    .collect()
}

impl ShownKey {
    pub(crate) fn new(key: &Key) -> Self {
        match std::str::from_utf8(key.as_bytes()) {
            Ok(text) => Self::Key(text.to_owned()),
            Err(_) => Self::KeyBase64(STANDARD.encode(key.as_bytes())),
        }
    }
}

/// The node that a hint is for.
///
/// # Errors
/// `400` if it is no node of the cluster.
pub(super) fn known_node<'a>(
    name: &'static str,
    text: &str,
    nodes: impl IntoIterator<Item = &'a NodeId>,
) -> Result<NodeId, Problem> {
    nodes
        .into_iter()
        .find(|node| node.as_str() == text)
        .copied()
        .ok_or_else(|| Problem::bad(name, format!("no node {:?}", shortened(text))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(form: &Value) -> Result<(Key, Record), Problem> {
        parse::<RecordForm>(form.to_string().as_bytes())?.into_record(4)
    }

    #[track_caller]
    fn assert_refused(form: &Value, parameter: &str) {
        let problem = format!("{:?}", read(form).unwrap_err());
        assert!(problem.contains(&format!("(\"parameter\", String({parameter:?}))")), "{problem}");
    }

    #[test]
    fn what_is_shown_can_be_read_back() {
        let writer = Writer { node: NodeId::new("n1").unwrap(), incarnation: 7 };
        let version = Version { timestamp: Timestamp::from_bits(u64::MAX - 1), writer };
        for key in [&b"cat"[..], b"\xff\0"] {
            let key = Key::new(key.to_vec()).unwrap();
            for record in [
                Record::live(version, &b"\0\xffab"[..]),
                Record::live(version, ""),
                Record::tombstone(version),
            ] {
                let shown = Value::Object(shown_record(&key, &record));
                assert_eq!(read(&shown).unwrap(), (key.clone(), record));
            }
        }
    }

    #[test]
    fn a_plain_record_needs_only_key_time_and_writer() {
        let (key, record) = read(&json!({"key": "cat", "ts": 5, "writer_id": "n9"})).unwrap();
        assert_eq!(key.as_bytes(), b"cat");
        assert_eq!(record.value.as_deref(), Some(&b""[..]));
        assert_eq!(record.version.to_string(), "0000000000000005-n9.0");
    }

    #[test]
    fn a_wrong_field_is_named() {
        let version = "0000000000000005-n9.0";
        for (form, parameter) in [
            (json!({"key": "a", "ts": 5, "writer_id": "n9", "colour": 1}), "colour"),
            (json!({"ts": 5, "writer_id": "n9"}), "key"),
            (json!({"key": "", "ts": 5, "writer_id": "n9"}), "key"),
            (json!({"key": "a", "key_base64": "YQ==", "ts": 5, "writer_id": "n9"}), "key_base64"),
            (json!({"key_base64": "YQ", "ts": 5, "writer_id": "n9"}), "key_base64"),
            (json!({"key": "a", "writer_id": "n9"}), "ts"),
            (json!({"key": "a", "ts": 5}), "writer_id"),
            (json!({"key": "a", "ts": 5, "writer_id": "n 9"}), "writer_id"),
            (json!({"key": "a", "ts": -5, "writer_id": "n9"}), "body"),
            (json!({"key": "a", "version": "5-n9.0"}), "version"),
            (json!({"key": "a", "version": version, "ts": 6}), "ts"),
            (json!({"key": "a", "version": version, "writer_id": "n8"}), "writer_id"),
            (json!({"key": "a", "version": version, "incarnation": 1}), "incarnation"),
            (json!({"key": "a", "version": version, "value": "?"}), "value"),
            (json!({"key": "a", "version": version, "value": "YQ==", "deleted": true}), "value"),
            (json!([]), "body"),
        ] {
            assert_refused(&form, parameter);
        }
        let long = json!({"key": "a", "version": version, "value": STANDARD.encode("12345")});
        assert_eq!(read(&long).unwrap_err().status(), 413);
    }
}
