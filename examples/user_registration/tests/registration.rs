//! The file as it stands, against services that answer as each test wants.

use std::path::Path;

use serde_json::{Value, json};
use tasker::model::outcome::{Failure, FailureKind};
use tasker::model::task::TaskState;
use tasker::model::transition::Transition;
use tasker::{Error, StepHandlers, Task, TaskRequest, Tasker, WorkflowStep, yaml};
use user_registration::accounts::{Accounts, Fault};
use user_registration::server::Server;

const ADA: &str = "ada@example.com";

async fn services(accounts: Accounts) -> Server {
    Server::start(0, accounts).await.unwrap()
}

async fn with_fault(fault: Fault) -> Server {
    let mut accounts = Accounts::default();
    accounts.add_fault(fault);
    services(accounts).await
}

fn ada(plan: &str) -> Value {
    json!({"user_info": {"email": ADA, "name": "Ada", "plan": plan}, "correlation_id": "reg_1_ab"})
}

async fn request(server: &Server, mut context: Value) -> Result<Task, Error> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("user_registration.yaml");
    let file = yaml::load_file(&path, "test").unwrap();
    assert_eq!(file.notes, []);
    let handler = StepHandlers::new().bind(&file).unwrap();
    let tasker = Tasker::builder("sqlite::memory:").register(handler);
    let tasker = tasker.start().await.unwrap();
    context["services"] = json!(server.url());
    let request = TaskRequest::new("user_registration")
        .namespace("blog_examples")
        .context(context);
    tasker.executor().execute_sync(request, None).await
}

async fn run(server: &Server, context: Value) -> Task {
    request(server, context).await.unwrap()
}

async fn step(task: &Task, name: &str) -> WorkflowStep {
    let steps = task.workflow_steps().await.unwrap();
    steps.into_iter().find(|step| step.name == name).unwrap()
}

async fn result(task: &Task, name: &str) -> Value {
    step(task, name).await.result.unwrap_or_default()
}

/// Every failure of every attempt, with its place in the record.
async fn failures(task: &Task) -> Vec<(Transition, Failure)> {
    let record = task.detail().await.unwrap().transitions;
    let failed = record.into_iter();
    failed
        .filter_map(|change| Some((change.clone(), change.failure?)))
        .collect()
}

fn paths(server: &Server) -> Vec<String> {
    let requests = server.requests().into_iter();
    requests.map(|(request, _)| request.path).collect()
}

#[tokio::test]
async fn a_fresh_user_is_registered_by_one_request_per_step() {
    let server = services(Accounts::default()).await;
    let task = run(&server, ada("pro")).await;
    assert_eq!(
        task.state(),
        TaskState::Complete,
        "{:?}",
        failures(&task).await
    );
    let mut paths = paths(&server);
    paths[1..3].sort();
    assert_eq!(
        paths,
        [
            "/users",
            "/preferences",
            "/profiles",
            "/welcome",
            "/users/user_1/status"
        ]
    );
    assert_eq!(step(&task, "match_existing_user").await.status, "skipped");
    let account = result(&task, "create_user_account").await;
    assert_eq!(account["user_id"], "user_1");
    assert_eq!(account["status"], "created");
    assert_eq!(account["correlation_id"], "reg_1_ab");
    let billing = result(&task, "setup_billing_profile").await;
    let expected = json!({"profile_id": "profile_user_1", "user_id": "user_1", "plan": "pro", "status": "created"});
    assert_eq!(billing, expected);
    let welcome = result(&task, "send_welcome_sequence").await;
    assert_eq!(welcome["emails_sent"], 3);
    let last = result(&task, "update_user_status").await;
    assert_eq!(last["status"], "active");
    assert_eq!(last["registration_complete"], true);
    assert_eq!(last["completed_steps"].as_array().unwrap().len(), 4);
    assert_eq!(server.accounts().users()[0].status, "active");
}

#[tokio::test]
async fn every_request_has_the_correlation_id() {
    for given in [Some("reg_1_ab"), None] {
        let server = services(Accounts::default()).await;
        let mut context = ada("free");
        if given.is_none() {
            context.as_object_mut().unwrap().remove("correlation_id");
        }
        let task = run(&server, context).await;
        let expected = given.map_or(format!("reg_{}", task.id()), str::to_owned);
        let requests = server.requests();
        assert_eq!(requests.len(), 5);
        for (request, _) in requests {
            assert_eq!(
                request.headers["x-correlation-id"], expected,
                "{}",
                request.path
            );
        }
    }
}

#[tokio::test]
async fn the_welcome_depends_on_the_plan() {
    let plans = [
        ("free", 1, "complete_profile"),
        ("pro", 3, "complete_profile"),
        ("enterprise", 5, "meet_your_manager"),
    ];
    for (plan, features, first) in plans {
        let server = services(Accounts::default()).await;
        let task = run(&server, ada(plan)).await;
        assert_eq!(task.state(), TaskState::Complete);
        let welcome = server.accounts().welcomes()[0].clone();
        assert_eq!(welcome["greeting"], "Welcome, Ada!");
        assert_eq!(welcome["features"].as_array().unwrap().len(), features);
        assert_eq!(welcome["onboarding_steps"][0], first);
    }
}

#[tokio::test]
async fn a_user_who_is_registered_already_is_a_success() {
    let mut accounts = Accounts::default();
    accounts.add_registered(ADA, "Ada", "pro");
    let server = services(accounts).await;
    let task = run(&server, ada("pro")).await;
    assert_eq!(
        task.state(),
        TaskState::Complete,
        "{:?}",
        failures(&task).await
    );
    assert_eq!(
        result(&task, "create_user_account").await["status"],
        "already_exists"
    );
    assert_eq!(
        result(&task, "match_existing_user").await["user_id"],
        "user_1"
    );
    let billing = result(&task, "setup_billing_profile").await;
    assert_eq!(billing["profile_id"], "existing_profile_user_1");
    assert_eq!(
        result(&task, "initialize_preferences").await["status"],
        "already_exists"
    );
    assert_eq!(server.accounts().users().len(), 1);
    assert_eq!(server.requests().len(), 6);
}

