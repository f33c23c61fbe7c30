//! Files, good and bad.

use std::path::Path;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tasker_model::name::{SignalName, StepName};
use tasker_model::retry::{Backoff, RetryPolicy};
use tasker_model::schema::ContextSchema;
use tasker_model::subtask::{Gather, MAP_CONCURRENCY};
use tasker_model::template::{CustomEvent, MapOver, StepTemplate, TemplateSource, Undo};
use tasker_model::trigger::TriggerRule;
use tasker_model::wait::WaitFor;

use super::*;

mod subtasks;

/// The example of spec 16 §I, as it stands there.
const SEED: &str = r#"
name: my_namespace/my_task
namespace_name: my_namespace
version: 1.0.0
description: "Example task configuration"
schema:
  type: object
  required: [user_id]
  properties:
    user_id:
      type: integer
step_templates:
  - name: validate_user
    handler_class: MyNamespace::StepHandlers::ValidateUserHandler
    retryable: true
    retry_limit: 3
  - name: process_request
    handler_class: MyNamespace::StepHandlers::ProcessRequestHandler
    depends_on_step: validate_user
"#;

fn load(text: &str) -> Result<TemplateFile, InvalidFile> {
    load_text(Path::new("t.yaml"), text, DEFAULT_ENVIRONMENT)
}

/// Every problem of a text, one per line.
fn problems(text: &str) -> Vec<String> {
    let invalid = load(text).unwrap_err().to_string();
    invalid.lines().map(str::to_owned).collect()
}

fn notes(text: &str) -> Vec<String> {
    let notes = load(text).unwrap().notes;
    notes
        .iter()
        .map(|note| format!("{}: {}", note.at, note.message))
        .collect()
}

#[test]
fn the_example_of_the_index_works_as_it_stands() {
    let file = load(SEED).unwrap();
    assert_eq!(file.template.full_name(), "my_namespace.my_task@1.0.0");
    assert_eq!(file.notes, []);
    let source = file.template.source();
    assert_eq!(source.description, "Example task configuration");
    let handlers: Vec<&str> = source
        .steps
        .iter()
        .map(|step| step.handler.as_str())
        .collect();
    let expected = [
        "MyNamespace::StepHandlers::ValidateUserHandler",
        "MyNamespace::StepHandlers::ProcessRequestHandler",
    ];
    assert_eq!(handlers, expected);
    assert_eq!(source.steps[0].retry, RetryPolicy::default());
    assert_eq!(file.template.dag().parents(1), [0]);
    let schema = file.template.schema().unwrap();
    assert!(schema.apply(&mut json!({"user_id": "7"})).is_err());
    assert!(schema.apply(&mut json!({"user_id": 7})).is_ok());
}

