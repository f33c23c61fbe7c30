//! The pipeline as a workflow: two extracts side by side, two sets of metrics side by side,
//! insights, and a report.
//!
//! ```text
//! extract_flights ──┬── airport_metrics ──┐
//!                   ╳                     ├── generate_insights ── write_report
//! extract_airports ─┴── route_metrics ────┘
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tasker::{Error, PermanentError, Step, StepContext, StepResult, TaskHandler};

use crate::analysis::{
    AirportMetrics, Airports, DataError, Flights, Insights, RouteMetrics, airport_metrics,
    insights, parse_airports, parse_flights, route_metrics,
};
use crate::report::{html_report, json_summary};
use crate::{AIRPORTS_CSV, FLIGHTS_CSV};

/// The namespace of the task handler.
pub const NAMESPACE: &str = "examples";
/// The name of the task handler.
pub const NAME: &str = "flight_delays";

/// The input of a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Context {
    /// Where the report and the summary are written.
    pub output_folder: PathBuf,
    /// Flights as CSV; the embedded ones if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flights_csv: Option<PathBuf>,
    /// Airports as CSV; the embedded ones if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub airports_csv: Option<PathBuf>,
    /// Every step takes at least this many milliseconds, so that a person can watch.
    #[serde(default)]
    pub pace_ms: u64,
}

/// Where the last step has written what.
#[derive(Debug, Serialize, Deserialize)]
pub struct Written {
    /// The report, an HTML page.
    pub report: PathBuf,
    /// The summary, JSON.
    pub summary: PathBuf,
}

/// The task handler.
pub fn task_handler() -> Result<TaskHandler, Error> {
    TaskHandler::new(NAMESPACE, NAME, "1.0.0")
        .description("Which US airports and routes were late in 2001?")
        .schema(json!({
            "type": "object",
            "required": ["output_folder"],
            "additionalProperties": false,
            "properties": {
                "output_folder": {"type": "string", "minLength": 1},
                "flights_csv": {"type": "string"},
                "airports_csv": {"type": "string"},
                "pace_ms": {"type": "integer", "minimum": 0, "maximum": 60_000, "default": 0}
            }
        }))
        .step(Step::new("extract_flights", extract_flights).description("Read and check flights"))
        .step(
            Step::new("extract_airports", extract_airports).description("Read and check airports"),
        )
        .step(
            Step::new("airport_metrics", airports_step)
                .description("Delays by airport and by hour")
                .depends_on_steps(["extract_flights", "extract_airports"]),
        )
        .step(
            Step::new("route_metrics", routes_step)
                .description("Delays by route")
                .depends_on_steps(["extract_flights", "extract_airports"]),
        )
        .step(
            Step::new("generate_insights", insights_step)
                .description("What stands out")
                .depends_on_steps(["airport_metrics", "route_metrics"]),
        )
        .step(
            Step::new("write_report", write_report)
                .description("Write the page and the summary")
                .depends_on_step("generate_insights"),
        )
        .build()
}

/// Data that is wrong stays wrong: another attempt would read the same line.
fn permanent(error: &DataError) -> PermanentError {
    PermanentError::new(error.to_string()).error_code("INVALID_DATA")
}

async fn pace(context: &Context) {
    tokio::time::sleep(Duration::from_millis(context.pace_ms)).await;
}

fn text(file: Option<&Path>, embedded: &str) -> StepResult<String> {
    match file {
        None => Ok(embedded.to_owned()),
        Some(path) => fs::read_to_string(path).map_err(|error| {
            std::io::Error::new(
                error.kind(),
                format!("cannot read {}: {error}", path.display()),
            )
            .into()
        }),
    }
}

async fn extract_flights(step: StepContext) -> StepResult<Flights> {
    let context: Context = step.context()?;
    pace(&context).await;
    let csv = text(context.flights_csv.as_deref(), FLIGHTS_CSV)?;
    Ok(parse_flights(&csv).map_err(|error| permanent(&error))?)
}

async fn extract_airports(step: StepContext) -> StepResult<Airports> {
    let context: Context = step.context()?;
    pace(&context).await;
    let csv = text(context.airports_csv.as_deref(), AIRPORTS_CSV)?;
    Ok(parse_airports(&csv, None).map_err(|error| permanent(&error))?)
}

async fn airports_step(step: StepContext) -> StepResult<AirportMetrics> {
    pace(&step.context()?).await;
    let flights: Flights = step.parent("extract_flights")?;
    let airports: Airports = step.parent("extract_airports")?;
    Ok(airport_metrics(&flights, &airports))
}

async fn routes_step(step: StepContext) -> StepResult<RouteMetrics> {
    pace(&step.context()?).await;
    let flights: Flights = step.parent("extract_flights")?;
    let airports: Airports = step.parent("extract_airports")?;
    Ok(route_metrics(&flights, &airports))
}

async fn insights_step(step: StepContext) -> StepResult<Insights> {
    pace(&step.context()?).await;
    let airports: AirportMetrics = step.parent("airport_metrics")?;
    let routes: RouteMetrics = step.parent("route_metrics")?;
    Ok(insights(&airports, &routes))
}

async fn write_report(step: StepContext) -> StepResult<Written> {
    let context: Context = step.context()?;
    pace(&context).await;
    let insights: Insights = step.parent("generate_insights")?;
    let note = format!(
        "Task {}, attempt {} of its last step",
        step.task_id(),
        step.attempt()
    );
    let folder = &context.output_folder;
    fs::create_dir_all(folder)?;
    let written = Written {
        report: folder.join("report.html"),
        summary: folder.join("summary.json"),
    };
    let summary = serde_json::to_string_pretty(&json_summary(&insights)?)?;
    replace(&written.report, &html_report(&insights, &note))?;
    replace(&written.summary, &summary)?;
    Ok(written)
}

/// Writes beside the file and renames, so that a crash leaves the old file or the new one.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}