#[tokio::test]
async fn another_user_with_the_same_address_is_a_conflict() {
    let mut accounts = Accounts::default();
    accounts.add_registered(ADA, "Adam", "pro");
    let server = services(accounts).await;
    let task = run(&server, ada("pro")).await;
    assert_eq!(task.state(), TaskState::Error);
    let failed = failures(&task).await;
    assert_eq!(failed.len(), 1);
    let failure = &failed[0].1;
    assert_eq!(failure.kind, FailureKind::Permanent);
    assert_eq!(failure.error_code.as_deref(), Some("HTTP_409"));
    assert!(
        failure.context.to_string().contains("USER_CONFLICT"),
        "{}",
        failure.context
    );
    assert_eq!(paths(&server), ["/users", "/users/match"]);
}

#[tokio::test]
async fn a_limited_rate_is_kept_for_as_long_as_the_service_asks() {
    for seconds in [0, 1] {
        let server = with_fault(Fault {
            retry_after: Some(seconds),
            ..Fault::new("/welcome", 429, 1)
        })
        .await;
        let task = run(&server, ada("free")).await;
        assert_eq!(task.state(), TaskState::Complete);
        assert_eq!(step(&task, "send_welcome_sequence").await.attempts, 2);
        let failed = failures(&task).await;
        let (change, failure) = &failed[0];
        assert_eq!(failure.error_code.as_deref(), Some("HTTP_429"));
        assert_eq!(failure.retry_after_ms, Some(u64::from(seconds) * 1_000));
        let steps = task.detail().await.unwrap().steps;
        let welcome = steps.iter().find(|step| step.attempts == 2).unwrap();
        assert!(welcome.started_at >= change.retry_at, "{welcome:?}");
    }
}

#[tokio::test]
async fn a_service_that_is_down_for_a_while_is_asked_again() {
    let paths = [
        "/users",
        "/profiles",
        "/preferences",
        "/welcome",
        "/users/user_1/status",
    ];
    for path in paths {
        let server = with_fault(Fault::new(path, 503, 1)).await;
        let task = run(&server, ada("free")).await;
        assert_eq!(task.state(), TaskState::Complete, "{path}");
        assert_eq!(server.requests().len(), 6, "{path}");
        let failed = failures(&task).await;
        assert_eq!(failed[0].1.error_code.as_deref(), Some("HTTP_503"));
    }
    let server = with_fault(Fault::new("/welcome", 503, 9)).await;
    let task = run(&server, ada("free")).await;
    assert_eq!(task.state(), TaskState::Error);
    assert_eq!(step(&task, "send_welcome_sequence").await.attempts, 5);
    assert_eq!(step(&task, "update_user_status").await.attempts, 0);
}

#[tokio::test]
async fn what_is_done_although_its_answer_was_lost_is_not_done_again() {
    for path in ["/users", "/welcome"] {
        let server = with_fault(Fault {
            is_done: true,
            ..Fault::new(path, 503, 1)
        })
        .await;
        let task = run(&server, ada("free")).await;
        assert_eq!(task.state(), TaskState::Complete);
        assert_eq!(
            result(&task, "create_user_account").await["status"],
            "created"
        );
        let accounts = server.accounts();
        assert_eq!((accounts.users().len(), accounts.welcomes().len()), (1, 1));
    }
}

#[tokio::test]
async fn a_request_that_is_wrong_is_not_repeated() {
    for status in [400, 401, 403, 404, 422] {
        let server = with_fault(Fault::new("/profiles", status, 9)).await;
        let task = run(&server, ada("free")).await;
        assert_eq!(task.state(), TaskState::Error);
        assert_eq!(step(&task, "setup_billing_profile").await.attempts, 1);
        assert_eq!(
            step(&task, "initialize_preferences").await.status,
            "completed"
        );
        let failed = failures(&task).await;
        assert_eq!(failed[0].1.error_code, Some(format!("HTTP_{status}")));
    }
}

#[tokio::test]
async fn a_user_who_is_gone_in_the_end_is_a_permanent_failure() {
    let server = with_fault(Fault::new("/users/user_1/status", 404, 1)).await;
    let task = run(&server, ada("free")).await;
    assert_eq!(task.state(), TaskState::Error);
    assert_eq!(step(&task, "update_user_status").await.attempts, 1);
}

#[tokio::test]
async fn a_success_without_id_is_a_permanent_failure() {
    let server = with_fault(Fault::new("/users", 201, 1)).await;
    let task = run(&server, ada("free")).await;
    let failed = failures(&task).await;
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].1.error_code.as_deref(), Some("EXPRESSION"));
    assert_eq!(task.state(), TaskState::Error);
}

#[tokio::test]
async fn without_address_or_name_there_is_no_task() {
    let server = services(Accounts::default()).await;
    for member in ["email", "name"] {
        let mut context = ada("free");
        context["user_info"].as_object_mut().unwrap().remove(member);
        let refused = request(&server, context).await.unwrap_err().to_string();
        assert!(refused.contains(member), "{refused}");
    }
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn the_context_of_the_readme_is_good() {
    let server = services(Accounts::default()).await;
    let context = serde_json::from_str(include_str!("../ada.json")).unwrap();
    let task = run(&server, context).await;
    assert_eq!(task.state(), TaskState::Complete);
}
