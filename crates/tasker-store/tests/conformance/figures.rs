//! Figures over many tasks are what one would count by reading every record.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tasker_model::outcome::FailureKind;
use tasker_model::readiness::ReadinessWord as W;
use tasker_model::rollup::{ExecutionStatus, HealthStatus};
use tasker_model::step::StepState;
use tasker_model::task::TaskState;
use tasker_store::figures::{SlowStep, SlowTask, Slowest, StepStateCounts, TaskCounts};
use tasker_store::record::{StepRecord, TaskDetail};
use tasker_store::store::{Order, TaskFilter};

use crate::fixture::{Fixture, fail, ms, retry_in, source, succeed};
use crate::random::midway;

/// Every task with all that is known of it.
pub(crate) async fn all(f: &Fixture) -> Vec<TaskDetail> {
    let mut found = Vec::new();
    for task in f.list(TaskFilter::default()).await {
        found.push(f.detail(task).await);
    }
    found
}

/// Tasks in every situation: random ones in the middle of their lives, and the corners.
pub(crate) async fn mix(f: &Fixture) {
    for seed in [3, 4] {
        midway(f, seed).await;
    }
    let single = f.define("single", &[("only", &[])]).await;
    let worker = f.worker(&[&single]);
    let failed = f.start(&single).await;
    let step = f.claim_one(&worker).await;
    f.clock.advance(ms(1_234));
    f.settle(&worker, &step, fail(FailureKind::Permanent)).await;
    assert_eq!(f.state(failed).await, TaskState::Error);
    let mut once = source("once", &[("only", &[])]);
    once.steps[0].retry.limit = 1;
    let once = f.register(once).await;
    let other = f.worker(&[&once]);
    f.start(&once).await;
    let step = f.claim_one(&other).await;
    f.settle(&other, &step, fail(FailureKind::Retryable)).await;
    let resolved = f.start(&single).await;
    let step = f.claim_one(&worker).await;
    f.settle(&worker, &step, fail(FailureKind::Permanent)).await;
    f.order(resolved, Order::ResolveTask).await.unwrap();
    let skipped = f.start(&single).await;
    f.order(skipped, Order::SkipStep(0)).await.unwrap();
    let cancelled = f.start(&single).await;
    f.order(cancelled, Order::CancelTask).await.unwrap();
    f.start(&single).await;
    let step = f.claim_one(&worker).await;
    f.settle(&worker, &step, retry_in(60_000)).await;
    f.start(&single).await;
    let step = f.claim_one(&worker).await;
    f.clock.advance(ms(7_777));
    f.settle(&worker, &step, succeed(&json!(1))).await;
    f.start(&single).await;
}

fn steps(details: &[TaskDetail]) -> impl Iterator<Item = (&TaskDetail, &StepRecord)> {
    details
        .iter()
        .flat_map(|detail| detail.steps.iter().map(move |step| (detail, step)))
}

pub(crate) async fn an_empty_store_has_figures(f: Fixture) {
    let health = f.store.system_health().await.unwrap();
    assert_eq!((health.tasks.total, health.steps.total), (0, 0));
    let analytics = f.store.analytics(None).await.unwrap();
    assert!((analytics.system_health_score - 1.0).abs() < f64::EPSILON);
    assert!(analytics.completion_rate.abs() < f64::EPSILON);
    assert_eq!(analytics.avg_task_duration_ms, 0);
    assert_eq!(analytics.calculated_at, f.now());
    let hour = SignedDuration::from_hours(1);
    assert_eq!(analytics.analysis_period_start, f.now() - hour);
    assert_eq!(f.store.slowest_tasks(Slowest::default()).await.unwrap(), []);
    assert_eq!(f.store.slowest_steps(Slowest::default()).await.unwrap(), []);
}

