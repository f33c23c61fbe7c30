//! JSON that a person gives: in the line, in a file, or on standard input.

use std::io::Read as _;

use serde_json::Value;

use crate::output::Failure;

/// More than this is no input of a command, in bytes.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Reads JSON: the text itself, `@FILE`, or `-` for standard input. `what` names the argument.
pub(crate) fn json(what: &str, argument: &str) -> Result<Value, Failure> {
    let (text, from) = if argument == "-" {
        let read = read(std::io::stdin().lock());
        (read, "standard input".to_owned())
    } else if let Some(path) = argument.strip_prefix('@') {
        let read = std::fs::File::open(path).and_then(read);
        (read, format!("`{path}`"))
    } else {
        (Ok(argument.to_owned()), String::new())
    };
    let text = text.map_err(|error| {
        let hint = "`@FILE` reads a file, `-` standard input; anything else is JSON itself";
        Failure::usage(format!("{what}: cannot read {from}: {error}")).hint(hint)
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    serde_json::from_str(text).map_err(|error| {
        let of = if from.is_empty() {
            String::new()
        } else {
            format!(", from {from},")
        };
        Failure::usage(format!("{what}{of} is not JSON: {error}")).hint(format!(
            r#"quote it for the shell, as in {what} '{{"ok": true}}'"#
        ))
    })
}

fn read(from: impl std::io::Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}
