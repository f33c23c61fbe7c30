//! Both workflows against services that answer as each test wants: every word, every status.

use std::time::Duration;

use process_refund::company::{BARE_TICKET, Company, Fault, INVALID_TICKET, Instead};
use process_refund::server::Server;
use process_refund::services::Client;
use process_refund::task_handlers;
use serde_json::{Value, json};
use tasker::model::id::StepKey;
use tasker::model::outcome::{Failure, FailureKind};
use tasker::model::task::TaskState;
use tasker::{Builder, Error, Task, TaskRequest, Tasker, WorkflowStep, step_position};

const PAYMENT: &str = include_str!("../payment.json");
const TICKET: &str = include_str!("../ticket.json");
/// For answers that come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Both task handlers, and the services that their contexts name.
struct World {
    tasker: Tasker,
    server: Server,
}

impl World {
    async fn new(company: Company) -> World {
        World::with_patience(company, PATIENCE).await
    }

    async fn with_patience(company: Company, patience: Duration) -> World {
        let server = Server::start(0, company).await.unwrap();
        let handlers = task_handlers("test", Client::new(patience).unwrap()).unwrap();
        let builder = Tasker::builder("sqlite::memory:");
        let builder = handlers.into_iter().fold(builder, Builder::register);
        let tasker = builder.start().await.unwrap();
        World { tasker, server }
    }

    async fn with_fault(path: &str, instead: Instead, times: Option<u32>) -> World {
        let mut company = Company::default();
        company.add_fault(Fault::new(path, instead, times));
        World::new(company).await
    }

    /// Runs the `process_refund` of a namespace; the sample with these members in place of its own.
    async fn request(&self, namespace: &str, changes: &Value) -> Result<Task, Error> {
        let sample = if namespace == "payments" {
            PAYMENT
        } else {
            TICKET
        };
        let mut context: Value = serde_json::from_str(sample).unwrap();
        context["services"] = json!(self.server.url());
        for (name, value) in changes.as_object().unwrap() {
            context[name] = value.clone();
        }
        let context = context.as_object().unwrap().clone();
        // `null` in a change takes the member away.
        let context: Value = context.into_iter().filter(|(_, v)| !v.is_null()).collect();
        let request = TaskRequest::new("process_refund")
            .namespace(namespace)
            .context(context);
        self.tasker.executor().execute_sync(request, None).await
    }

    async fn run(&self, namespace: &str, changes: Value) -> Task {
        self.request(namespace, &changes).await.unwrap()
    }

    fn paths(&self) -> Vec<String> {
        let requests = self.server.requests().into_iter();
        requests.map(|request| request.path).collect()
    }
}

async fn step(task: &Task, name: &str) -> WorkflowStep {
    let steps = task.workflow_steps().await.unwrap();
    steps.into_iter().find(|step| step.name == name).unwrap()
}

async fn result(task: &Task, name: &str) -> Value {
    step(task, name).await.result.unwrap_or_default()
}

/// All failures of all attempts, in order.
async fn failures(task: &Task) -> Vec<Failure> {
    let record = task.detail().await.unwrap().transitions;
    let failures = record.into_iter().filter_map(|change| change.failure);
    failures.collect()
}

#[tokio::test]
async fn the_payments_team_gives_money_back_in_four_steps() {
    let world = World::new(Company::default()).await;
    let task = world.run("payments", json!({})).await;
    assert_eq!(
        task.state(),
        TaskState::Complete,
        "{:?}",
        failures(&task).await
    );
    let steps = task.workflow_steps().await.unwrap();
    assert_eq!(steps.len(), 4);
    assert!(steps.iter().all(|step| step.attempts == 1));
    assert_eq!(steps[0].result.as_ref().unwrap()["payment_validated"], true);
    let refunded = result(&task, "process_gateway_refund").await;
    assert_eq!(refunded["refund_processed"], true);
    assert_eq!(refunded["refund_id"], "ref_1");
    assert_eq!(refunded["refund_amount"], 4999);
    let records = result(&task, "update_payment_records").await;
    assert_eq!(records["records_updated"], true);
    assert_eq!(records["audit_trail_id"], "audit_1");
    let told = result(&task, "notify_customer").await;
    assert_eq!(told["customer_notified"], true);
    assert_eq!(told["notification_id"], "note_1");
    let company = world.server.company();
    assert_eq!(company.refunds()[0]["payment_id"], "pay_4711");
    assert_eq!(company.records()[0]["refund_reason"], "fraud");
    assert_eq!(company.notifications()[0]["to"], "ada@example.com");
}