pub(crate) async fn health_counts_every_state(f: Fixture) {
    mix(&f).await;
    let (details, now) = (all(&f).await, f.now());
    let tasks = |state| {
        let found = details.iter().filter(|d| d.task.summary.state == state);
        found.count() as u64
    };
    let of = |wanted: &dyn Fn(&StepRecord) -> bool| {
        steps(&details).filter(|(_, step)| wanted(step)).count() as u64
    };
    let state = |state| of(&move |step| step.state == state);
    let failed = |wanted: &dyn Fn(&StepRecord) -> bool| {
        of(&|step| step.state == StepState::Error && wanted(step))
    };
    let health = f.store.system_health().await.unwrap();
    let expected = TaskCounts {
        total: details.len() as u64,
        pending: tasks(TaskState::Pending),
        in_progress: tasks(TaskState::InProgress),
        complete: tasks(TaskState::Complete),
        error: tasks(TaskState::Error),
        cancelled: tasks(TaskState::Cancelled),
        resolved_manually: tasks(TaskState::ResolvedManually),
    };
    assert_eq!(health.tasks, expected);
    assert!(expected.resolved_manually > 0 && expected.cancelled > 0);
    let expected = StepStateCounts {
        total: of(&|_| true),
        pending: state(StepState::Pending),
        in_progress: state(StepState::InProgress),
        complete: state(StepState::Complete),
        error: state(StepState::Error),
        cancelled: state(StepState::Cancelled),
        resolved_manually: state(StepState::ResolvedManually),
        skipped: state(StepState::Skipped),
        retryable_error: failed(&|s| s.due_at.is_some()),
        exhausted_retry: failed(&|s| s.due_at.is_none() && s.attempts >= s.attempt_limit),
        permanent_error: failed(&|s| s.due_at.is_none() && s.attempts < s.attempt_limit),
        in_backoff: failed(&|s| s.due_at.is_some_and(|due| due > now)),
    };
    assert_eq!(health.steps, expected);
    assert!(expected.in_backoff > 0 && expected.permanent_error > 0);
    assert!(expected.exhausted_retry > 0);
    // A backoff that is over is none, although nobody has looked at the step since.
    f.clock.advance(ms(3_600_000));
    let later = f.store.system_health().await.unwrap().steps;
    assert_eq!(later.in_backoff, 0);
    assert_eq!(later.retryable_error, expected.retryable_error);
}

fn mean_ms(times: impl Iterator<Item = SignedDuration>) -> i64 {
    let times: Vec<i128> = times.map(|time| time.as_micros()).collect();
    let number = times.len().max(1) as i128;
    i64::try_from((times.iter().sum::<i128>() + number * 500) / (number * 1_000)).unwrap()
}