#[test]
fn everything_that_is_wrong_is_said_at_once_with_its_place() {
    let text = "\
name: order
version: 1.0
retry_limt: 3
schema: {type: objekt}
named_steps: [charge, ship]
step_templates:
  - name: charge
    handler_class: charge_card
    retry_limit: three
    timeout: soon
    depends_on_step: ship
  - name: ship
    handler_clas: ship
    depends_on_steps: [chrage, 7]
    retryable: maybe
    custom_events: [{name: task.done}, {name: shipped}]
  - name: notify
    handler: notify
    backoff: {exponentail: {}}
    retry_limit: 0
  - just a text
";
    let expected = [
        "t.yaml:2:10: `version` of the file must be a text; found the number 1.0 (a text that looks like a number needs quotes)",
        "t.yaml:3:1: the file has the unknown key `retry_limt`",
        "t.yaml:4:16: the context schema is not a valid JSON schema, at `/type`",
        "t.yaml:9:18: `retry_limit` of step `charge` must be a whole number of at least 0; found the text \"three\"",
        "t.yaml:10:14: `timeout` of step `charge` must be a number of seconds, or a span such as `500ms`",
        "t.yaml:12:5: step `ship` needs the key `handler`",
        "t.yaml:13:5: step `ship` has the unknown key `handler_clas`; did you mean `handler_class`?",
        "t.yaml:14:24: Dependency step 'chrage' is not in the named_steps list; did you mean `charge`?",
        "t.yaml:14:24: step `ship` depends on unknown step `chrage`; did you mean `charge`?",
        "t.yaml:14:32: `depends_on_steps` of step `ship` must be a list of texts; found the number 7",
        "t.yaml:15:16: `retryable` of step `ship` must be `true` or `false`; found the text \"maybe\"",
        "t.yaml:16:28: events that begin with `task.` are the engine's own",
        "t.yaml:16:47: `shipped` is not the name of an event",
        "t.yaml:17:11: Step template name 'notify' is not in the named_steps list",
        "t.yaml:19:14: `backoff` must have exactly one of exponential, fixed, table",
        "t.yaml:19:15: `backoff` has the unknown key `exponentail`; did you mean `exponential`?",
        "t.yaml:20:5: retry limit is 0",
        "t.yaml:21:5: step number 4 must be a mapping; found the text \"just a text\"",
    ];
    let found = problems(text);
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\nexpected {expected}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn what_is_missing_is_said() {
    assert_eq!(
        problems("x: 1")[0],
        "t.yaml:1:1: the file has the unknown key `x`; known: name, namespace_name, version, description, schema, deadline, queue, step_templates, named_steps, default_dependent_system, environments, task_handler_class, module_namespace, concurrent, configuration, handler_config, custom_events"
    );
    assert_eq!(
        problems("version: 1.0.0"),
        [
            "t.yaml:1:1: the file needs the key `name`",
            "t.yaml:1:1: the file needs the key `step_templates`"
        ]
    );
    assert_eq!(
        problems(""),
        ["t.yaml:1:1: the file must be a mapping; found nothing"]
    );
    assert_eq!(
        problems("name: a\nstep_templates: []"),
        ["t.yaml:2:1: it has no steps"]
    );
}

#[test]
fn a_cycle_is_said_where_it_begins() {
    let text = "name: a\nstep_templates:\n- {name: x, handler: x, depends_on_step: y}\n- {name: y, handler: y, depends_on_step: x}\n";
    assert_eq!(
        problems(text),
        ["t.yaml:3:10: steps wait for each other in a cycle: x → y → x"]
    );
}

#[test]
fn both_spellings_are_understood_and_the_long_one_wins() {
    let step =
        |keys: &str| format!("name: a\nstep_templates:\n- {{name: x, handler: x, {keys}}}\n");
    let policy = |keys: &str| {
        let file = load(&step(keys)).unwrap();
        let retry = file.template.source().steps[0].retry.clone();
        (retry.retryable, retry.limit)
    };
    assert_eq!(policy("retryable: false, retry_limit: 5"), (false, 5));
    assert_eq!(
        policy("default_retryable: false, default_retry_limit: 5"),
        (false, 5)
    );
    let both = "default_retry_limit: 5, retry_limit: 4";
    assert_eq!(policy(both), (true, 5));
    assert_eq!(
        notes(&step(both)),
        ["3:49: `retry_limit` has no effect: `default_retry_limit` says otherwise"]
    );
    assert_eq!(
        notes(&step("default_retry_limit: 5, retry_limit: 5")),
        [""; 0]
    );
}

#[test]
fn both_keys_of_dependencies_are_joined() {
    let text = "name: a\nstep_templates:\n- {name: x, handler: x}\n- {name: y, handler: y}\n- {name: z, handler: z, depends_on_step: y, depends_on_steps: [x, y]}\n";
    let file = load(text).unwrap();
    assert_eq!(file.template.source().steps[2].depends_on_steps, ["y", "x"]);
}

#[test]
fn spans_are_written_as_people_write_them() {
    for (text, ms) in [
        ("30", 30_000),
        ("1.5", 1_500),
        ("30s", 30_000),
        ("500ms", 500),
        ("\"1h 30m\"", 5_400_000),
        ("2d", 172_800_000),
    ] {
        let text =
            format!("name: a\ndeadline: {text}\nstep_templates: [{{name: x, handler: x}}]\n");
        assert_eq!(
            load(&text).unwrap().template.source().deadline_ms,
            Some(ms),
            "{text}"
        );
    }
    for text in ["-1", "-5s", "1y", "[]"] {
        let text =
            format!("name: a\ndeadline: {text}\nstep_templates: [{{name: x, handler: x}}]\n");
        assert!(
            problems(&text)[0].contains("`deadline` of the file must be a number of seconds"),
            "{text}"
        );
    }
}

const ENVIRONMENTS: &str = r"
name: api_task
step_templates:
  - name: fetch_cart
    handler_class: FetchCart
    handler_config: {type: api, url: 'https://api.example.com/cart', params: {cart_id: 1}}
  - name: done
    handler_class: Done
environments:
  test:
    step_templates:
      - name: fetch_cart
        handler_config: {url: 'http://test-api.example.com/cart', params: {test_mode: true}}
      - name: fetch_kart
        handler_config: {url: x}
  production:
    version: 2.0.0
";

#[test]
fn an_environment_is_laid_over_the_file() {
    let of = |environment: &str| load_text(Path::new("t.yaml"), ENVIRONMENTS, environment).unwrap();
    let config = |file: &TemplateFile| {
        file.template.source().steps[0]
            .handler_config
            .clone()
            .unwrap()
    };
    let test = of("test");
    let expected = json!({
        "type": "api", "url": "http://test-api.example.com/cart", "params": {"cart_id": 1, "test_mode": true}
    });
    assert_eq!(config(&test), expected);
    // A name that no step has does not add a step (spec 08, 116).
    assert_eq!(test.template.source().steps.len(), 2);
    assert_eq!(
        test.notes[0].message,
        "no step is named `fetch_kart`; this section changes nothing"
    );
    assert_eq!(
        of("production").template.full_name(),
        "default.api_task@2.0.0"
    );
    assert_eq!(
        config(&of("staging"))["url"],
        "https://api.example.com/cart"
    );
}

#[test]
fn mistakes_in_other_environments_are_found_too() {
    let text = ENVIRONMENTS.replace("version: 2.0.0", "version: two");
    let found = problems(&text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("t.yaml:17:14: `two` is not a version"),
        "{found:?}"
    );
}

#[test]
fn keys_of_the_original_without_effect_are_noted() {
    let text = format!("{SEED}\nconcurrent: true\ntask_handler_class: MyTask\n");
    let text = text.trim_start();
    assert_eq!(
        notes(text),
        [
            "20:1: `concurrent` has no effect: steps always run as soon as their parents are done",
            "21:1: `task_handler_class` has no effect: a template needs no class of its own",
        ]
    );
}

#[test]
fn a_file_that_is_not_there_or_not_text_is_said() {
    let gone = load_file(Path::new("no/such.yaml"), DEFAULT_ENVIRONMENT)
        .unwrap_err()
        .to_string();
    assert!(
        gone.starts_with("no/such.yaml:1:1: cannot be read: "),
        "{gone}"
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"name: a\nversion: \xff").unwrap();
    let binary = load_file(file.path(), DEFAULT_ENVIRONMENT)
        .unwrap_err()
        .to_string();
    assert!(
        binary.ends_with(":2:10: not valid UTF-8 from here on"),
        "{binary}"
    );
}

#[test]
fn directories_are_searched_to_their_depth() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("my_namespace/my_task.yaml", SEED);
    write(
        "a/b/c.yml",
        "name: c\nstep_templates: [{name: x, handler: x}]",
    );
    write("a/README.md", "not a template");
    let names = |files: Vec<TemplateFile>| {
        files
            .iter()
            .map(|file| file.template.full_name())
            .collect::<Vec<_>>()
    };
    let files = load_directory(root.path(), DEFAULT_ENVIRONMENT).unwrap();
    assert_eq!(
        names(files),
        ["default.c@0.1.0", "my_namespace.my_task@1.0.0"]
    );
    write("z/again.yaml", SEED);
    write("z/bad.yaml", "name: [");
    let wrong = load_directory(root.path(), DEFAULT_ENVIRONMENT)
        .unwrap_err()
        .to_string();
    assert!(
        wrong.contains("again.yaml:1:1: my_namespace.my_task@1.0.0 is also defined by "),
        "{wrong}"
    );
    assert!(wrong.contains("bad.yaml:1:"), "{wrong}");
    assert!(load_directory(&root.path().join("gone"), DEFAULT_ENVIRONMENT).is_err());
}

