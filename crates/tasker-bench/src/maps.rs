//! Does an item cost the same in a long list?

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use serde_json::json;
use tasker::model::id::StepKey;
use tasker::{StepContext, StepHandlers, StepResult, Task, TaskHandler, TaskRequest, Tasker, yaml};

use crate::place::{Kind, Place};
use crate::{median, start_with};

const SHORT: u32 = 100;
/// How many short lists stand for one figure.
const SHORT_LISTS: u32 = 20;
const ROUNDS: usize = 3;
/// Where the step that runs over the list stands.
const MAP: u32 = 1;

/// The list is made by a step, so that it is as long as wished.
const TEMPLATE: &str = "
name: list
namespace_name: bench
step_templates:
  - {name: list, handler: list}
  - {name: each, handler: each, depends_on_step: list, map: {over: results.list, gather: count}}
";

fn handler() -> Result<TaskHandler, Box<dyn Error>> {
    async fn list(step: StepContext) -> StepResult<Vec<u32>> {
        let context: serde_json::Value = step.context()?;
        let length = context["length"]
            .as_u64()
            .and_then(|n| u32::try_from(n).ok());
        Ok((0..length.unwrap_or_default()).collect())
    }
    async fn each(step: StepContext) -> StepResult<u32> {
        Ok(step.item::<u32>()? * 2)
    }
    let file = yaml::load_text(Path::new("list.yaml"), TEMPLATE, "bench")?;
    Ok(StepHandlers::new()
        .add("list", list)
        .add("each", each)
        .bind(&file)?)
}

/// Prints what an item costs in a long list beside one of 100, what memory the long one needs, and how
/// long a page about its task takes.
pub(crate) async fn maps(kind: Kind, folder: &Path, items: u32) -> Result<(), Box<dyn Error>> {
    let (mut short, mut long, mut pages) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let place = Place::fresh(kind, folder).await?;
        let tasker = start_with(&place, handler()?).await?;
        let started = Instant::now();
        for _ in 0..SHORT_LISTS {
            run(&tasker, SHORT).await?;
        }
        short.push(started.elapsed().as_secs_f64() * 1e6 / f64::from(SHORT * SHORT_LISTS));
        let started = Instant::now();
        let task = run(&tasker, items).await?;
        long.push(started.elapsed().as_secs_f64() * 1e6 / f64::from(items));
        pages.push(page_ms(&tasker, &task).await?);
        tasker.stop().await?;
        place.remove().await?;
    }
    let (short, long) = (median(short), median(long));
    println!(
        "an item of {SHORT}: {short:.1} µs; of {items}: {long:.1} µs; {:.2}x",
        long / short
    );
    println!(
        "the page of the task: {:.1} ms; memory at most {}",
        median(pages),
        memory()?
    );
    Ok(())
}

async fn run(tasker: &Tasker, length: u32) -> Result<Task, Box<dyn Error>> {
    let request = TaskRequest::new("list")
        .namespace("bench")
        .context(json!({"length": length}));
    let task = tasker.executor().execute_sync(request, None).await?;
    let detail = task.detail().await?;
    let count = detail.steps[MAP as usize]
        .result
        .as_ref()
        .map(|result| result.as_str().to_owned());
    let expected = json!({"items": length, "failed": 0}).to_string();
    if count.as_ref() != Some(&expected) {
        return Err(format!("the list gave {count:?} instead of {expected}").into());
    }
    Ok(task)
}

/// What a page about a task needs: all of it, and the first sub-tasks.
async fn page_ms(tasker: &Tasker, task: &Task) -> Result<f64, Box<dyn Error>> {
    let started = Instant::now();
    task.detail().await?;
    let found = tasker
        .store()
        .subtasks(StepKey::new(task.id(), MAP), 0, 50)
        .await?;
    if found.len() != 50 {
        return Err(format!("{} sub-tasks on the first page", found.len()).into());
    }
    Ok(started.elapsed().as_secs_f64() * 1e3)
}

/// The most that this process has held.
fn memory() -> Result<String, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.unwrap_or("unknown").trim().to_owned())
}