#[expect(clippy::too_many_lines, reason = "one check per figure")]
pub(crate) async fn analytics_are_about_whole_tasks(f: Fixture) {
    let start = f.now();
    mix(&f).await;
    f.clock.advance(ms(3_500_000));
    midway(&f, 5).await;
    let (details, now) = (all(&f).await, f.now());
    let hour_ago = now - SignedDuration::from_hours(1);
    for since in [None, Some(start), Some(now)] {
        let from = since.unwrap_or(hour_ago);
        let created = |after: Timestamp| {
            let late = move |d: &&TaskDetail| d.task.summary.created_at >= after;
            details.iter().filter(late)
        };
        let good = |d: &&TaskDetail| {
            matches!(
                d.task.summary.state,
                TaskState::Complete | TaskState::ResolvedManually
            )
        };
        let bad = |d: &&TaskDetail| d.task.summary.state == TaskState::Error;
        let found = f.store.analytics(since).await.unwrap();
        let active = details.iter().filter(|d| !d.task.summary.state.is_final());
        assert_eq!(found.active_tasks, active.count() as u64);
        let types: BTreeSet<_> = details.iter().map(|d| &d.task.summary.name).collect();
        assert_eq!(
            (found.namespaces, found.task_types),
            (1, types.len() as u64)
        );
        let number = created(from).count();
        let (completions, errors) = (
            created(from).filter(good).count(),
            created(from).filter(bad).count(),
        );
        assert_eq!(found.task_throughput, number as u64);
        assert_eq!(
            (found.completions, found.errors),
            (completions as u64, errors as u64)
        );
        let percent = |part: usize| match number {
            0 => 0.0,
            _ => (part as f64 * 10_000.0 / number as f64).round() / 100.0,
        };
        assert!((found.completion_rate - percent(completions)).abs() < 1e-9);
        assert!((found.error_rate - percent(errors)).abs() < 1e-9);
        let (good, bad) = (
            created(hour_ago).filter(good).count() as f64,
            created(hour_ago).filter(bad).count() as f64,
        );
        let score = if good + bad > 0.0 {
            (good * 1_000.0 / (good + bad)).round() / 1_000.0
        } else {
            1.0
        };
        assert!((found.system_health_score - score).abs() < 1e-9);
        let complete = created(from).filter(|d| d.task.summary.state == TaskState::Complete);
        let took = |d: &TaskDetail| {
            let task = &d.task.summary;
            task.finished_at.unwrap().duration_since(task.created_at)
        };
        assert_eq!(found.avg_task_duration_ms, mean_ms(complete.map(took)));
        let ran = created(from)
            .flat_map(|d| &d.steps)
            .filter(|step| step.state == StepState::Complete)
            .map(|s| s.finished_at.unwrap().duration_since(s.started_at.unwrap()));
        assert_eq!(found.avg_step_duration_ms, mean_ms(ran));
        let steps: usize = created(from).map(|d| d.steps.len()).sum();
        assert_eq!(found.step_throughput, steps as u64);
        assert_eq!(
            (found.analysis_period_start, found.calculated_at),
            (from, now)
        );
    }
}

fn slow_task(detail: &TaskDetail) -> Option<SlowTask> {
    let task = &detail.task.summary;
    let ended = matches!(
        task.state,
        TaskState::Complete | TaskState::Error | TaskState::ResolvedManually
    );
    let finished_at = task.finished_at.filter(|_| ended)?;
    Some(SlowTask {
        task_id: task.task_id,
        namespace: task.namespace.clone(),
        name: task.name.clone(),
        version: task.version,
        state: task.state,
        duration_ms: mean_ms(std::iter::once(finished_at.duration_since(task.created_at))),
        steps: task.steps.total_steps,
        done_steps: task.steps.done_steps,
        failed_steps: task.steps.failed_steps,
        created_at: task.created_at,
        finished_at,
        initiator: detail.task.initiator.clone(),
        source_system: detail.task.source_system.clone(),
    })
}

fn slow_step(detail: &TaskDetail, step: &StepRecord) -> Option<SlowStep> {
    let task = &detail.task.summary;
    let (started, finished_at) = (step.started_at?, step.finished_at?);
    let between = |from| mean_ms(std::iter::once(finished_at.duration_since(from)));
    (step.state == StepState::Complete && finished_at > started).then(|| SlowStep {
        task_id: task.task_id,
        position: step.position,
        name: step.name.clone(),
        namespace: task.namespace.clone(),
        task_name: task.name.clone(),
        version: task.version,
        duration_ms: between(started),
        total_ms: between(task.created_at),
        attempts: step.attempts,
        retryable: step.attempt_limit > 1,
        created_at: task.created_at,
        finished_at,
    })
}

pub(crate) async fn the_slowest_come_first(f: Fixture) {
    mix(&f).await;
    let details = all(&f).await;
    let mut tasks: Vec<_> = details.iter().filter_map(slow_task).collect();
    tasks.sort_by_key(|task| (std::cmp::Reverse(task.duration_ms), task.task_id));
    let mut found: Vec<_> = steps(&details)
        .filter_map(|(detail, step)| slow_step(detail, step))
        .collect();
    found.sort_by_key(|step| {
        let longest = std::cmp::Reverse(step.duration_ms);
        (longest, step.task_id, step.position)
    });
    assert!(
        tasks.len() > 4 && found.len() > 4,
        "there is something to sort"
    );
    for limit in [0, 3, 1_000] {
        let among = Slowest {
            limit,
            ..Slowest::default()
        };
        let slowest = f.store.slowest_tasks(among.clone()).await.unwrap();
        assert_eq!(slowest, tasks[..limit.min(tasks.len())]);
        let slowest = f.store.slowest_steps(among).await.unwrap();
        assert_eq!(slowest, found[..limit.min(found.len())]);
    }
}

