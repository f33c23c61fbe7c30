//! `tasker graph`: a task's steps as a picture.

use std::process::ExitCode;

use serde::Serialize;
use tasker::Error;
use tasker::model::dag::diagram::{self, Node};
use tasker::model::step::StepState;

use crate::output::{Failure, Output, done};
use crate::target;

/// The picture for programs.
#[derive(Serialize)]
struct Graph {
    nodes: Vec<GraphNode>,
    edges: Vec<[String; 2]>,
    mermaid: String,
}

#[derive(Serialize)]
struct GraphNode {
    name: String,
    state: StepState,
    level: u32,
}

pub(crate) async fn run(
    task: &str,
    mermaid: bool,
    store: Option<String>,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let store = target::open(store).await?;
    let task_id = target::task_id(&*store, task).await?;
    let detail = store
        .task_detail(task_id)
        .await?
        .ok_or(Error::NoSuchTask(task_id))?;
    let template = store.template(detail.task.template).await?;
    let dag = template.dag();
    let steps = &detail.steps;
    let special: Vec<String> = steps
        .iter()
        .map(|step| step.subtasks.as_ref().map_or_else(String::new, done))
        .collect();
    let nodes: Vec<Node<'_>> = steps
        .iter()
        .zip(&special)
        .map(|(s, note)| Node {
            name: s.name.as_str(),
            state: Some(s.state),
            note,
        })
        .collect();
    let name = |position: u32| steps[position as usize].name.as_str().to_owned();
    let edges = dag.order().iter().flat_map(|parent| {
        dag.children(*parent)
            .iter()
            .map(move |child| [name(*parent), name(*child)])
    });
    let graph = Graph {
        nodes: steps
            .iter()
            .map(|s| GraphNode {
                name: name(s.position),
                state: s.state,
                level: dag.level(s.position),
            })
            .collect(),
        edges: edges.collect(),
        mermaid: diagram::mermaid(dag, &nodes),
    };
    output.data(&graph, || {
        if mermaid {
            graph.mermaid.clone()
        } else {
            diagram::text(dag, &nodes)
        }
    })?;
    Ok(ExitCode::SUCCESS)
}