#[tokio::test]
async fn customer_success_has_the_payments_team_give_it_back() {
    let world = World::new(Company::default()).await;
    let task = world.run("customer_success", json!({})).await;
    assert_eq!(
        task.state(),
        TaskState::Complete,
        "{:?}",
        failures(&task).await
    );
    assert_eq!(task.workflow_steps().await.unwrap().len(), 5);
    let asked = [
        "/tickets",
        "/policy",
        "/approvals",
        "/eligibility",
        "/refunds",
        "/records",
        "/notifications",
        "/resolutions",
    ];
    assert_eq!(world.paths(), asked);
    let approved = result(&task, "get_manager_approval").await;
    assert_eq!(approved["approval_id"], "appr_1");
    let delegated = result(&task, "execute_refund_workflow").await;
    assert_eq!(delegated["refund_id"], "ref_1");
    assert_eq!(delegated["customer_notified"], true);
    let closed = result(&task, "update_ticket_status").await;
    let expected =
        json!({"ticket_updated": true, "ticket_status": "resolved", "refund_id": "ref_1"});
    assert_eq!(closed, expected);
    let company = world.server.company();
    assert_eq!(company.refunds()[0]["refund_amount"], 12500);
    let record = &company.records()[0];
    assert_eq!(record["approval_id"], "appr_1");
    assert_eq!(record["ticket_id"], "T-17");
    assert_eq!(company.approvals()[0]["agent_notes"], "has sent a picture");
}

#[tokio::test]
async fn one_name_means_two_workflows() {
    let world = World::new(Company::default()).await;
    let store = world.tasker.store();
    let (payments, success) = tokio::join!(
        world.run("payments", json!({"payment_id": "pay_1"})),
        world.run("customer_success", json!({})),
    );
    for (task, expected) in [
        (&payments, "payments.process_refund@2.1.0"),
        (&success, "customer_success.process_refund@1.3.0"),
    ] {
        let template = task.detail().await.unwrap().task.template;
        let template = store.template(template).await.unwrap();
        assert_eq!(template.full_name(), expected);
        assert_eq!(task.state(), TaskState::Complete);
    }
    let nowhere = world.request("default", &json!({})).await.unwrap_err();
    let nowhere = nowhere.to_string();
    assert!(nowhere.contains("process_refund"), "{nowhere}");
}

#[tokio::test]
async fn every_request_has_the_correlation_id() {
    for given in [Some("mine"), None] {
        let world = World::new(Company::default()).await;
        let task = world
            .run("customer_success", json!({"correlation_id": given}))
            .await;
        let hex = task.id().to_string().replace('-', "");
        let expected = given.map_or(format!("cs-{hex}"), str::to_owned);
        let requests = world.server.requests();
        assert_eq!(requests.len(), 8);
        for request in requests {
            let path = request.path;
            assert_eq!(request.headers["x-correlation-id"], expected, "{path}");
        }
    }
    // Another attempt says the same, in every step of both teams.
    let mut company = Company::default();
    let paths = ["/tickets", "/policy", "/eligibility", "/refunds"];
    let paths = paths
        .into_iter()
        .chain(["/records", "/notifications", "/resolutions"]);
    for path in paths.clone() {
        company.add_fault(Fault::new(path, Instead::Status(503), Some(1)));
    }
    let world = World::new(company).await;
    let task = world.run("customer_success", json!({})).await;
    assert_eq!(task.state(), TaskState::Complete);
    let expected = format!("cs-{}", task.id().to_string().replace('-', ""));
    let requests = world.server.requests();
    for path in paths {
        let ids = requests.iter().filter(|request| request.path == path);
        let ids: Vec<&str> = ids
            .map(|request| &*request.headers["x-correlation-id"])
            .collect();
        assert_eq!(ids, [&*expected; 2], "{path}");
    }
    let world = World::new(Company::default()).await;
    world.run("payments", json!({"correlation_id": null})).await;
    for request in world.server.requests() {
        assert_eq!(request.headers.get("x-correlation-id"), None);
    }
}

