//! The workflow as a file: the same figures as in Rust, by programs.

use std::path::Path;

use flight_delays::analysis::{airport_metrics, parse_airports, parse_flights};
use flight_delays::{AIRPORTS_CSV, FLIGHTS_CSV};
use serde_json::{Value, json};
use tasker::model::task::TaskState;
use tasker::{StepHandlers, Task, TaskRequest, Tasker, yaml};

async fn run(context: Value) -> Task {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("flight_delays.yaml");
    let file = yaml::load_file(&path, yaml::DEFAULT_ENVIRONMENT).unwrap();
    assert_eq!(file.notes, []);
    let handler = StepHandlers::new().bind(&file).unwrap();
    let tasker = Tasker::builder("sqlite::memory:").register(handler);
    let tasker = tasker.start().await.unwrap();
    let request = TaskRequest::new("flight_delays")
        .namespace("examples")
        .context(context);
    tasker.executor().execute_sync(request, None).await.unwrap()
}

async fn result(task: &Task, step: &str) -> Value {
    let steps = task.workflow_steps().await.unwrap();
    let found = steps.into_iter().find(|found| found.name == step).unwrap();
    found.result.unwrap_or_default()
}

#[tokio::test]
async fn programs_come_to_the_same_figures() {
    let output = tempfile::NamedTempFile::new().unwrap();
    let context = json!({"folder": env!("CARGO_MANIFEST_DIR"), "output": output.path()});
    let task = run(context).await;
    assert_eq!(task.state(), TaskState::Complete);
    let flights = parse_flights(FLIGHTS_CSV).unwrap();
    let airports = parse_airports(AIRPORTS_CSV, None).unwrap();
    let expected = airport_metrics(&flights, &airports);
    let metrics = result(&task, "airport_metrics").await;
    let overall = &metrics["overall"];
    assert_eq!(overall["flights"], expected.overall.flights);
    assert_eq!(overall["delayed"], expected.overall.delayed);
    assert_eq!(overall["worst_delay"], expected.overall.worst_delay);
    let difference = overall["mean_delay"].as_f64().unwrap() - expected.overall.mean_delay;
    assert!(difference.abs() < 1e-6, "{difference}");
    let worst = &metrics["worst"][0];
    let known = expected
        .airports
        .iter()
        .find(|known| worst["code"] == known.code.as_str());
    let known = known.expect("it is one of the airports");
    assert_eq!(worst["delayed"], known.departures.delayed);
    let most = expected
        .airports
        .iter()
        .map(|airport| airport.departures.delayed)
        .max();
    assert_eq!(Some(known.departures.delayed), most);
    let report = std::fs::read_to_string(output.path()).unwrap();
    let code = worst["code"].as_str().unwrap();
    assert!(
        report.contains(&format!("Worst airport: {code}.")),
        "{report}"
    );
}

#[tokio::test]
async fn data_that_is_wrong_is_not_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    for part in ["steps", "data"] {
        std::fs::create_dir(folder.path().join(part)).unwrap();
        for file in std::fs::read_dir(source.join(part)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), folder.path().join(part).join(file.file_name())).unwrap();
        }
    }
    let broken = "date,delay,distance,origin,destination\n2001/01/01 01:10,95\n";
    std::fs::write(folder.path().join("data/flights.csv"), broken).unwrap();
    let task = run(json!({"folder": folder.path()})).await;
    assert_eq!(task.state(), TaskState::Error);
    let steps = task.workflow_steps().await.unwrap();
    let failed = steps
        .iter()
        .find(|step| step.name == "extract_flights")
        .unwrap();
    assert_eq!(failed.attempts, 1);
    let error = failed.error.as_ref().unwrap();
    assert!(
        error.contains("data/flights.csv, line 2: 2 columns, expected 5"),
        "{error}"
    );
}
