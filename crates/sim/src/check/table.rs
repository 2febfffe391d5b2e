use std::fmt;

use quorate_record::{Key, NodeId, Version};

use super::history::{Call, History, Op, OpId, Outcome};

/// Operations of a [`History`] as a table for people, one a line.
#[derive(Clone, Debug)]
pub struct Table<'h> {
    history: &'h History,
    ops: Vec<OpId>,
}

impl History {
    /// A table of these operations, in this order.
    #[must_use]
    pub fn table(&self, ops: &[OpId]) -> Table<'_> {
        Table { history: self, ops: ops.to_vec() }
    }

    /// A table of all operations on a key.
    #[must_use]
    pub fn table_of_key(&self, key: &Key) -> Table<'_> {
        self.table(self.of_key(key))
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = ["op", "invoke µs", "return µs", "node", "call", "answer"].map(String::from);
        let rows: Vec<_> = std::iter::once(heads)
            .chain(self.ops.iter().map(|&id| row(id, self.history.op(id))))
            .collect();
        let mut widths = [0; 6];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for [op, invoke, end, node, call, answer] in &rows {
            let [a, b, c, d, e, _] = widths;
            writeln!(f, "{op:<a$}  {invoke:>b$}  {end:>c$}  {node:<d$}  {call:<e$}  {answer}")?;
        }
        Ok(())
    }
}

fn row(id: OpId, op: &Op) -> [String; 6] {
    let request = &op.request;
    let quorum = match (op.is_write(), request.sloppy) {
        (true, false) => format!("w={}", request.needed),
        (true, true) => format!("w={} sloppy", request.needed),
        (false, false) => format!("r={}", request.needed),
        (false, true) => format!("r={} sloppy", request.needed),
    };
    let call = match request.call {
        Call::Put { id } => format!("put {id} {quorum}"),
        Call::Delete { id } => format!("delete ({id}) {quorum}"),
        Call::Get => format!("get {quorum}"),
    };
    let end = op.answers().first().map_or_else(|| "-".to_owned(), |it| it.at_us.to_string());
    let answers: Vec<_> = op.answers().iter().map(|it| outcome_text(&it.outcome)).collect();
    let answer = match (answers.as_slice(), op.is_abandoned()) {
        ([], true) => "given up".to_owned(),
        ([], false) => "none".to_owned(),
        (answers, _) => answers.join(", then "),
    };
    [id.to_string(), op.invoke_us.to_string(), end, request.coordinator.to_string(), call, answer]
}

fn outcome_text(outcome: &Outcome) -> String {
    let counted = |strict: bool, nodes: &[NodeId]| {
        let names: Vec<_> = nodes.iter().map(NodeId::as_str).collect();
        format!("{}{}", names.join(","), if strict { "" } else { " sloppy" })
    };
    let under = |version: &Option<Version>| {
        version.map_or_else(String::new, |version| format!(" under {version}"))
    };
    match outcome {
        Outcome::Acked { version, strict, acks } => {
            format!("acked {version} by {}", counted(*strict, acks))
        }
        Outcome::Rejected => "rejected".to_owned(),
        Outcome::Indeterminate { version } => format!("indeterminate{}", under(version)),
        Outcome::Found { id, version, strict, from } => {
            format!("found {id} under {version} from {}", counted(*strict, from))
        }
        Outcome::Absent { version, strict, from } => {
            format!("absent{} from {}", under(version), counted(*strict, from))
        }
        Outcome::Failed => "failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::Request;
    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_operation() {
        let node = NodeId::new("n1").unwrap();
        let request = |call| Request {
            key: Key::new("k").unwrap(),
            coordinator: node,
            call,
            needed: 2,
            sloppy: false,
        };
        let mut history = History::new(3);
        let put = history.invoke(request(Call::Put { id: 7 }), 10);
        let get = history.invoke(request(Call::Get), 200);
        let from = vec![node, NodeId::new("n3").unwrap()];
        history.answer(get, 450, Outcome::Absent { version: None, strict: true, from });
        history.abandon(put);
        assert_eq!(
            history.table_of_key(&Key::new("k").unwrap()).to_string(),
            "op  invoke µs  return µs  node  call       answer\n\
             #0         10          -  n1    put 7 w=2  given up\n\
             #1        200        450  n1    get r=2    absent from n1,n3\n"
        );
    }
}
