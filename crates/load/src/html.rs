use std::fmt::Write;

use crate::{
    OperationReport, Report, Second,
    chart::{Chart, Mark, Series, ticks},
    latency::Micros,
};

const STYLE: &str = "\
:root{color-scheme:light dark;--grid:#8884;--dim:#777;--s0:#2563eb;--s1:#d97706;--s2:#be185d}
body{font:15px/1.5 system-ui,sans-serif;max-width:900px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem}figure{margin:1.5rem 0}figcaption{font-weight:600}figcaption b{margin-left:1em}
svg{width:100%;height:auto}svg text{font-size:11px;fill:var(--dim)}
text.x{text-anchor:middle}text.y{text-anchor:end}
.grid{stroke:var(--grid)}.line{fill:none;stroke-width:1.8;stroke-linejoin:round}
.s0{color:var(--s0)}.s1{color:var(--s1)}.s2{color:var(--s2)}.line{stroke:currentColor}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
td,th{text-align:right;padding:.2rem .5rem;border-bottom:1px solid var(--grid)}
td:first-child,th:first-child{text-align:left}
";

/// The report as a page that needs nothing else.
pub(crate) fn of(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>quorate bench</title>\n<style>\n{STYLE}</style>\n<h1>quorate bench</h1>\n"
    );
    let mut add = |part: String| writeln!(page, "{part}").expect("memory can be written");
    add(format!("<p>{}</p>", escaped(&report.setup.line())));
    let nodes = escaped(&report.setup.nodes.join(", "));
    let stopped = if report.stopped { ", then stopped" } else { "" };
    add(format!(
        "<p>Measured for {:.1} s{stopped}, after {:.1} s of warm-up. Nodes: {nodes}. Seed: {}.</p>",
        report.measured_s, report.setup.warm_up_s, report.setup.seed
    ));
    add(table(report));
    if report.shed + report.not_begun > 0 {
        let (shed, not_begun) = (report.shed, report.not_begun);
        add(format!("<p>{shed} operations were shed, {not_begun} still waited at the end.</p>"));
    }
    for (kind, errors) in &report.errors {
        let (kind, first) = (escaped(kind), escaped(&errors.first));
        add(format!("<p>{} failed, {kind}; the first: {first}</p>", errors.count));
    }
    for chart in charts(report) {
        add(chart.to_html());
    }
    page.push_str("</html>\n");
    page
}

/// `text` as it may stand in a page, also within quotes.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

fn table(report: &Report) -> String {
    let mut rows = String::from(
        "<table>\n<tr><th>operation<th>done<th>failed<th>ops/s<th>mean<th>p50<th>p90<th>p99\
         <th>p99.9<th>max\n",
    );
    let all = [("all", &report.total)];
    for (name, operation) in report.operations.iter().map(|(name, row)| (*name, row)).chain(all) {
        let OperationReport { done, failed, per_second, latency, .. } = operation;
        write!(rows, "<tr><td>{name}<td>{done}<td>{failed}<td>{per_second:.0}")
            .expect("memory can be written");
        let quantiles =
            [latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us];
        for us in [latency.mean_us].into_iter().chain(quantiles.map(|us| us as f64)) {
            write!(rows, "<td>{}", Micros(us)).expect("memory can be written");
        }
        rows.push('\n');
    }
    rows + "</table>"
}

fn charts(report: &Report) -> Vec<Chart<'static>> {
    let seconds = &report.seconds;
    let line = |name: &'static str, value: fn(&Second) -> u64| {
        let point = |second: &Second| (second.second as f64, value(second) as f64);
        Series { name, points: seconds.iter().map(point).collect() }
    };
    let last = seconds.len().saturating_sub(1);
    let count: fn(f64) -> String = |count| match count {
        count if count >= 10_000.0 => format!("{:.0}k", count / 1_000.0),
        count if count.fract() == 0.0 => format!("{count:.0}"),
        count => format!("{count:.1}"),
    };
    let micros: fn(f64) -> String = |us| Micros(us).to_string();
    let over_time = |title: &'static str, unit, series| {
        let marks = ticks(last.max(1) as f64).into_iter();
        let marks = marks.filter(|at| at.fract() == 0.0);
        let x_marks = marks.map(|at| Mark { at, text: format!("{at:.0}") }).collect();
        Chart { title, x_label: "second", x_marks, series, unit }
    };
    vec![
        over_time("Operations done per second", count, vec![line("done", |s| s.done)]),
        over_time(
            "Latency per second",
            micros,
            vec![line("p50", |s| s.p50_us), line("p99", |s| s.p99_us), line("max", |s| s.max_us)],
        ),
        percentiles(report, micros),
        over_time(
            "Failed and shed per second",
            count,
            vec![line("failed", |s| s.failed), line("shed", |s| s.shed)],
        ),
    ]
}

/// Each step to the right is a tenth of the operations that are slower.
fn percentiles(report: &Report, unit: fn(f64) -> String) -> Chart<'static> {
    let place = |percentile: f64| -((1.0 - percentile / 100.0).log10());
    let below = report.percentiles.iter().filter(|point| point.percentile < 100.0);
    let mut points: Vec<_> =
        below.map(|point| (place(point.percentile), point.latency_us as f64)).collect();
    if let (Some(&(x, _)), Some(longest)) = (points.last(), report.percentiles.last()) {
        points.push((x, longest.latency_us as f64));
    }
    let right = points.last().map_or(1.0, |&(x, _)| x);
    let names = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %"];
    let marks = (0u32..).zip(names).map(|(at, name)| (f64::from(at), name));
    let marks = marks.take_while(|&(at, _)| at <= right);
    let x_marks = marks.map(|(at, name)| Mark { at, text: name.to_owned() }).collect();
    let series = vec![Series { name: "latency", points }];
    Chart {
        title: "Latency by percentile",
        x_label: "so many took at most as long",
        x_marks,
        series,
        unit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn a_page_refers_to_nothing_outside() {
        let page = report().to_html();
        for outside in ["http:", "https:", "//", "src=", "href=", "url(", "@import", "<script"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn a_page_has_all_plots() {
        let page = report().to_html();
        assert_eq!(page.matches("<svg ").count(), 4);
        assert_eq!(page.matches("<path class=\"line ").count(), 7);
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }

    #[test]
    fn what_others_say_is_shown_as_text() {
        let page = report().to_html();
        assert!(page.contains("a &lt; b") && page.contains("&lt;n2&gt;:9002"));
        assert_eq!(escaped("\"'&"), "&quot;&#39;&amp;");
    }
}