#[tokio::test]
async fn who_is_approved_without_a_manager_is_approved_by_the_task() {
    let world = World::new(Company::default()).await;
    let small = json!({"requires_approval": false, "refund_amount": 10_000});
    let task = world.run("customer_success", small).await;
    let hex = task.id().to_string().replace('-', "");
    let approved = result(&task, "get_manager_approval").await;
    assert_eq!(approved["approval_id"], format!("auto_{hex}"));
    assert_eq!(approved["manager"], Value::Null);
    assert!(!world.paths().contains(&"/approvals".to_owned()));
    let record = world.server.company().records()[0].clone();
    assert_eq!(record["approval_id"], format!("auto_{hex}"));
    let large = json!({"requires_approval": false, "refund_amount": 10_001});
    world.run("customer_success", large).await;
    assert_eq!(world.server.company().approvals().len(), 1);
}

const CS: &str = "customer_success";

/// What each answer of a service leads to, once: namespace, path and step, and below them words and statuses with
/// their consequence. The step goes `on`, is tried `again`, or fails for good with a code.
const RULES: &str = "
payments /eligibility validate_payment_eligibility
  eligible                                                    on
  ineligible insufficient_funds                               PAYMENT_NOT_ELIGIBLE
  processing pending 429 500 503                              again
  401                                                         HTTP_401
  403                                                         HTTP_403
  moonstruck                                                  ANSWER_NOT_UNDERSTOOD
payments /refunds process_gateway_refund
  processed completed                                         on
  failed insufficient_funds invalid_payment already_refunded  REFUND_FAILED
  pending rate_limited 429 500 503                            again
  401                                                         HTTP_401
  403                                                         HTTP_403
payments /records update_payment_records
  429 503                                                     again
  400                                                         HTTP_400
  200                                                         EXPRESSION
payments /notifications notify_customer
  429 503                                                     again
  404                                                         HTTP_404
customer_success /tickets validate_refund_request
  open in_progress                                            on
  closed cancelled duplicate                                  TICKET_NOT_OPEN
  429 502                                                     again
  404                                                         HTTP_404
customer_success /policy check_refund_policy
  approved conditional                                        on
  denied                                                      POLICY_DENIED
  requires_review 503                                         again
  403                                                         HTTP_403
customer_success /approvals get_manager_approval
  approved                                                    on
  denied expired                                              APPROVAL_DENIED
  400                                                         HTTP_400
customer_success /resolutions update_ticket_status
  resolved closed                                             on
  open in_progress 429                                        again
  error                                                       TICKET_NOT_UPDATED
";

#[tokio::test]
async fn each_answer_leads_to_what_the_rules_say() {
    let mut rule = ["", "", ""];
    for line in RULES.lines().skip(1) {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        if !line.starts_with(' ') {
            rule = [words[0], words[1], words[2]];
            continue;
        }
        let consequence = words.pop().unwrap();
        for answer in words {
            check(rule, answer, consequence).await;
        }
    }
}