pub(crate) async fn the_slowest_are_filtered(f: Fixture) {
    mix(&f).await;
    let single = || Slowest {
        limit: 1_000,
        name: Some("single".to_owned()),
        ..Slowest::default()
    };
    let found = f.store.slowest_tasks(single()).await.unwrap();
    assert!(!found.is_empty() && found.iter().all(|task| task.name.as_str() == "single"));
    let steps = f.store.slowest_steps(single()).await.unwrap();
    assert_eq!(steps[0].duration_ms, 7_777);
    let nothing = [
        Slowest {
            since: Some(f.now_and(1)),
            ..single()
        },
        Slowest {
            namespace: Some("bank".to_owned()),
            ..single()
        },
        Slowest {
            version: Some("2.0.0".parse().unwrap()),
            ..single()
        },
        Slowest {
            name: Some("none".to_owned()),
            ..single()
        },
    ];
    for among in nothing {
        assert_eq!(f.store.slowest_tasks(among.clone()).await.unwrap(), []);
        assert_eq!(f.store.slowest_steps(among).await.unwrap(), []);
    }
    // Without a time, the last day counts.
    f.clock.advance(ms(25 * 3_600_000));
    assert_eq!(f.store.slowest_tasks(single()).await.unwrap(), []);
}

/// Spec 04 §3 and §6.1: what is called ready is what a claim takes, and a failure for good blocks.
pub(crate) async fn readiness_follows_the_claim(f: Fixture) {
    let fork = f
        .define("fork", &[("a", &[]), ("b", &[]), ("c", &["a", "b"])])
        .await;
    let worker = f.worker(&[&fork]);
    let task = f.start(&fork).await;
    let words = async || {
        let detail = f.detail(task).await;
        let rows = detail.readiness(&fork.template, f.now());
        let words: Vec<_> = rows.iter().map(|row| row.readiness).collect();
        (words, detail.execution_context(f.now()))
    };
    let (rows, context) = words().await;
    assert_eq!(rows, [W::Ready, W::Ready, W::WaitingForParents]);
    assert_eq!(context.execution_status, ExecutionStatus::HasReadySteps);
    let claimed = f.claim(&worker, 10).await.claimed;
    f.settle(&worker, &claimed[0], retry_in(1_000)).await;
    let (rows, context) = words().await;
    assert_eq!(rows, [W::WaitingUntil, W::Running, W::WaitingForParents]);
    assert_eq!(context.execution_status, ExecutionStatus::Processing);
    f.settle(&worker, &claimed[1], fail(FailureKind::Permanent))
        .await;
    let (rows, context) = words().await;
    assert_eq!(rows, [W::WaitingUntil, W::Blocked, W::WaitingForParents]);
    assert_eq!(
        (context.execution_status, context.health_status),
        (
            ExecutionStatus::WaitingForDependencies,
            HealthStatus::Blocked
        )
    );
    f.clock.advance(ms(1_000));
    assert_eq!(words().await.0[0], W::Ready);
    let step = f.claim_one(&worker).await;
    f.settle(&worker, &step, fail(FailureKind::Permanent)).await;
    let (rows, context) = words().await;
    assert_eq!(rows, [W::Blocked, W::Blocked, W::WaitingForParents]);
    assert_eq!(
        (context.execution_status, context.health_status),
        (ExecutionStatus::BlockedByFailures, HealthStatus::Blocked)
    );
    assert_eq!((context.failed_steps, context.pending_steps), (2, 1));
}
