//! Tests of expressions and templates.

use serde_json::json;

use super::*;
use crate::handler::StepContext;

fn attempt() -> StepContext {
    let context = json!({
        "z": 1, "a": {"b": [10, {"c": "deep"}]}, "big": u64::MAX, "small": i64::MIN,
        "float": 1.0, "text": "x", "none": null, "from": "fetch", "secret": "s3cret-value",
    });
    let parents = [
        ("fetch", Some(json!({"id": 7, "items": [3, 1, 2]}))),
        ("step with space", Some(json!(true))),
        ("skipped", None),
    ];
    StepContext::example(&context, &parents)
}

fn evaluated(text: &str) -> Result<Value, String> {
    let expression =
        Expression::compile(text, Variables::TASK.with_env()).map_err(|e| e.to_string())?;
    let scope = Scope::new(&attempt(), expression.uses()).unwrap();
    expression.evaluate(&scope).map_err(|e| e.to_string())
}

fn refused(text: &str) -> String {
    Expression::compile(text, Variables::TASK.plain())
        .unwrap_err()
        .to_string()
}

fn templated(value: &Value) -> Value {
    let template = ValueTemplate::compile(value, Variables::TASK.with_env()).unwrap();
    let scope = Scope::new(&attempt(), template.uses()).unwrap();
    template.evaluate(&scope).unwrap()
}

