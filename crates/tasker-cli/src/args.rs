//! The command tree, declared once: help, errors and completions come from here.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use tasker::Options;
use tasker::model::task::TaskState;
use tasker::model::text_enum::UnknownWord;

/// Durable multi-step workflows.
#[derive(Parser)]
#[command(
    name = "tasker",
    version,
    after_help = "Exit status: 0 done; 1 the workflow failed, or a check found something; \
                  2 wrong use; 130 interrupted.",
    arg_required_else_help = true
)]
pub(crate) struct Arguments {
    /// The store: `sqlite:PATH` or `postgres://USER@HOST/DATABASE`
    #[arg(
        long,
        global = true,
        env = "TASKER_STORE",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(crate) store: Option<String>,
    /// Print JSON for programs instead of text for people
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run a real workflow: an analysis of 5,000 flights; interrupt it and run it again
    Demo(Demo),
    /// Run one task of a template file or a task handler, and show how it goes
    Run(Run),
    /// Run the steps of template files on a store, until stopped
    Worker(Worker),
    /// List, show and steer tasks
    #[command(subcommand)]
    Task(Task),
    /// Steer one step of a task
    #[command(subcommand)]
    Step(Step),
    /// Say why the steps of a task have not started, or what they are doing
    Explain {
        /// The task's id, or `last` for the newest
        task: String,
        /// Only this step
        step: Option<String>,
    },
    /// Draw a task's steps and their states
    Graph {
        /// The task's id, or `last` for the newest
        task: String,
        /// Print Mermaid source instead of a drawing
        #[arg(long)]
        mermaid: bool,
    },
    /// Check that everything in a store holds together
    Doctor,
    /// Bring the schema of a PostgreSQL store up to date
    Migrate {
        /// Only show which migrations the store has
        #[arg(long, conflicts_with = "sql")]
        status: bool,
        /// Only print the SQL that makes the schema, to be run by hand
        #[arg(long)]
        sql: bool,
    },
    /// List, show, check and compare task handlers: those of template files and of a store
    Handler(Handler),
    /// List the nodes that work on a store
    #[command(subcommand)]
    Node(Node),
    /// List queues, and limit how much of one runs at the same time
    #[command(subcommand)]
    Queue(Queue),
    /// Delete finished tasks that are old enough, with all that belongs to them
    Prune(Prune),
    /// Print what a shell needs to complete commands and options
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write the pages of all commands into a folder
    Man {
        /// Where the pages go
        #[arg(long, value_name = "FOLDER")]
        folder: Option<PathBuf>,
    },
}

/// Where template files are, and which of their sections holds.
#[derive(clap::Args)]
pub(crate) struct Templates {
    /// The folder of the template files
    #[arg(
        long,
        global = true,
        env = "TASKER_TEMPLATES",
        value_name = "FOLDER",
        default_value = tasker::yaml::DIRECTORY,
        hide_env_values = true
    )]
    pub(crate) templates: PathBuf,
    /// The section of `environments` that holds
    #[arg(
        long,
        global = true,
        env = "TASKER_ENV",
        value_name = "NAME",
        default_value = tasker::yaml::DEFAULT_ENVIRONMENT,
        hide_env_values = true
    )]
    pub(crate) environment: String,
}

#[derive(clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Handler {
    #[command(flatten)]
    pub(crate) templates: Templates,
    #[command(subcommand)]
    pub(crate) command: HandlerCommand,
}