async fn check([namespace, path, name]: [&str; 3], answer: &str, consequence: &str) {
    let rule = format!("{path}:{answer}:1");
    let mut company = Company::default();
    company.add_fault(rule.parse().unwrap());
    let world = World::new(company).await;
    let task = world.run(namespace, json!({})).await;
    let (step, failures) = (step(&task, name).await, failures(&task).await);
    match consequence {
        "on" => {
            assert_eq!((step.attempts, failures.len()), (1, 0), "{rule}");
            assert_eq!(task.state(), TaskState::Complete, "{rule}");
        }
        "again" => {
            assert_eq!((step.attempts, failures.len()), (2, 1), "{rule}");
            assert_eq!(failures[0].kind, FailureKind::Retryable, "{rule}");
            assert_eq!(task.state(), TaskState::Complete, "{rule}");
        }
        code => {
            assert_eq!((step.attempts, failures.len()), (1, 1), "{rule}");
            assert_eq!(failures[0].kind, FailureKind::Permanent, "{rule}");
            assert_eq!(failures[0].error_code.as_deref(), Some(code), "{rule}");
            assert_eq!(task.state(), TaskState::Error, "{rule}");
        }
    }
}

#[tokio::test]
async fn an_approval_that_is_not_there_yet_has_one_attempt() {
    let pending = Instead::Word("pending".to_owned());
    let world = World::with_fault("/approvals", pending, Some(1)).await;
    let task = world.run(CS, json!({})).await;
    assert_eq!(task.state(), TaskState::Error);
    assert_eq!(step(&task, "get_manager_approval").await.attempts, 1);
    // It may be tried again all the same: by a person, when the manager has decided.
    assert_eq!(failures(&task).await[0].kind, FailureKind::Retryable);
    world.tasker.retry_task(task.id(), "ada").await.unwrap();
    let mut task = task;
    assert_eq!(task.wait(None).await.unwrap(), TaskState::Complete);
}

#[tokio::test]
async fn attempts_are_limited_as_each_team_wants() {
    let limits = [
        (
            "payments",
            "/eligibility",
            "validate_payment_eligibility",
            3,
        ),
        ("payments", "/refunds", "process_gateway_refund", 2),
        ("payments", "/records", "update_payment_records", 3),
        ("payments", "/notifications", "notify_customer", 5),
        (CS, "/tickets", "validate_refund_request", 3),
        (CS, "/policy", "check_refund_policy", 2),
        (CS, "/approvals", "get_manager_approval", 1),
        (CS, "/resolutions", "update_ticket_status", 3),
    ];
    for (namespace, path, name, limit) in limits {
        let world = World::with_fault(path, Instead::Status(503), None).await;
        let task = world.run(namespace, json!({})).await;
        assert_eq!(step(&task, name).await.attempts, limit, "{name}");
        assert_eq!(task.state(), TaskState::Error, "{name}");
    }
}

#[tokio::test]
async fn who_does_not_answer_is_asked_again() {
    for path in ["/eligibility", "/refunds"] {
        let mut company = Company::default();
        company.add_fault(Fault::new(path, Instead::Silence, Some(1)));
        let world = World::with_patience(company, Duration::from_secs(1)).await;
        let task = world.run("payments", json!({})).await;
        let failures = failures(&task).await;
        assert_eq!(task.state(), TaskState::Complete, "{failures:?}");
        assert_eq!(failures.len(), 1);
        assert_eq!(failures[0].kind, FailureKind::Retryable);
        assert_eq!(world.server.company().refunds().len(), 1);
    }
}

#[tokio::test]
async fn where_no_gateway_is_nobody_tries_again_and_elsewhere_they_do() {
    let world = World::new(Company::default()).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = json!({"services": format!("http://{}", free.local_addr().unwrap())});
    drop(free);
    let task = world.run("payments", nobody.clone()).await;
    assert_eq!(
        step(&task, "validate_payment_eligibility").await.attempts,
        1
    );
    let code = failures(&task).await[0].error_code.clone();
    assert_eq!(code.as_deref(), Some("GATEWAY_CONNECTION_FAILED"));
    let task = world.run(CS, nobody).await;
    assert_eq!(step(&task, "validate_refund_request").await.attempts, 3);
}

