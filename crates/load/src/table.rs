use std::fmt::Write;

use crate::{OperationReport, Report, latency::Micros};

const COLUMNS: [&str; 9] =
    ["operation", "done", "failed", "ops/s", "mean", "p50", "p90", "p99", "p99.9"];
const LAST_COLUMN: &str = "max";

/// The report for people.
pub(crate) fn of(report: &Report) -> String {
    let mut text = format!("{}\n", report.setup.line());
    let stopped = if report.stopped { ", then stopped" } else { "" };
    line(&mut text, &format!("measured for {:.1} s{stopped}\n", report.measured_s));
    let mut rows = vec![head()];
    rows.extend(report.operations.iter().map(|(name, operation)| row(name, operation)));
    if report.operations.len() != 1 {
        rows.push(row("all", &report.total));
    }
    line_up(&mut text, &rows);
    for (count, what) in [
        (report.total.absent, "gets found nothing; --load writes all keys first"),
        (report.shed, "operations were shed: due when too many were outstanding"),
        (report.not_begun, "operations were due and not begun at the end"),
    ] {
        if count > 0 {
            line(&mut text, &format!("\n{count} {what}"));
        }
    }
    for (kind, errors) in &report.errors {
        line(&mut text, &format!("\n{} failed, {kind}; the first: {}", errors.count, errors.first));
    }
    text
}

fn head() -> Vec<String> {
    COLUMNS.into_iter().chain([LAST_COLUMN]).map(str::to_owned).collect()
}

fn row(name: &str, operation: &OperationReport) -> Vec<String> {
    let OperationReport { done, failed, per_second, latency, .. } = operation;
    let counts =
        [name.to_owned(), done.to_string(), failed.to_string(), format!("{per_second:.0}")];
    let quantiles =
        [latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us];
    let latencies = [latency.mean_us].into_iter().chain(quantiles.map(|us| us as f64));
    let shown = |us| if *done == 0 { "-".to_owned() } else { Micros(us).to_string() };
    counts.into_iter().chain(latencies.map(shown)).collect()
}

fn line_up(text: &mut String, rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    for row in rows {
        let cells =
            row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
        line(text, &cells.collect::<Vec<_>>().join("  "));
    }
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("memory can be written");
}

#[cfg(test)]
mod tests {
    use crate::report::tests::report;

    #[test]
    fn the_table_lines_up_and_says_what_went_wrong() {
        let expected = "\
mix a, 100000 keys (zipfian), values of 100 bytes, open loop at 400 ops/s, poisson arrivals, \
4 connections to 2 nodes
measured for 3.0 s

operation  done  failed  ops/s     mean      p50      p90      p99    p99.9      max
get        1000       0    333   501 ms   500 ms   900 ms   990 ms   999 ms   1.00 s
put           1       1      0  2.00 ms  2.00 ms  2.00 ms  2.00 ms  2.00 ms  2.00 ms
all        1001       1    334   500 ms   500 ms   900 ms   990 ms   999 ms   1.00 s

2 operations were shed: due when too many were outstanding

1 failed, rejected; the first: a < b
";
        assert_eq!(report().to_table(), expected);
    }
}