/// Reads what was written, and expects the same content.
fn assert_round_trip(template: &TaskTemplate) {
    let text = to_yaml(template);
    let read = load(&text).unwrap_or_else(|invalid| panic!("{invalid}\n{text}"));
    assert_eq!(read.template.source(), template.source(), "{text}");
    assert_eq!(read.template.hash(), template.hash(), "{text}");
    let published = ContextSchema::compile(serde_json::from_str(SCHEMA).unwrap()).unwrap();
    let mut value = canonical::to_value(template);
    published
        .apply(&mut value)
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    let stored = serde_json::to_string(template.source()).unwrap();
    let stored = TaskTemplate::new(serde_json::from_str(&stored).unwrap()).unwrap();
    assert_eq!(stored.hash(), template.hash(), "as it is stored");
}

#[test]
fn the_canonical_form_reads_back_to_the_same_hash() {
    assert_round_trip(&load(SEED).unwrap().template);
    let file = load_text(Path::new("t.yaml"), ENVIRONMENTS, "test").unwrap();
    assert_round_trip(&file.template);
    let expected = "\
name: my_task
namespace_name: my_namespace
version: \"1.0.0\"
description: Example task configuration
schema:
  type: object
  required:
  - user_id
  properties:
    user_id:
      type: integer
step_templates:
- name: validate_user
  handler: MyNamespace::StepHandlers::ValidateUserHandler
- name: process_request
  handler: MyNamespace::StepHandlers::ProcessRequestHandler
  depends_on_steps:
  - validate_user
";
    assert_eq!(to_yaml(&load(SEED).unwrap().template), expected);
}

