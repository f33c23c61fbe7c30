//! Small pieces of HTML. Text becomes HTML only here, by [`escape`].

use super::{DECIMALS, rounded};

/// Makes a text safe as element content and as a quoted attribute value.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A fraction for reading: rounded, with a typographic minus.
pub(super) fn decimal(number: f64) -> String {
    format!("{:.*}", DECIMALS, rounded(number)).replace('-', "−")
}

/// A whole number for reading, with a typographic minus.
pub(super) fn whole(number: i32) -> String {
    number.to_string().replace('-', "−")
}

/// A count with commas between thousands.
pub(super) fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A table with a caption; the first column heads the rows, the `text_columns` first columns
/// hold text and the others numbers. All texts are plain text and get escaped here.
pub(super) fn table(
    caption: &str,
    text_columns: usize,
    headings: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let class = |column: usize| {
        if column < text_columns {
            ""
        } else {
            " class=\"number\""
        }
    };
    let heading = |(column, text): (usize, &&str)| {
        format!("<th scope=\"col\"{}>{}</th>", class(column), escape(text))
    };
    let cell = |(column, text): (usize, &String)| match column {
        0 => format!("<th scope=\"row\">{}</th>", escape(text)),
        _ => format!("<td{}>{}</td>", class(column), escape(text)),
    };
    let row = |row: Vec<String>| {
        let cells: Vec<String> = row.iter().enumerate().map(cell).collect();
        format!("<tr>{}</tr>\n", cells.concat())
    };
    let head = headings
        .iter()
        .enumerate()
        .map(heading)
        .collect::<Vec<_>>()
        .concat();
    let body = rows.into_iter().map(row).collect::<Vec<_>>().concat();
    let caption = escape(caption);
    // A wide table scrolls by itself on a narrow screen; the focus lets the keyboard scroll it.
    format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\">\n\
         <table>\n<caption>{caption}</caption>\n<thead><tr>{head}</tr></thead>\n\
         <tbody>\n{body}</tbody>\n</table>\n</div>\n"
    )
}
