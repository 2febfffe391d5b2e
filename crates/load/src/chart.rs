use std::fmt::Write;

use crate::html::escaped;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;
/// About so many lines across.
const TICKS: f64 = 5.0;
/// More points than pixels show nothing more; of so many neighbours the greatest is drawn.
const MAX_POINTS: usize = 860;

/// A line in a chart.
pub(crate) struct Series<'a> {
    pub(crate) name: &'a str,
    /// From left to right.
    pub(crate) points: Vec<(f64, f64)>,
}

/// A mark on an axis.
pub(crate) struct Mark {
    pub(crate) at: f64,
    pub(crate) text: String,
}

/// Lines over a common axis, as SVG.
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    pub(crate) x_label: &'a str,
    pub(crate) x_marks: Vec<Mark>,
    pub(crate) series: Vec<Series<'a>>,
    /// How a value is written beside its axis.
    pub(crate) unit: fn(f64) -> String,
}

impl Chart<'_> {
    /// A figure with its title and the names of its lines.
    pub(crate) fn to_html(&self) -> String {
        let all = || self.series.iter().flat_map(|series| &series.points);
        let greatest = all().map(|&(_, y)| y).fold(0.0, f64::max);
        let top = if greatest > 0.0 { greatest * 1.05 } else { 1.0 };
        let marked = self.x_marks.iter().map(|mark| mark.at);
        let right = all().map(|&(x, _)| x).chain(marked).fold(0.0, f64::max).max(1e-9);
        let x_of = |x: f64| LEFT + x / right * (WIDTH - LEFT - RIGHT);
        let y_of = |y: f64| HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM);

        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
            escaped(self.title)
        );
        let mut add = |line: String| writeln!(svg, "{line}").expect("memory can be written");
        for mark in ticks(top) {
            let y = y_of(mark);
            add(format!("<path class=\"grid\" d=\"M{LEFT} {y:.1}H{:.1}\"/>", WIDTH - RIGHT));
            let text = escaped(&(self.unit)(mark));
            add(format!(
                "<text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{text}</text>",
                LEFT - 6.0,
                y + 4.0
            ));
        }
        for mark in &self.x_marks {
            let (x, y, text) = (x_of(mark.at), HEIGHT - BOTTOM + 16.0, escaped(&mark.text));
            add(format!("<text class=\"x\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"));
        }
        let (middle, bottom) = (f64::midpoint(LEFT, WIDTH - RIGHT), HEIGHT - 4.0);
        let label = escaped(self.x_label);
        add(format!("<text class=\"x\" x=\"{middle:.1}\" y=\"{bottom}\">{label}</text>"));
        for (i, series) in self.series.iter().enumerate() {
            let mut path = String::new();
            for (x, y) in thinned(&series.points) {
                let command = if path.is_empty() { 'M' } else { 'L' };
                write!(path, "{command}{:.1} {:.1}", x_of(x), y_of(y))
                    .expect("memory can be written");
            }
            add(format!("<path class=\"line s{i}\" d=\"{path}\"/>"));
        }
        svg.push_str("</svg>");
        let names: String = self
            .series
            .iter()
            .enumerate()
            .map(|(i, series)| format!(" <b class=\"s{i}\">{}</b>", escaped(series.name)))
            .collect();
        let title = escaped(self.title);
        format!("<figure>\n<figcaption>{title}{names}</figcaption>\n{svg}\n</figure>\n")
    }
}

/// Round numbers from 0 to `top`.
pub(crate) fn ticks(top: f64) -> Vec<f64> {
    let rough = top / TICKS;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let step = step.into_iter().find(|&step| step >= rough).unwrap_or(rough);
    let ticks = (0..20u32).map(|i| f64::from(i) * step);
    ticks.take_while(|&tick| tick <= top).collect()
}

fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let group = points.len().div_ceil(MAX_POINTS).max(1);
    let greatest = |group: &[(f64, f64)]| {
        group.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)).expect("a group has a point")
    };
    points.chunks(group).map(greatest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(1_234.0), [0.0, 500.0, 1_000.0]);
        for top in [0.001, 0.7, 1.0, 99.0, 12_345.6, 1e9] {
            assert!((2..=6).contains(&ticks(top).len()), "{top}");
        }
    }

    #[test]
    fn long_lines_are_thinned_and_keep_their_peaks() {
        let mut points: Vec<_> = (0..10_000u32).map(|x| (f64::from(x), 1.0)).collect();
        points[5_003].1 = 7.0;
        let thinned = thinned(&points);
        assert!(thinned.len() <= MAX_POINTS);
        assert!(thinned.contains(&(5_003.0, 7.0)));
    }

    #[test]
    fn a_chart_without_points_is_drawn() {
        let unit = |y: f64| y.to_string();
        let series = vec![Series { name: "a & b", points: vec![] }];
        let chart = Chart { title: "t", x_label: "x", x_marks: vec![], series, unit };
        let html = chart.to_html();
        assert!(html.contains("a &amp; b") && !html.contains("NaN"), "{html}");
    }
}
