//! `tasker completions` and `tasker man`: what shells and `man` need to know of the commands.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Arguments;
use crate::output::{Failure, Output, say, write};

pub(crate) fn completions(shell: Shell) -> Result<ExitCode, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "tasker", &mut text);
    write(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the page of the command as a whole, or writes all pages into a folder.
pub(crate) fn man(folder: Option<&Path>, output: &Output) -> Result<ExitCode, Failure> {
    let command = Arguments::command();
    let Some(folder) = folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        write(&page)?;
        return Ok(ExitCode::SUCCESS);
    };
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command, folder)?;
    let mut pages: Vec<String> = std::fs::read_dir(folder)?
        .map(|page| Ok(page?.path().display().to_string()))
        .collect::<std::io::Result<_>>()?;
    pages.sort_unstable();
    output.data(&pages, || pages.join("\n"))?;
    let shown = folder.display();
    say(&format!(
        "hint: `man {shown}/tasker.1` shows the first page"
    ));
    Ok(ExitCode::SUCCESS)
}
