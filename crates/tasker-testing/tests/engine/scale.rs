//! Large tasks work; what they cost is the benchmark's business.

use tasker::model::task::TaskState;
use tasker::{Step, StepContext, StepResult, TaskHandler};

use crate::support::{assert_state, run};

async fn count(step: StepContext) -> StepResult<u64> {
    Ok(1 + step.parents::<u64>()?.len() as u64)
}

#[tokio::test]
async fn ten_thousand_steps_beside_each_other() {
    let mut definition = TaskHandler::new("scale", "wide", "1.0.0").step(Step::new("root", count));
    let names: Vec<String> = (0..9_998).map(|n| format!("leaf_{n}")).collect();
    for name in &names {
        definition = definition.step(Step::new(name, count).depends_on_step("root"));
    }
    let handler = definition
        .step(Step::new("sum", count).depends_on_steps(names))
        .build()
        .unwrap();
    let (_tasker, task) = run(handler).await;
    assert_state(&task, TaskState::Complete);
    let steps = task.workflow_steps().await.unwrap();
    assert_eq!(steps[9_999].result_as::<u64>().unwrap(), Some(9_999));
}

#[tokio::test]
async fn ten_thousand_steps_in_layers() {
    let mut definition = TaskHandler::new("scale", "layered", "1.0.0");
    for layer in 0..100 {
        for n in 0..100 {
            let mut step = Step::new(format!("s{layer}_{n}"), count);
            for parent in [n, (n + 1) % 100, (n + 7) % 100] {
                if layer > 0 {
                    step = step.depends_on_step(format!("s{}_{parent}", layer - 1));
                }
            }
            definition = definition.step(step);
        }
    }
    let (_tasker, task) = run(definition.build().unwrap()).await;
    assert_state(&task, TaskState::Complete);
}