#[test]
fn any_definition_can_be_shown_and_read_back() {
    for seed in 0..300 {
        let mut random = SmallRng::seed_from_u64(seed);
        let template = TaskTemplate::new(random_source(&mut random));
        assert_round_trip(&template.unwrap());
    }
}

/// Texts that YAML would take for something else, or that need quotes.
const AWKWARD: &[&str] = &[
    "no",
    "1.0",
    "~",
    "null",
    "true",
    "- x",
    "a: b",
    "#x",
    "'",
    "\"",
    "x ",
    " x",
    "\u{feff}x",
    "0x1f",
    "1e3",
    "<<",
    "=",
    "&a",
    "*a",
    "!x",
    "%",
    "@",
    "`",
    "{",
    "[",
    "?",
    "|",
    ">",
    "1:30",
    "2026-11-23",
    "é\u{2028}",
    "line\nline\n",
    "\ttab",
    "x\r\ny",
    "y",
    "on",
    ".inf",
    "\u{0}",
    "-",
    "---",
    "...",
    "1_000",
    "0o7",
    "+1",
];

fn text(random: &mut SmallRng) -> String {
    let pick = |random: &mut SmallRng| AWKWARD[random.random_range(0..AWKWARD.len())].to_owned();
    match random.random_range(0..4) {
        0 => pick(random),
        1 => pick(random) + &pick(random),
        2 => format!(
            "a long text with {} in the midst of it {}",
            pick(random),
            "x ".repeat(60)
        ),
        _ => "plain".to_owned(),
    }
}

fn value(random: &mut SmallRng, depth: u32) -> Value {
    let few = |random: &mut SmallRng| random.random_range(0..4);
    match random.random_range(0..if depth == 0 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => json!(random.random_bool(0.5)),
        2 => json!(random.random::<i64>()),
        3 => json!(random.random::<u64>()),
        4 => json!([0.0, -0.5, 1.0, 1e300, 5e-324, 0.1][random.random_range(0..6)]),
        5 => json!(text(random)),
        6 => (0..few(random)).map(|_| value(random, depth - 1)).collect(),
        _ => {
            let entries = (0..few(random)).map(|_| (text(random), value(random, depth - 1)));
            Value::Object(entries.collect())
        }
    }
}

