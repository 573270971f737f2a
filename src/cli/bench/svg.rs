//! A picture of a run: the latency that each share of the requests did not exceed, and the share of the
//! limit that the service reached.

use super::latencies::Latencies;
use super::outcome::{Outcome, latency};
use std::fmt::Write as _;
use std::time::Duration;

/// The size of the picture, and of the chart in it, in pixels.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 88.0;
/// The points of a curve.
const POINTS: usize = 120;
/// The colours of the curves, which people who see few colours tell apart (Okabe and Ito 2008).
const COLOURS: [&str; 6] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#000000",
];

/// The axes: logarithmic in the share of slower requests, and in the latency.
struct Axes {
    nines: f64,
    least: f64,
    most: f64,
}

impl Axes {
    fn of(curves: &[(&str, Vec<(f64, Duration)>)]) -> Self {
        let points = || curves.iter().flat_map(|(_, curve)| curve);
        let micros = points().map(|(_, latency)| latency.as_micros().max(1) as f64);
        let (least, most) = micros.fold((f64::MAX, 1.0_f64), |(least, most), micros| {
            (least.min(micros), most.max(micros))
        });
        let nines = points()
            .map(|(longer, _)| -longer.log10())
            .fold(1.0, f64::max);

        Self {
            nines,
            least: 10_f64.powf(least.min(most).log10().floor()),
            most: 10_f64.powf(
                most.log10()
                    .ceil()
                    .max(least.min(most).log10().floor() + 1.0),
            ),
        }
    }

    fn x(&self, longer: f64) -> f64 {
        LEFT + (-longer.log10() / self.nines).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, micros: f64) -> f64 {
        let share = (micros / self.least).log10() / (self.most / self.least).log10();

        HEIGHT - BOTTOM - share.clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
    }

    /// Writes the lines behind the curves, with their names.
    fn draw(&self, svg: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let shares = [
            (1.0, "0 %"),
            (0.5, "50 %"),
            (0.1, "90 %"),
            (1e-2, "99 %"),
            (1e-3, "99.9 %"),
        ];
        let more = [(1e-4, "99.99 %"), (1e-5, "99.999 %")];
        for (longer, name) in shares.into_iter().chain(more) {
            if -f64::log10(longer) > self.nines + 1e-9 {
                continue;
            }
            let x = self.x(longer);
            line(svg, (x, TOP), (x, bottom));
            text(svg, (x, bottom + 18.0), "middle", name);
        }

        let mut micros = self.least;
        while micros <= self.most * 1.001 {
            let y = self.y(micros);
            line(svg, (LEFT, y), (right, y));
            let name = latency(Duration::from_micros(micros as u64));
            text(svg, (LEFT - 8.0, y + 4.0), "end", &name);
            micros *= 10.0;
        }
        let middle = f64::midpoint(LEFT, right);
        text(
            svg,
            (middle, bottom + 38.0),
            "middle",
            "share of requests that took no longer",
        );
    }
}

/// Returns the picture.
pub(super) fn picture(outcome: &Outcome) -> String {
    let latencies = outcome.latencies();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    let mix = outcome.asked.mix.to_string();
    text(&mut svg, (LEFT, 26.0), "start", &format!("Latency: {mix}"));

    draw_curves(&mut svg, &latencies);
    if let Some((limit, share)) = outcome.limit() {
        draw_share(&mut svg, limit, share);
    }
    svg + "</svg>\n"
}

fn draw_curves(svg: &mut String, latencies: &[(&'static str, Latencies)]) {
    let measured = latencies.iter().filter(|(_, one)| one.count() > 0);
    let curves: Vec<_> = measured
        .map(|(name, one)| (*name, one.curve(POINTS)))
        .collect();
    if curves.is_empty() {
        return;
    }

    let axes = Axes::of(&curves);
    axes.draw(svg);
    for (index, (name, curve)) in curves.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let mut points = String::new();
        for (longer, latency) in curve {
            let micros = latency.as_micros().max(1) as f64;
            let _ = write!(points, "{:.1},{:.1} ", axes.x(*longer), axes.y(micros));
        }
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            points.trim_end()
        );

        let y = TOP + 14.0 + 20.0 * index as f64;
        let x = WIDTH - RIGHT + 14.0;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{:.1}\" width=\"14\" height=\"4\" fill=\"{colour}\"/>",
            y - 6.0
        );
        text(svg, (x + 20.0, y), "start", name);
    }
}

/// Draws a bar: what a bare worker does, and how much of it the service did.
fn draw_share(svg: &mut String, limit: f64, share: f64) {
    let (y, width) = (HEIGHT - 32.0, WIDTH - LEFT - RIGHT);
    let filled = width * share.clamp(0.0, 1.0);
    let _ = writeln!(
        svg,
        "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width}\" height=\"10\" fill=\"#dddddd\"/>\n\
         <rect x=\"{LEFT}\" y=\"{y}\" width=\"{filled:.1}\" height=\"10\" fill=\"{}\"/>",
        COLOURS[0]
    );

    let words = format!(
        "{:.1} % of a bare worker, which does {limit:.0} a second",
        share * 100.0
    );
    text(svg, (LEFT, y + 24.0), "start", &words);
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#dddddd\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, at: (f64, f64), anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{words}</text>",
        at.0, at.1
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latencies(micros: &[u64]) -> Latencies {
        let mut latencies = Latencies::default();
        for micros in micros {
            latencies.record(Duration::from_micros(*micros));
        }

        latencies
    }

    #[test]
    fn each_operation_has_its_curve_and_its_name() {
        let mut svg = String::new();

        let many: Vec<u64> = (1..2_000).collect();
        draw_curves(
            &mut svg,
            &[("get", latencies(&many)), ("put", latencies(&[5]))],
        );

        assert_eq!(svg.matches("<polyline").count(), 2);
        for part in [">get<", ">put<", ">99.9 %<", ">1.00 ms<"] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn nothing_measured_is_no_curve() {
        let mut svg = String::new();

        draw_curves(&mut svg, &[("get", Latencies::default())]);

        assert_eq!(svg, "");
    }

    #[test]
    fn a_share_above_the_limit_stays_in_the_picture() {
        let mut svg = String::new();

        draw_share(&mut svg, 100.0, 1.5);

        assert!(svg.contains("width=\"570.0\""), "{svg}");
        assert!(svg.contains("150.0 % of a bare worker"), "{svg}");
    }
}
