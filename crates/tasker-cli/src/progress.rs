//! What happens to a task, as lines for people.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use tasker::model::event::Fact;
use tasker::model::outcome::SkipCause;
use tasker::model::wait::{Until, Wait, span_text};
use tasker::{Error, Events, Task};
use tokio::time::MissedTickBehavior;

use crate::output::{Failure, done, say};

/// Says what happens until the task is final. `store` is the option that other commands need, to find it.
pub(crate) async fn watch(
    task: &mut Task,
    events: &mut Events,
    store: &str,
) -> Result<(), Failure> {
    let lines = Lines::new();
    let id = task.id();
    let mut subtasks = Subtasks::of(task.clone());
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut end = std::pin::pin!(task.wait(None));
    loop {
        tokio::select! {
            biased;
            event = events.next() => match event {
                Some(event) if event.task_id == id => {
                    if let Some(line) = lines.line(&event.fact) {
                        say(&line);
                    }
                    if let Fact::StepWaiting { wait: Wait { until: Until::Subtasks, .. }, .. } = &event.fact {
                        subtasks.are_there = true;
                    }
                    if let Fact::StepWaiting { wait: Wait { signal: Some(signal), .. }, .. } = &event.fact {
                        say(&format!("    send it with: tasker task signal{store} {id} {signal}"));
                    }
                    if matches!(event.fact, Fact::TaskFinished { .. }) {
                        end.await?;
                        return Ok(());
                    }
                }
                Some(_) => {}
                None => return Err(Error::Stopped.into()),
            },
            ended = &mut end => {
                ended?;
                return Ok(());
            }
            _ = looks.tick(), if subtasks.are_there => {
                for (step, text) in subtasks.look().await? {
                    say(&lines.written('…', "progress", &step, &text));
                }
            }
        }
    }
}

/// How often it is asked how far sub-tasks have come.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How far the sub-tasks of a task have come, as it was last said.
struct Subtasks {
    task: Task,
    are_there: bool,
    said: HashMap<String, String>,
}

impl Subtasks {
    fn of(task: Task) -> Subtasks {
        Subtasks {
            task,
            are_there: false,
            said: HashMap::new(),
        }
    }

    /// What has changed, by step.
    async fn look(&mut self) -> Result<Vec<(String, String)>, Error> {
        let detail = self.task.detail().await?;
        let waiting = detail.steps.iter().filter(|step| !step.state.is_done());
        let tallies =
            waiting.filter_map(|step| Some((step.name.to_string(), done(step.subtasks.as_ref()?))));
        let said = &mut self.said;
        let changed = tallies
            .filter(|(step, text)| said.insert(step.clone(), text.clone()).as_ref() != Some(text));
        Ok(changed.collect())
    }
}

/// Writes facts as lines: with marks on a terminal, with words elsewhere.
pub(crate) struct Lines {
    started: Instant,
    marks: bool,
}

impl Lines {
    pub(crate) fn new() -> Lines {
        Lines {
            started: Instant::now(),
            marks: std::io::stderr().is_terminal(),
        }
    }

    /// The line for a fact that is worth one.
    pub(crate) fn line(&self, fact: &Fact) -> Option<String> {
        let (mark, word, step, more) = parts(fact)?;
        Some(self.written(mark, word, step, &more))
    }

    fn written(&self, mark: char, word: &str, step: &str, more: &str) -> String {
        let at = self.started.elapsed().as_secs_f64();
        let line = if self.marks {
            format!("  {mark} {step:<18} {at:6.2} s  {more}")
        } else {
            format!("{at:.2} s {word} {step} {more}")
        };
        line.trim_end().to_owned()
    }
}

/// Mark, word, step, and what else there is to say.
fn parts(fact: &Fact) -> Option<(char, &'static str, &str, String)> {
    Some(match fact {
        Fact::StepStarted { step, attempt } => {
            let more = match attempt {
                1 => String::new(),
                attempt => format!("attempt {attempt}"),
            };
            ('▶', "started", step.as_str(), more)
        }
        Fact::StepProgressed { step, progress } => {
            ('…', "progress", step.as_str(), progress.to_string())
        }
        Fact::StepCompleted { step, .. } => ('✓', "completed", step.as_str(), String::new()),
        Fact::StepFailed {
            step,
            failure,
            retry_in_ms,
            ..
        } => {
            let next = match retry_in_ms {
                Some(ms) => {
                    let span = span_text(Duration::from_millis(*ms));
                    format!("trying again in {span}")
                }
                None => "not trying again".to_owned(),
            };
            let more = format!("{}; {next}", failure.message);
            ('✗', "failed", step.as_str(), more)
        }
        Fact::StepSkipped { step, cause } => {
            let why = match cause {
                SkipCause::Condition => "its condition is false",
                SkipCause::TriggerRule => "its parents did not end as its trigger rule asks",
            };
            ('-', "skipped", step.as_str(), why.to_owned())
        }
        Fact::StepWaiting { step, wait } => ('·', "waits", step.as_str(), waits(wait)),
        Fact::StepHandedBack { step, .. } => {
            ('·', "handed_back", step.as_str(), "handed back".to_owned())
        }
        Fact::TaskCreated | Fact::TaskFinished { .. } => return None,
    })
}

fn waits(wait: &Wait) -> String {
    let until = match wait.until {
        Until::After(ms) => format!("for {}", span_text(Duration::from_millis(ms))),
        Until::At(time) => format!("until {time}"),
        Until::Signalled => "however long it takes".to_owned(),
        Until::Subtasks => "until its sub-tasks have ended".to_owned(),
    };
    match &wait.signal {
        Some(signal) => format!("waits for signal `{signal}`, {until}"),
        None => format!("waits {until}"),
    }
}