fn random_source(random: &mut SmallRng) -> TemplateSource {
    let printable = |text: String| text.replace(char::is_control, "?");
    let mut source: TemplateSource = serde_json::from_value(
        json!({"namespace": "n", "name": "t", "version": "1.2.3", "steps": []}),
    )
    .unwrap();
    source.description = text(random);
    source.deadline_ms = random
        .random_bool(0.5)
        .then(|| random.random_range(1..1 << 40));
    source.schema = random
        .random_bool(0.5)
        .then(|| json!({"properties": {text(random): {"default": value(random, 2)}}}));
    for number in 0..random.random_range(1..6_u32) {
        let name = format!(
            "{number}{}",
            printable(text(random)).chars().take(30).collect::<String>()
        );
        let mut step = StepTemplate::named(StepName::new(name).unwrap());
        step.handler = text(random);
        let names = source
            .steps
            .iter()
            .map(|step: &StepTemplate| step.name.to_string());
        step.depends_on_steps = names.filter(|_| random.random_bool(0.4)).collect();
        step.retry.limit = random.random_range(1..9);
        step.retry.retryable = random.random_bool(0.8);
        step.retry.server_delay_cap_ms = random.random_range(0..1_000_000);
        step.retry.backoff = match random.random_range(0..4) {
            0 => Backoff::Fixed {
                delay_ms: random.random_range(0..100_000),
            },
            1 => Backoff::Table {
                delays_ms: vec![1, 1_000, 2_500],
                multiplier: 1.5,
                cap_ms: 60_000,
                jitter: 0.5,
            },
            2 => Backoff::Exponential {
                base_ms: 5,
                cap_ms: 7_000,
                jitter: 0.0,
            },
            _ => Backoff::default(),
        };
        step.timeout_ms = random
            .random_bool(0.5)
            .then(|| random.random_range(1..100_000));
        step.skippable = random.random_bool(0.3);
        step.trigger_rule = random_rule(random, step.depends_on_steps.len());
        step.wait = random_wait(random);
        step.description = text(random);
        step.handler_config = random
            .random_bool(0.5)
            .then(|| json!({text(random): value(random, 3)}));
        if random.random_bool(0.3) {
            step.custom_events = vec![CustomEvent {
                name: "a.b".to_owned(),
                description: text(random),
            }];
        }
        step.starts_task = random.random_bool(0.2);
        step.map = random.random_bool(0.3).then(|| random_map(random));
        step.undo = random.random_bool(0.3).then(|| random_undo(random));
        step.point_of_no_return = random.random_bool(0.2);
        source.steps.push(step);
    }
    source
}

fn random_map(random: &mut SmallRng) -> MapOver {
    MapOver {
        concurrency: random.random_range(1..3) * MAP_CONCURRENCY,
        max_failures: random.random_range(0..2),
        gather: [Gather::List, Gather::Count][random.random_range(0..2)],
        ..MapOver::new("context.list")
    }
}

fn random_undo(random: &mut SmallRng) -> Undo {
    let mut undo = Undo::by(text(random));
    undo.retry.limit = random.random_range(2..4);
    undo.timeout_ms = random.random_bool(0.5).then_some(1_500);
    undo.handler_config = random.random_bool(0.5).then(|| json!({"a": text(random)}));
    undo
}

#[test]
fn differences_are_found_key_by_key_and_step_by_step() {
    let before = load(SEED).unwrap().template;
    assert_eq!(differences(&before, &before), []);
    let changed = SEED
        .replace("version: 1.0.0", "version: 1.1.0")
        .replace("retry_limit: 3", "retry_limit: 5")
        .replace("name: process_request", "name: handle_request");
    let after = load(&changed).unwrap().template;
    let found = differences(&before, &after);
    let shown = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), ToString::to_string);
    let lines: Vec<String> = found
        .iter()
        .map(|change| {
            format!(
                "{}: {} → {}",
                change.at,
                shown(&change.before),
                shown(&change.after)
            )
        })
        .collect();
    let class = "MyNamespace::StepHandlers::ProcessRequestHandler";
    let step = |name: &str| {
        format!(r#"{{"name":"{name}","handler":"{class}","depends_on_steps":["validate_user"]}}"#)
    };
    let expected = [
        r#"version: "1.0.0" → "1.1.0""#.to_owned(),
        "step_templates.validate_user.retry_limit: - → 5".to_owned(),
        format!(
            "step_templates.process_request: {} → -",
            step("process_request")
        ),
        format!(
            "step_templates.handle_request: - → {}",
            step("handle_request")
        ),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn the_order_of_steps_is_a_difference() {
    let file = |first: &str, second: &str| {
        let text = format!(
            "name: a\nstep_templates: [{{name: {first}, handler: x}}, {{name: {second}, handler: x}}]"
        );
        load(&text).unwrap().template
    };
    let found = differences(&file("x", "y"), &file("y", "x"));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].at, "step_templates (order)");
    assert_eq!(found[0].after, Some(json!(["y", "x"])));
}