#[derive(Subcommand)]
pub(crate) enum HandlerCommand {
    /// List the task handlers of the template files and of the store
    List,
    /// Show a task handler as YAML, in its canonical form
    Show {
        /// A template file, or `name`, `namespace.name`, `namespace.name@version`
        handler: String,
    },
    /// Check template files, and say everything that is wrong with them
    Validate {
        /// Files and folders; the folder of --templates if none is named
        paths: Vec<PathBuf>,
    },
    /// Draw the steps of a task handler
    Graph {
        /// A template file, or `name`, `namespace.name`, `namespace.name@version`
        handler: String,
        /// Print Mermaid source instead of a drawing
        #[arg(long)]
        mermaid: bool,
    },
    /// Print the JSON schema of template files, for editors
    Schema,
    /// Compare two task handlers; exit status 1 if they differ
    Diff {
        /// The one before
        before: String,
        /// The one after
        after: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum Node {
    /// List nodes: what they run, and how many attempts they hold
    List {
        /// Also nodes that have not been seen for so many seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        seen_within: u64,
    },
}

#[derive(Subcommand)]
pub(crate) enum Queue {
    /// List queues: what runs on them, what waits, and their limits
    List,
    /// Limit the attempts that run on a queue at the same time, on all nodes together
    Limit {
        /// The queue; without one of their own, the steps of a namespace are on the queue of its name
        queue: String,
        /// Attempts at the same time; 0 pauses the queue
        #[arg(required_unless_present = "none")]
        limit: Option<u32>,
        /// Take the limit away
        #[arg(long, conflicts_with = "limit")]
        none: bool,
    },
}

#[derive(clap::Args)]
pub(crate) struct Prune {
    /// Keep complete, cancelled and resolved tasks for so many days after their end
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    pub(crate) keep_complete: u32,
    /// Keep failed tasks for so many days after their end
    #[arg(long, value_name = "DAYS", default_value_t = 90)]
    pub(crate) keep_error: u32,
    /// Only tasks of this namespace
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
}

#[derive(clap::Args)]
pub(crate) struct Run {
    /// A template file, or `name`, `namespace.name`, `namespace.name@version`
    pub(crate) handler: String,
    /// The input, as JSON: inline, `@FILE`, or `-` for standard input
    #[arg(long, short, value_name = "JSON")]
    pub(crate) context: Option<String>,
    /// Bypass a step; may be given several times
    #[arg(long, value_name = "STEP")]
    pub(crate) bypass: Vec<String>,
    /// The same key gives the same task, however often it is asked for
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    #[command(flatten)]
    pub(crate) by: By,
    /// How long a step of a process that has died is left alone before another takes it
    #[arg(long, value_name = "SECONDS", default_value_t = Options::default().lease_seconds)]
    pub(crate) lease: u64,
    #[command(flatten)]
    pub(crate) templates: Templates,
}

#[derive(clap::Args)]
pub(crate) struct Worker {
    /// Start anew when a template file changes
    #[arg(long)]
    pub(crate) watch: bool,
    /// Only steps of this queue; may be given several times
    #[arg(long = "queue", value_name = "QUEUE")]
    pub(crate) queues: Vec<String>,
    /// Attempts at the same time
    #[arg(long, value_name = "N")]
    pub(crate) slots: Option<usize>,
    /// How long a step of a process that has died is left alone before another takes it
    #[arg(long, value_name = "SECONDS", default_value_t = Options::default().lease_seconds)]
    pub(crate) lease: u64,
    #[command(flatten)]
    pub(crate) templates: Templates,
}

#[derive(clap::Args)]
pub(crate) struct Demo {
    /// Where the report goes, and the store unless --store says otherwise
    #[arg(long, value_name = "FOLDER", default_value = "tasker-demo")]
    pub(crate) folder: PathBuf,
    /// Slow each step down by this many milliseconds, so that there is time to watch and interrupt
    #[arg(long, value_name = "MS", default_value_t = 700)]
    pub(crate) pace: u64,
}

#[derive(Subcommand)]
pub(crate) enum Task {
    /// List tasks, newest first
    List {
        /// Only tasks in this state, such as error, or its word, such as failed
        #[arg(long, value_name = "STATE", value_parser = States::parse)]
        state: Option<States>,
        /// Only tasks of this namespace
        #[arg(long, value_name = "NAME")]
        namespace: Option<String>,
        /// Only tasks of this task handler
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Also sub-tasks, and tasks that undo another
        #[arg(long)]
        also_subtasks: bool,
        /// At most so many
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// Only tasks older than this one: the last of the page before
        #[arg(long, value_name = "TASK")]
        before: Option<String>,
    },
    /// Show a task with its steps
    Show {
        /// The task's id, or `last` for the newest
        task: String,
        /// Also print the record: every change of state, in order, and what attempts have logged
        #[arg(long)]
        record: bool,
        /// Also print the results of its steps
        #[arg(long)]
        results: bool,
    },
    /// List the sub-tasks of a step, in order
    Subtasks {
        /// The task's id, or `last` for the newest
        task: String,
        /// The step's name
        step: String,
        /// The first to list, from 0
        #[arg(long, default_value_t = 0, value_name = "N")]
        from: u32,
        /// At most so many
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Stop a task: nothing more starts, and running handlers are told
    Cancel(ByTask),
    /// Send every failed step of a failed task round again
    Retry(ByTask),
    /// Accept a failed task as handled
    Resolve(ByTask),
    /// Send a task a signal that a step of it waits for, or will wait for
    Signal {
        #[command(flatten)]
        task: ByTask,
        /// The signal's name
        signal: String,
        /// What comes with it, as JSON
        #[arg(default_value = "null")]
        payload: String,
    },
}

/// The states that a filter word means.
#[derive(Clone)]
pub(crate) struct States(pub(crate) Vec<TaskState>);

impl States {
    fn parse(word: &str) -> Result<States, UnknownWord> {
        TaskState::matching(word).map(States)
    }
}

/// Who wants something.
#[derive(clap::Args)]
pub(crate) struct By {
    /// Who asks for it, for the record
    #[arg(
        long = "by",
        id = "by",
        env = "USER",
        default_value = "unknown",
        value_name = "NAME",
        hide_env = true
    )]
    pub(crate) name: String,
}

/// An order to a task, and who gives it.
#[derive(clap::Args)]
pub(crate) struct ByTask {
    /// The task's id, or `last` for the newest
    pub(crate) task: String,
    #[command(flatten)]
    pub(crate) by: By,
}

#[derive(Subcommand)]
pub(crate) enum Step {
    /// Send a failed step round again
    Retry {
        #[command(flatten)]
        step: ByStep,
        /// At least so many attempts from now on
        #[arg(long, default_value_t = 1, value_name = "N")]
        attempts: u32,
    },
    /// Declare a step done
    Resolve {
        #[command(flatten)]
        step: ByStep,
        /// The result that dependent steps read, as JSON
        #[arg(long, value_name = "JSON")]
        result: Option<String>,
    },
    /// Declare a step not needed
    Skip {
        #[command(flatten)]
        step: ByStep,
    },
    /// Stop a step and every step that depends on it
    Cancel {
        #[command(flatten)]
        step: ByStep,
    },
    /// Allow a step more attempts in all
    RaiseLimit {
        #[command(flatten)]
        step: ByStep,
        /// Attempts in all
        attempt_limit: u32,
    },
}

/// An order to a step, and who gives it.
#[derive(clap::Args)]
pub(crate) struct ByStep {
    /// The task's id, or `last` for the newest
    pub(crate) task: String,
    /// The step's name
    pub(crate) step: String,
    #[command(flatten)]
    pub(crate) by: By,
}