#[test]
fn values_keep_their_types() {
    for (text, expected) in [
        ("context.z", json!(1)),
        ("context.z + 1", json!(2)),
        ("context.big", json!(u64::MAX)),
        ("context.big - 1u", json!(u64::MAX - 1)),
        ("[context.big, context.small]", json!([u64::MAX, i64::MIN])),
        ("context.float", json!(1.0)),
        ("context.float * 1.5", json!(1.5)),
        ("[context.float]", json!([1.0])),
        ("context.none", json!(null)),
        ("context.a.b[1].c", json!("deep")),
        (r#"context["a"]["b"][0]"#, json!(10)),
        ("results.fetch.id", json!(7)),
        ("results.fetch.items.map(x, x * 2)", json!([6, 2, 4])),
        ("results.fetch.items.filter(x, x > 1).size()", json!(2)),
        ("results.fetch.items.sort()", json!([1, 2, 3])),
        (r#"results["step with space"]"#, json!(true)),
        ("results.skipped", json!(null)),
        ("results.skipped == null", json!(true)),
        ("results[context.from].id", json!(7)),
        (r#"{"y": 1, "x": [true]}"#, json!({"x": [true], "y": 1})),
        ("signal == null", json!(true)),
        ("step", json!("here")),
        ("[attempt, attempt_limit]", json!([2, 3])),
        ("task_id", json!("0190b6a0-0000-7000-8000-000000000001")),
        (
            "idempotency_key",
            json!("0190b6a0-0000-7000-8000-000000000001-3"),
        ),
        ("has(context.a) && !has(context.q)", json!(true)),
        ("has(context.q) ? context.q : 'default'", json!("default")),
        ("context.text.upperAscii() + string(context.z)", json!("X1")),
        ("context.text.matches('^[a-z]$')", json!(true)),
        ("base64.encode(b'a:b')", json!("YTpi")),
        ("math.greatest(1, 5)", json!(5)),
        ("has(env.PATH)", json!(true)),
        ("has(env.TASKER_NO_SUCH_VARIABLE)", json!(false)),
    ] {
        assert_eq!(evaluated(text), Ok(expected), "{text}");
    }
}

#[test]
fn an_object_that_is_only_selected_keeps_the_order_of_its_keys() {
    let text = evaluated("context").unwrap().to_string();
    assert!(text.starts_with(r#"{"z":1,"a":{"#), "{text}");
    assert_eq!(
        evaluated("env.PATH").unwrap(),
        json!(std::env::var("PATH").unwrap())
    );
}

#[test]
fn a_failure_says_what_is_missing_and_never_a_value() {
    for (text, expected) in [
        ("context.a.q", "`context.a` has no `q`"),
        ("context.text.q", "`context.text` is a text and has no `q`"),
        ("context.a.b[9]", "`context.a.b` has no element 9"),
        ("results.none.id", "`results` has no `none`"),
        (
            "results.skipped.id",
            "`results.skipped` is null and has no `id`",
        ),
        ("context.q + 1", "there is no `q`"),
        (
            "context.a[context.secret]",
            "the computed key does not exist",
        ),
        ("context.secret + 1", "`add` does not take (string, int)"),
        ("int(context.secret)", "`int` refused its arguments"),
        ("context.a.b[context.z + 7]", "the index is beyond the list"),
        ("context.z / 0", "division by zero"),
        ("context.small - 1", "gives a number beyond 64 bits"),
        ("1.0 / 0.0", "infinite or not a number"),
        ("bytes(context.text)", "base64.encode() makes a text"),
        ("context.secret.matches('(')", "refused its arguments"),
        (
            "env.TASKER_NO_SUCH_VARIABLE",
            "the environment of this worker has no variable `TASKER_NO_SUCH_VARIABLE`",
        ),
    ] {
        let error = evaluated(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
        assert!(error.contains(text), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
    let missing = Expression::compile(
        "'x' + env.TASKER_NO_SUCH_VARIABLE",
        Variables::TASK.with_env(),
    )
    .unwrap();
    let scope = Scope::new(&attempt(), missing.uses()).unwrap();
    assert!(missing.evaluate(&scope).unwrap_err().elsewhere);
}

#[test]
fn what_can_be_known_is_refused_when_it_is_compiled() {
    for (text, expected) in [
        ("", "the expression is empty"),
        (
            "contxt.a",
            "column 1: unknown variable `contxt`; did you mean `context`?",
        ),
        (
            "1 + zzz",
            "column 5: unknown variable `zzz`; known are context, results, step",
        ),
        ("x", "known are context"),
        ("[1].map(x, y)", "unknown variable `y`"),
        ("x + [1].map(x, x)[0]", "column 1: unknown variable `x`"),
        (".context", "unknown variable"),
        (
            "context.text.uperAscii()",
            "unknown function `uperAscii`; did you mean `upperAscii`?",
        ),
        (
            "siize(context)",
            "unknown function `siize`; did you mean `size`?",
        ),
        (
            "base64.encod(b'')",
            "unknown function `base64.encod`; did you mean `base64.encode`?",
        ),
        (
            "lists.range(1000000000)",
            "the function `lists.range` is not available",
        ),
        ("context.", "not an expression"),
        ("context.a b", "column 11: not an expression"),
        ("context..a", "not an expression"),
        ("'open", "not an expression"),
        ("Thing{a: 1}", "`Thing` is not a known type"),
        ("env.HOME", "`env` may be used in the url"),
        ("response.status", "`response` may be used in `result` only"),
        (
            "[1].map(a, [1].map(b, [1].map(c, [1].map(d, a))))",
            "more than 3 loops stand within each other",
        ),
    ] {
        let error = refused(text);
        assert!(error.contains(expected), "{text}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let whole = Expression::compile("env", Variables::TASK.with_env()).unwrap_err();
    assert!(whole.message.contains("name a variable"), "{whole}");
}

#[test]
fn every_function_that_is_hinted_at_exists() {
    for text in [
        "size('')",
        "'a'.charAt(0)",
        "'a'.indexOf('a')",
        "'a'.lastIndexOf('a')",
        "['a'].join(',')",
        "'a'.lowerAscii()",
        "' '.trim()",
        "'a'.replace('a', 'b')",
        "'a,b'.split(',')",
        "'abc'.substring(1)",
        "'%s'.format(['a'])",
        "[1].reverse()",
        "[1, 2].slice(0, 1)",
        "[[1]].flatten()",
        "[1, 1].distinct()",
        "[1].sort()",
        "[{'a': 1}].sortBy(x, x.a)",
        "[1].exists_one(x, x == 1)",
        "[1].all(x, x > 0)",
        "[1].exists(x, x > 0)",
        "uint(1)",
        "double(1)",
        "string(bytes('a'))",
        "bool('true')",
        "string(base64.decode('YQ=='))",
        "math.least(1, 2)",
        "math.ceil(1.2)",
        "math.floor(1.2)",
        "math.round(1.2)",
        "math.trunc(1.2)",
        "math.abs(-1)",
        "math.sign(-1)",
        "'a'.startsWith('a')",
        "'a'.endsWith('a')",
        "'a'.contains('a')",
        "type(1) == int",
    ] {
        evaluated(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn neither_depth_nor_length_brings_a_worker_down() {
    let deep =
        |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    let mut texts = vec![
        format!("'{}'", "a".repeat(EXPRESSION_BYTES_MAX)),
        format!("context{}", ".a".repeat(2_000)),
        format!("context{}", "[0]".repeat(1_300)),
        format!("1{}", "+1".repeat(2_000)),
        format!("1{}", " in [1]".repeat(500)),
        format!("true{}", "&&true".repeat(600)),
        format!("{}1", "true?1:".repeat(500)),
        "'".repeat(4_000),
        "${{".repeat(1_000),
        "\u{0}\u{1}".repeat(100),
        "r'\\".to_owned(),
        "'\\".to_owned(),
    ];
    for n in [20, 31, 32, 33, 500, 2_000] {
        for (open, close) in [
            ("(", ")"),
            ("[", "]"),
            ("{1:", "}"),
            ("!", ""),
            ("-", ""),
            ("- ", ""),
        ] {
            texts.push(deep(open, close, n));
        }
    }
    for text in texts {
        // Either is right, as long as it returns.
        let Ok(expression) = Expression::compile(&text, Variables::TASK.plain()) else {
            continue;
        };
        let scope = Scope::new(&attempt(), expression.uses()).unwrap();
        drop(expression.evaluate(&scope));
    }
}

#[test]
fn the_parents_that_are_named_can_be_listed() {
    let template = json!({
        "a": "${{ results.fetch.id }} ${{ results[\"step with space\"] }}",
        "b": ["${{ has(results.skipped) }}", "${{ [1].map(results, results) }}"],
    });
    let template = ValueTemplate::compile(&template, Variables::TASK.plain()).unwrap();
    let named: Vec<&str> = template.uses().results.iter().map(String::as_str).collect();
    assert_eq!(named, ["fetch", "skipped", "step with space"]);
    assert!(!template.uses().any_result);
    let config = json!({
        "url": "http://${{ env.HOST }}/${{ results.fetch.id }}",
        "body": [1, {"b/c": "${{ results.missing }}", "wrong": "${{ results. }}"}],
        "result": "${{ response.body + results.fetch.id }}",
    });
    let named = results_named(&config);
    let named: Vec<(&str, &str)> = named
        .iter()
        .map(|(p, s)| (p.as_str(), s.as_str()))
        .collect();
    let expected = [
        ("/url", "fetch"),
        ("/body/1/b~1c", "missing"),
        ("/result", "fetch"),
    ];
    assert_eq!(named, expected);
    let whole = Expression::compile("results[context.from]", Variables::TASK.plain()).unwrap();
    assert!(whole.uses().any_result);
}

#[test]
fn templates_keep_types_and_join_texts() {
    let given = json!({
        "whole": "${{ results.fetch }}",
        "number": "${{context.z}}",
        "joined": "n=${{ context.z }}, ${{ context.text }}${{ context.a.b }}!",
        "escaped": "$${{ context.z }} $$ ${ {{x}}",
        "nested": [["${{ {'a': {'b': '}}'}} }}", 1.0, "plain"]],
        "spaces": " ${{ context.z }}",
        "list": ["$${{ x }}"],
        "unclosed in text": "${{ 'a' + \"}}\" }}",
    });
    let expected = json!({
        "whole": {"id": 7, "items": [3, 1, 2]},
        "number": 1,
        "joined": "n=1, x[10,{\"c\":\"deep\"}]!",
        "escaped": "${{ context.z }} $$ ${ {{x}}",
        "nested": [[{"a": {"b": "}}"}}, 1.0, "plain"]],
        "spaces": " 1",
        "list": ["${{ x }}"],
        "unclosed in text": "a}}",
    });
    assert_eq!(templated(&given), expected);
}

#[test]
fn every_problem_of_a_template_is_reported_with_its_place() {
    let given = json!({
        "a": ["${{ contxt }}", "${{ 1 + }} and ${{ nope }}"],
        "b/~c": "${{ open",
        "${{ key }}": 1,
    });
    let problems = ValueTemplate::compile(&given, Variables::TASK.plain()).unwrap_err();
    let paths: Vec<&str> = problems.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(paths, ["/a/0", "/a/1", "/a/1", "/b~1~0c", "/${{ key }}"]);
    assert!(problems[3].problem.message.contains("not closed"));
}