fn random_rule(random: &mut SmallRng, parents: usize) -> TriggerRule {
    match random.random_range(0..7) {
        0 => TriggerRule::AllSuccess,
        1 => TriggerRule::AnySuccess,
        2 => TriggerRule::AnyFailed,
        3 => TriggerRule::AllDone,
        4 if parents > 0 => TriggerRule::AtLeast(1),
        _ => TriggerRule::NoneFailed,
    }
}

fn random_wait(random: &mut SmallRng) -> Option<WaitFor> {
    let timeout_ms = random
        .random_bool(0.5)
        .then(|| random.random_range(0..1 << 40));
    Some(match random.random_range(0..6) {
        0 => WaitFor::Delay {
            delay_ms: random.random_range(0..1 << 40),
        },
        1 => WaitFor::Until {
            time: "2026-12-24T18:00:00+01:00".to_owned(),
        },
        2 => WaitFor::Signal {
            name: SignalName::new(AWKWARD[random.random_range(0..8)]).unwrap(),
            timeout_ms,
            default: timeout_ms.and_then(|_| random.random_bool(0.5).then(|| value(random, 2))),
        },
        _ => return None,
    })
}

#[test]
fn what_a_step_starts_on_and_waits_for_is_read() {
    let text = "\
name: approval
step_templates:
  - {name: ask, handler: x}
  - {name: remind, delay: 2h, depends_on_step: ask}
  - {name: open, until: '2026-12-24T18:00:00Z'}
  - {name: approve, wait_for: approval, depends_on_step: ask}
  - {name: decide, handler: x, wait_for: {signal: answer, timeout: 2d, default: null}}
  - {name: clean_up, handler: x, depends_on_steps: [approve, decide], trigger_rule: all_done}
  - {name: quorum, handler: x, depends_on_steps: [approve, decide], trigger_rule: {at_least: 1}}
";
    let file = load(text).unwrap();
    assert_round_trip(&file.template);
    let steps = &file.template.source().steps;
    assert_eq!(
        steps[1].wait,
        Some(WaitFor::Delay {
            delay_ms: 7_200_000
        })
    );
    assert_eq!(steps[1].handler, crate::handler::PASS);
    let answer = WaitFor::Signal {
        name: SignalName::new("answer").unwrap(),
        timeout_ms: Some(172_800_000),
        default: Some(Value::Null),
    };
    assert_eq!(steps[4].wait, Some(answer));
    assert_eq!(steps[5].trigger_rule, TriggerRule::AllDone);
    assert_eq!(steps[6].trigger_rule, TriggerRule::AtLeast(1));
}

#[test]
fn steps_without_code_are_read_and_shown() {
    let text = "\
name: no_code
step_templates:
  - name: fetch
    handler: {http: {url: 'https://example.com/${{ context.id }}', timeout: 5}}
  - name: count
    depends_on_step: fetch
    when: results.fetch.total > 100
    handler:
      command: {program: wc, args: [-l], stdin: '${{ results.fetch.text }}', output: text}
  - {name: later, depends_on_step: count, until: context.departure}
";
    let file = load(text).unwrap();
    assert_round_trip(&file.template);
    let shown = to_yaml(&file.template);
    assert!(
        shown.contains("  handler:\n    command:\n      program: wc\n"),
        "{shown}"
    );
    assert!(
        shown.contains("  when: results.fetch.total > 100\n"),
        "{shown}"
    );
    assert!(!shown.contains("tasker."), "{shown}");
}