#[tokio::test]
async fn only_the_amount_that_was_validated_is_refunded() {
    let mut company = Company::default();
    company.add_payment("pay_50", 5000);
    let world = World::new(company).await;
    let refund = |cents: u64, in_part: bool| json!({"payment_id": "pay_50", "refund_amount": cents, "partial_refund": in_part});
    let task = world.run("payments", refund(4999, false)).await;
    let failure = failures(&task).await.remove(0);
    assert_eq!(failure.error_code.as_deref(), Some("AMOUNT_MISMATCH"));
    assert_eq!(
        failure.message,
        "4999 cents are asked for, 5000 may be refunded"
    );
    assert_eq!(world.server.company().refunds().len(), 0);
    for (cents, in_part, expected) in [
        (4999, true, TaskState::Complete),
        (5001, true, TaskState::Error),
        (5000, false, TaskState::Complete),
        (5000, false, TaskState::Error),
    ] {
        let task = world.run("payments", refund(cents, in_part)).await;
        assert_eq!(task.state(), expected, "{cents} {in_part}");
    }
}

#[tokio::test]
async fn money_is_given_back_once_whatever_is_lost() {
    for path in ["/refunds", "/records", "/notifications"] {
        let mut company = Company::default();
        let lost = Fault::new(path, Instead::Status(503), Some(1));
        company.add_fault(Fault {
            is_done: true,
            ..lost
        });
        let world = World::new(company).await;
        let task = world.run("payments", json!({})).await;
        assert_eq!(task.state(), TaskState::Complete, "{path}");
        let company = world.server.company();
        let done = [
            company.refunds(),
            company.records(),
            company.notifications(),
        ];
        assert_eq!(done.map(<[Value]>::len), [1, 1, 1], "{path}");
    }
}

#[tokio::test]
async fn what_fails_at_the_payments_team_fails_the_ticket_with_its_task() {
    let failed = Instead::Word("insufficient_funds".to_owned());
    let world = World::with_fault("/refunds", failed, None).await;
    let task = world.run(CS, json!({})).await;
    assert_eq!(task.state(), TaskState::Error);
    let delegated = step(&task, "execute_refund_workflow").await;
    assert_eq!(delegated.status, "failed");
    let failure = failures(&task).await.remove(0);
    assert_eq!(failure.error_code.as_deref(), Some("SUBTASK_FAILED"));
    assert_eq!(failure.kind, FailureKind::Permanent);
    // The message leads to the other team's task, and says why.
    let position = step_position(
        &**world.tasker.store(),
        task.id(),
        "execute_refund_workflow",
    );
    let key = StepKey::new(task.id(), position.await.unwrap());
    let subtasks = world.tasker.store().subtasks(key, 0, 10).await.unwrap();
    let theirs = subtasks[0].task_id;
    for part in [
        &*theirs.to_string(),
        "`process_gateway_refund`: the gateway has refused the refund",
    ] {
        assert!(failure.message.contains(part), "{}", failure.message);
    }
    let theirs = world.tasker.executor().task(theirs).await.unwrap();
    assert_eq!(theirs.state(), TaskState::Error);
    let code = failures(&theirs).await[0].error_code.clone();
    assert_eq!(code.as_deref(), Some("REFUND_FAILED"));
    assert_eq!(step(&task, "update_ticket_status").await.attempts, 0);
}

#[tokio::test]
async fn a_payment_that_is_none_is_refused_by_the_other_teams_schema() {
    let world = World::new(Company::default()).await;
    let task = world.run(CS, json!({"payment_id": "cheque-7"})).await;
    let failure = failures(&task).await.remove(0);
    assert_eq!(failure.error_code.as_deref(), Some("SUBTASK_REFUSED"));
    assert!(
        failure.message.contains("payment_id"),
        "{}",
        failure.message
    );
    assert_eq!(world.server.company().refunds().len(), 0);
}

