//! The charts, as inline SVG. Colours come from the page's style sheet.

use super::html::{decimal, escape};

const WIDTH: f64 = 960.0;

/// One bar: its label and its value, or `None` for a place without a bar.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) value: Option<f64>,
    /// What a pointer over the bar shows.
    pub(super) hint: String,
}

/// The range of values of a chart, mapped to a length; always includes zero.
struct Scale {
    low: f64,
    high: f64,
    length: f64,
}

impl Scale {
    fn of(bars: &[Bar], length: f64) -> Self {
        let values = || bars.iter().filter_map(|bar| bar.value);
        let low = values().fold(0.0, f64::min);
        let high = values().fold(0.0, f64::max);
        // Without any deviation from zero every length is zero, whatever the range.
        Self {
            low,
            high: if high > low { high } else { low + 1.0 },
            length,
        }
    }

    /// Distance of a value from the low end.
    fn at(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low) * self.length
    }

    /// About six round values within the range, ascending.
    fn ticks(&self) -> impl Iterator<Item = f64> {
        let rough = (self.high - self.low) / 6.0;
        let magnitude = 10_f64.powf(rough.log10().floor());
        let round = [1.0, 2.0, 5.0]
            .into_iter()
            .find(|factor| factor * magnitude >= rough);
        let step = round.unwrap_or(10.0) * magnitude;
        let (low, high) = (self.low, self.high);
        let first = (low / step).ceil();
        (0_u8..=10)
            .map(move |n| (first + f64::from(n)) * step)
            .take_while(move |v| *v <= high)
    }
}

/// Horizontal bars with their values, in the order given.
pub(super) fn horizontal_bars(id: &str, title: &str, description: &str, bars: &[Bar]) -> String {
    const LABELS: f64 = 180.0;
    const VALUES: f64 = 60.0;
    const ROW: f64 = 30.0;
    let scale = Scale::of(bars, WIDTH - LABELS - VALUES);
    let zero = LABELS + scale.at(0.0);
    let row = |(position, bar): (usize, &Bar)| {
        let value = bar.value.unwrap_or(0.0);
        let end = LABELS + scale.at(value);
        let (left, width, top) = (zero.min(end), (end - zero).abs(), ROW * position as f64);
        format!(
            "<g><title>{hint}</title>\
             <text class=\"label\" x=\"{label_x:.1}\" y=\"{middle:.1}\">{label}</text>\
             <rect class=\"bar\" x=\"{left:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\" rx=\"3\"/>\
             <text class=\"value\" x=\"{value_x:.1}\" y=\"{middle:.1}\">{value}</text></g>\n",
            hint = escape(&bar.hint),
            label = escape(&bar.label),
            label_x = LABELS - 10.0,
            middle = top + ROW / 2.0,
            y = top + 5.0,
            height = ROW - 10.0,
            value_x = left + width + 8.0,
            value = decimal(value),
        )
    };
    let height = ROW * bars.len() as f64;
    let axis = format!(
        "<line class=\"axis\" x1=\"{zero:.1}\" x2=\"{zero:.1}\" y1=\"0\" y2=\"{height:.1}\"/>\n"
    );
    let rows: Vec<String> = bars.iter().enumerate().map(row).chain([axis]).collect();
    svg(id, title, description, height, &rows.concat())
}

/// Upright bars over an axis with ticks; a place without a value gets a dash.
pub(super) fn vertical_bars(id: &str, title: &str, description: &str, bars: &[Bar]) -> String {
    const LEFT: f64 = 40.0;
    const TOP: f64 = 12.0;
    const HEIGHT: f64 = 260.0;
    const BOTTOM: f64 = 26.0;
    let scale = Scale::of(bars, HEIGHT);
    let y_of = |value: f64| TOP + HEIGHT - scale.at(value);
    let step = (WIDTH - LEFT) / bars.len().max(1) as f64;
    let grid = |value: f64| {
        format!(
            "<line class=\"{class}\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"tick end\" x=\"{x:.1}\" y=\"{y:.1}\">{tick}</text>\n",
            class = if value == 0.0 { "axis" } else { "grid" },
            y = y_of(value),
            x = LEFT - 8.0,
            tick = value.to_string().replace('-', "−"),
        )
    };
    let column = |(position, bar): (usize, &Bar)| {
        let left = LEFT + step * position as f64;
        let middle = left + step / 2.0;
        let mark = match bar.value {
            Some(value) => format!(
                "<rect class=\"bar\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
                 height=\"{height:.1}\" rx=\"2\"/>",
                x = left + step * 0.12,
                y = y_of(value.max(0.0)),
                width = step * 0.76,
                height = (y_of(0.0) - y_of(value)).abs(),
            ),
            None => format!(
                "<text class=\"tick\" x=\"{middle:.1}\" y=\"{y:.1}\">–</text>",
                y = y_of(0.0) - 10.0
            ),
        };
        format!(
            "<g><title>{hint}</title>{mark}\
             <text class=\"tick\" x=\"{middle:.1}\" y=\"{y:.1}\">{label}</text></g>\n",
            hint = escape(&bar.hint),
            label = escape(&bar.label),
            y = TOP + HEIGHT + 16.0,
        )
    };
    let columns = bars.iter().enumerate().map(column);
    let parts: Vec<String> = scale.ticks().map(grid).chain(columns).collect();
    svg(
        id,
        title,
        description,
        TOP + HEIGHT + BOTTOM,
        &parts.concat(),
    )
}

fn svg(id: &str, title: &str, description: &str, height: f64, parts: &str) -> String {
    let (title, description) = (escape(title), escape(description));
    format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{title}\" tabindex=\"0\">\n\
         <svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-labelledby=\"{id}-title {id}-description\">\n\
         <title id=\"{id}-title\">{title}</title>\n\
         <desc id=\"{id}-description\">{description}</desc>\n{parts}</svg>\n</div>\n"
    )
}