#[test]
fn what_steps_without_code_are_told_is_checked_with_its_place() {
    let text = "\
name: no_code
step_templates:
  - {name: fetch, handler: {http: {url: 'https://x/${{ contxt.id }}', tiemout: 5}}}
  - name: count
    depends_on_step: fetch
    when: results.fetsh.total >
    handler: {command: {program: wc, args: ['${{ results.other.x }}'], exit_codes: {retryable: many}}}
  - {name: both, handler: {http: {url: 'https://x'}, command: {program: x}}}
  - {name: gone, handler: {shell: ls}}
  - {name: cond, when: results.fetch.ok, depends_on_step: count, handler: x}
";
    let expected = [
        "t.yaml:3:41: ",
        "t.yaml:3:80: ",
        "t.yaml:6:11: `when`: ",
        "t.yaml:7:45: `args/0`: step `count` has no results of `other`, on which it does not depend; it depends on fetch",
        "t.yaml:7:96: ",
        "t.yaml:8:27: `handler` must have exactly one of http, command, task",
        "t.yaml:9:27: `handler` must have exactly one of http, command, task",
        "t.yaml:9:28: `handler` has the unknown key `shell`; known: http, command, task",
        "t.yaml:10:24: step `cond` has no results of `fetch`, on which it does not depend; it depends on count",
    ];
    let found = problems(text);
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\nexpected {expected}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn what_cannot_be_waited_for_is_said() {
    let text = "\
name: approval
step_templates:
  - {name: a, delay: 1s, until: tomorrow}
  - {name: b, until: tomorrow}
  - {name: c, wait_for: {signl: x, default: 1}}
  - {name: d, wait_for: {signal: x, default: 1}}
  - {name: e, handler: x, trigger_rule: all_succes}
  - {name: f, handler: x, trigger_rule: {at_least: 2}, depends_on_step: a}
";
    let expected = [
        "t.yaml:3:26: a step waits for one thing: keep `delay` or `until`",
        "t.yaml:4:22: `until`: column 1: unknown variable `tomorrow`; known are ",
        "t.yaml:5:25: `wait_for` needs the key `signal`",
        "t.yaml:5:26: `wait_for` has the unknown key `signl`; did you mean `signal`?",
        "t.yaml:6:37: `default` has no effect without `timeout`: the step waits for ever",
        "t.yaml:7:41: there is no trigger rule `all_succes`; did you mean `all_success`?",
        "t.yaml:8:52: `at_least: 2` of 1 parents: at least 1, and no more than there are",
    ];
    let found = problems(text);
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\nexpected {expected}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn the_published_schema_knows_the_same_keys() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let keys = |pointer: &str| {
        let mut keys: Vec<String> = schema
            .pointer(pointer)
            .unwrap()
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        keys.sort_unstable();
        keys
    };
    let sorted = |keys: &[&str]| {
        let mut keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        keys.sort_unstable();
        keys
    };
    assert_eq!(keys("/properties"), sorted(template::TASK_KEYS));
    assert_eq!(keys("/$defs/step/properties"), sorted(step::STEP_KEYS));
    let published = ContextSchema::compile(schema).unwrap();
    assert!(
        published
            .apply(&mut json!({"name": "a", "step_templates": [{"name": "x"}]}))
            .is_err()
    );
}

#[test]
fn a_megabyte_is_read_in_full() {
    let step = |n: usize| {
        format!(
            "- {{name: step_{n}, handler: x, description: a text of some length that fills the file}}\n"
        )
    };
    let text = format!(
        "name: big\nstep_templates:\n{}",
        (0..12_500).map(step).collect::<String>()
    );
    assert!(text.len() > 1_000_000);
    assert_eq!(load(&text).unwrap().template.source().steps.len(), 12_500);
}

#[test]
fn a_megabyte_of_mistakes_is_answered_with_a_page() {
    let step = |n: usize| {
        format!("- {{name: step_{n}, handlr: x, depends_on_step: stop_{n}, timeout: x}}\n")
    };
    let text = format!(
        "name: big\nstep_templates:\n{}",
        (0..16_000).map(step).collect::<String>()
    );
    assert!(text.len() > 1_000_000);
    let found = problems(&text);
    assert_eq!(found.len(), 51);
    assert_eq!(found[50], "t.yaml: and 63950 more problems");
    assert!(
        found[0].starts_with("t.yaml:3:3: step `step_0` needs the key `handler`"),
        "{}",
        found[0]
    );
}

#[test]
fn every_file_of_the_documentation_is_in_order() {
    let page = include_str!("../../../../docs/YAML.md");
    let blocks: Vec<&str> = page
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert_eq!(blocks.len(), 4);
    for block in blocks {
        for environment in [DEFAULT_ENVIRONMENT, "test"] {
            let file = load_text(Path::new("docs/YAML.md"), block, environment).unwrap();
            assert_eq!(file.notes, []);
            assert_round_trip(&file.template);
        }
    }
    for key in template::TASK_KEYS.iter().chain(step::STEP_KEYS) {
        assert!(page.contains(&format!("`{key}`")), "`{key}` is documented");
    }
}