#[tokio::test]
async fn what_is_missing_or_wrong_makes_no_task() {
    let world = World::new(Company::default()).await;
    let wrong = [
        ("payments", json!({"payment_id": "cheque-7"}), "payment_id"),
        ("payments", json!({"payment_id": null}), "payment_id"),
        ("payments", json!({"refund_amount": 0}), "refund_amount"),
        ("payments", json!({"refund_amount": null}), "refund_amount"),
        (
            "payments",
            json!({"refund_reason": "because"}),
            "refund_reason",
        ),
        ("payments", json!({"customer_id": "cust_1"}), "customer_id"),
        (CS, json!({"ticket_id": null}), "ticket_id"),
        (CS, json!({"customer_id": null}), "customer_id"),
        (CS, json!({"refund_amount": -1}), "refund_amount"),
    ];
    for (namespace, changes, member) in wrong {
        let refused = world.request(namespace, &changes).await.unwrap_err();
        let refused = refused.to_string();
        assert!(refused.contains(member), "{refused}");
    }
    assert_eq!(world.server.requests().len(), 0);
}

#[tokio::test]
async fn a_customer_without_address_and_a_ticket_that_is_none_end_their_step() {
    let world = World::new(Company::default()).await;
    let task = world.run("payments", json!({"customer_email": null})).await;
    let failure = failures(&task).await.remove(0);
    assert_eq!(failure.error_code.as_deref(), Some("EXPRESSION"));
    assert!(
        failure.message.contains("customer_email"),
        "{}",
        failure.message
    );
    assert_eq!(step(&task, "notify_customer").await.status, "failed");
    let task = world.run(CS, json!({"ticket_id": INVALID_TICKET})).await;
    let failure = failures(&task).await.remove(0);
    assert_eq!(failure.error_code.as_deref(), Some("HTTP_404"));
    assert_eq!(step(&task, "validate_refund_request").await.attempts, 1);
}

#[tokio::test]
async fn what_neither_the_request_nor_the_ticket_says_is_missed_before_money_moves() {
    let world = World::new(Company::default()).await;
    let (payment, address) = ("pay_1", "ada@example.com");
    for (payment_id, customer_email, code) in [
        (None, Some(address), "MISSING_PAYMENT_ID"),
        (Some(payment), None, "MISSING_CUSTOMER_EMAIL"),
    ] {
        let bare = json!({"ticket_id": BARE_TICKET, "payment_id": payment_id, "customer_email": customer_email});
        let task = world.run(CS, bare).await;
        let failure = failures(&task).await.remove(0);
        assert_eq!(failure.error_code.as_deref(), Some(code));
        assert_eq!(failure.kind, FailureKind::Permanent, "{code}");
        assert_eq!(step(&task, "validate_refund_request").await.attempts, 1);
    }
    assert_eq!(world.server.company().refunds().len(), 0);
    // What the request says is enough, and goes before what the ticket says.
    for ticket_id in [BARE_TICKET, "T-17"] {
        let given = json!({"ticket_id": ticket_id, "payment_id": payment, "customer_email": "grace@example.com"});
        let task = world.run(CS, given).await;
        assert_eq!(task.state(), TaskState::Complete, "{ticket_id}");
    }
    let company = world.server.company();
    for (refund, told) in company.refunds().iter().zip(company.notifications()) {
        assert_eq!(refund["payment_id"], payment);
        assert_eq!(told["to"], "grace@example.com");
    }
    assert_eq!(company.notifications().len(), 2);
}

#[tokio::test]
async fn a_ticket_that_is_retried_takes_up_the_other_teams_task_where_it_was() {
    let world = World::with_fault("/notifications", Instead::Status(404), Some(1)).await;
    let mut task = world.run(CS, json!({})).await;
    assert_eq!(task.state(), TaskState::Error);
    world.tasker.retry_task(task.id(), "ada").await.unwrap();
    assert_eq!(task.wait(None).await.unwrap(), TaskState::Complete);
    let company = world.server.company();
    assert_eq!(company.refunds().len(), 1);
    assert_eq!(company.notifications().len(), 1);
}
