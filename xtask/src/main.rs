//! The repository's own commands, one per intention: `cargo xtask <command>`.

mod run;
mod test;
mod bench;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
The repository's own commands

Usage: cargo xtask <command> [arguments]

Commands:
  test [arguments]   check what the tests need, then run all of them; arguments go to `cargo test`
  bench [arguments]  measure throughput and latency, beside what the disk alone allows
  tidy               check what the compiler cannot: layout, names, import order, SQL, links
  help               show this text
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next();
    let rest: Vec<String> = arguments.collect();
    match command.as_deref() {
        Some("test") => test::run(&rest),
        Some("bench") => bench::run(&rest),
        Some("tidy") if rest.is_empty() => tidy::run(),
        Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Some("tidy") => refuse("`tidy` takes no arguments"),
        Some(unknown) => refuse(&format!("unknown command `{unknown}`")),
        None => refuse("a command is needed"),
    }
}

fn refuse(why: &str) -> ExitCode {
    eprint!("error: {why}\n\n{HELP}");
    ExitCode::from(2)
}
