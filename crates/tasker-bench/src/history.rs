//! Does a step cost the same in a store with a long history?

use std::error::Error;
use std::path::Path;

use tokio_postgres::NoTls;

use crate::place::{Kind, Place};
use crate::workload::Workload;
use crate::{floor, latency, median, milliseconds, quantile, sorted, start_with};

const ROUNDS: usize = 3;
/// Tasks that one statement copies.
const COPIED_AT_ONCE: u32 = 50_000;

/// Prints throughput and latency on an empty store, and with so many finished tasks in it.
pub(crate) async fn history(
    kind: Kind,
    folder: &Path,
    finished: u32,
) -> Result<(), Box<dyn Error>> {
    let workload = Workload::Linear4;
    println!("{:<16} {:>10} {:>9}", "finished tasks", "steps/s", "p50 ms");
    let mut figures = Vec::new();
    for finished in [0, finished] {
        let place = Place::fresh(kind, folder).await?;
        fill(&place, workload, finished).await?;
        eprintln!("{finished} finished tasks are in place");
        let mut rates = Vec::new();
        let mut medians = Vec::new();
        for _ in 0..ROUNDS {
            let run = crate::throughput(&place, workload, 5_000).await?;
            rates.push(20_000.0 / run.time.as_secs_f64());
            let times = sorted(latency(&place, workload, 500).await?.0);
            medians.push(milliseconds(quantile(&times, 0.5)));
        }
        let (rate, p50) = (median(rates), median(medians));
        println!("{finished:<16} {rate:>10.0} {p50:>9.3}");
        figures.push((rate, p50));
        place.remove().await?;
    }
    let [(empty_rate, empty_p50), (rate, p50)] = figures[..] else {
        return Ok(());
    };
    println!(
        "cost per step {:.2}x, latency {:.2}x",
        empty_rate / rate,
        p50 / empty_p50
    );
    Ok(())
}

/// Leaves finished tasks behind, of the kind that is measured.
async fn fill(place: &Place, workload: Workload, tasks: u32) -> Result<(), Box<dyn Error>> {
    let tasker = start_with(place, workload.handler()?).await?;
    let executor = tasker.executor();
    let sample = executor
        .execute_sync(crate::request(workload), None)
        .await?
        .id();
    tasker.stop().await?;
    let Place::Postgres(schema) = place else {
        floor::throughput(place, workload, tasks).await?;
        return Ok(());
    };
    // Copied inside of the server: ten millions of steps would take the floor half an hour.
    let client = schema.connect().await?;
    client.batch_execute(COPY).await?;
    for first in (1..=tasks).step_by(COPIED_AT_ONCE as usize) {
        let last = tasks.min(first + COPIED_AT_ONCE - 1);
        let copy = format!("CALL copy_task('{sample}', {first}, {last})");
        client.batch_execute(&copy).await?;
    }
    client.batch_execute("VACUUM (ANALYZE)").await?;
    checkpoint().await
}

/// Lets the server write out what was copied, which would otherwise go on during the measurement.
async fn checkpoint() -> Result<(), Box<dyn Error>> {
    let Ok(superuser) = std::env::var("TASKER_BENCH_POSTGRES_SUPER") else {
        eprintln!("TASKER_BENCH_POSTGRES_SUPER is not set: the server may still be writing");
        return Ok(());
    };
    let (client, connection) = tokio_postgres::connect(&superuser, NoTls).await?;
    tokio::spawn(connection);
    Ok(client.batch_execute("CHECKPOINT").await?)
}

/// All rows of a task again, under other ids, which are those of some years ago.
const COPY: &str = "
CREATE PROCEDURE copy_task(sample uuid, first int, last int) LANGUAGE plpgsql AS $$
DECLARE
    t text;
    c text;
BEGIN
    FOREACH t IN ARRAY ARRAY['tasker_tasks', 'tasker_requests', 'tasker_steps', 'tasker_transitions'] LOOP
        SELECT string_agg(quote_ident(attname), ', ') INTO c
        FROM pg_attribute
        WHERE attrelid = t::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'task_id';
        EXECUTE format(
            'INSERT INTO %I (task_id, %s)
             SELECT (lpad(to_hex(1500000000000 + n), 12, ''0'') || ''70008000000000000000'')::uuid, %s
             FROM generate_series($1, $2) AS n, %I WHERE task_id = $3', t, c, c, t)
        USING first, last, sample;
    END LOOP;
END $$";
