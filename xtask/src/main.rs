//! The repository's own commands, one per intention: `cargo xtask <command>`.

mod run;
mod postgres;
mod test;
mod bench;
mod simulate;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
The repository's own commands

Usage: cargo xtask <command> [arguments]

Commands:
  test [arguments]         find or install what the tests need, then run all of them;
                           arguments go to `cargo test`
  bench [arguments]        measure throughput and latency, beside what the disk alone allows
  simulate [arguments]     run the engine under virtual time, seed by seed, with everything that can
                           go wrong; `--help` lists the arguments
  postgres [-- command]    start a private PostgreSQL, run the command (or wait for the end of
                           the input, or Ctrl-C), and remove it
  tidy                     check what the compiler cannot: layout, names, import order, SQL, links
  help                     show this text

Environment:
  TASKER_POSTGRES_BIN      the folder of PostgreSQL's programs, if not where they usually are
  TASKER_TEST_POSTGRES     URL of a PostgreSQL database: `test` uses it and starts nothing
  TASKER_BENCH_POSTGRES    the same for `bench`
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next();
    let rest: Vec<String> = arguments.collect();
    match command.as_deref() {
        Some("test") => test::run(&rest),
        Some("bench") => bench::run(&rest),
        Some("simulate") => simulate::run(&rest),
        Some("postgres") => match rest.split_first() {
            None => postgres::run(&[]),
            Some((dashes, words)) if dashes == "--" => postgres::run(words),
            Some(_) => refuse("`postgres` takes its command after `--`"),
        },
        // Not for people: this program as the process that outlives the one that started it.
        Some(postgres::KEEP) => postgres::keep(&rest),
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
