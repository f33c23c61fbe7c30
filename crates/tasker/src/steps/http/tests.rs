//! Tests of steps that send requests, to a server of this process.

use serde_json::json;
use tasker_model::outcome::FailureKind;

use super::*;
use crate::steps::server::{Reply, Request, Server};

const KEY: &str = "0190b6a0-0000-7000-8000-000000000001-1";

fn attempt() -> StepContext {
    let context = json!({"id": 7, "name": "Ada & Co", "big": u64::MAX, "line": "a\r\nX-Evil: 1"});
    StepContext::example(&context, &[("fetch", Some(json!({"total": 1.5})))])
}

async fn outcome(config: &Value) -> Outcome {
    let handler = http(config, Variables::TASK).unwrap_or_else(|problems| panic!("{problems:?}"));
    handler(attempt()).await
}

async fn result(config: &Value) -> Value {
    match outcome(config).await {
        Outcome::Completed { result } => result.read().unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn failure(config: &Value) -> Failure {
    match outcome(config).await {
        Outcome::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

fn code(failure: &Failure) -> (FailureKind, &str) {
    (
        failure.kind,
        failure.error_code.as_deref().unwrap_or_default(),
    )
}

#[tokio::test]
async fn a_request_is_sent_as_it_is_written() {
    let server = Server::saying(200, "", "{}").await;
    let config = json!({
        "method": "post",
        "url": server.url("/orders/${{ context.id }}?a=1"),
        "query": {"name": "${{ context.name }}", "list": [1, "b"], "none": null},
        "headers": {"X-Step": "${{ step }}", "X-None": null, "Accept": "text/plain"},
        "body": {"total": "${{ results.fetch.total }}", "big": "${{ context.big }}", "fixed": [true]},
    });
    assert_eq!(result(&config).await, json!({}));
    let [request] = &server.requests()[..] else {
        panic!("one request");
    };
    assert_eq!(request.method, "POST");
    assert_eq!(
        request.target,
        "/orders/7?a=1&name=Ada+%26+Co&list=1&list=b"
    );
    assert_eq!(
        request.body,
        r#"{"total":1.5,"big":18446744073709551615,"fixed":[true]}"#
    );
    for (name, value) in [
        ("content-type", "application/json"),
        ("accept", "text/plain"),
        ("x-step", "here"),
        ("idempotency-key", KEY),
        ("user-agent", concat!("tasker/", env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(
            request.headers.get(name).map(String::as_str),
            Some(value),
            "{name}"
        );
    }
    assert!(!request.headers.contains_key("x-none"));
}

#[tokio::test]
async fn the_idempotency_key_is_sent_with_what_changes_something() {
    let server = Server::saying(204, "", "").await;
    for (config, expected) in [
        (json!({"method": "GET"}), None),
        (json!({"method": "DELETE"}), None),
        (json!({"method": "PUT"}), Some(("idempotency-key", KEY))),
        (json!({"method": "PATCH", "idempotency_header": null}), None),
        (
            json!({"idempotency_header": "X-Request-Id"}),
            Some(("x-request-id", KEY)),
        ),
        (
            json!({"method": "POST", "headers": {"Idempotency-Key": "own"}}),
            Some(("idempotency-key", "own")),
        ),
    ] {
        let mut config = config;
        config["url"] = server.url("/").into();
        assert_eq!(result(&config).await, json!(null));
        let sent = server.requests().pop().unwrap().headers;
        let found = ["idempotency-key", "x-request-id"].into_iter();
        let mut found = found.filter_map(|name| Some((name, sent.get(name)?.as_str())));
        assert_eq!(found.next(), expected, "{config}");
    }
}

#[tokio::test]
async fn a_text_body_is_sent_as_it_is_under_its_own_type() {
    let server = Server::saying(200, "", "1").await;
    let mut config = json!({
        "method": "PUT",
        "url": server.url("/"),
        "headers": {"Content-Type": "text/plain"},
        "body": "id=${{ context.id }}",
    });
    result(&config).await;
    config["headers"] = json!({});
    result(&config).await;
    let bodies: Vec<String> = server.requests().into_iter().map(|r| r.body).collect();
    assert_eq!(bodies, ["id=7", "\"id=7\""]);
}

#[tokio::test]
async fn the_body_is_the_result() {
    let json_type = "content-type: application/json; charset=utf-8\r\n";
    for (headers, body, expected) in [
        (json_type, r#"{"a": 1.0}"#, json!({"a": 1.0})),
        ("", "[18446744073709551615]", json!([u64::MAX])),
        ("content-type: text/plain\r\n", "hello", json!("hello")),
        (json_type, "", json!(null)),
    ] {
        let server = Server::saying(200, headers, body).await;
        assert_eq!(result(&json!({"url": server.url("/")})).await, expected);
    }
    let server = Server::saying(200, json_type, "{oops").await;
    let failed = failure(&json!({"url": server.url("/")})).await;
    assert_eq!(code(&failed), (FailureKind::Permanent, "RESULT_NOT_JSON"));
    let server = Server::start(|_| Reply::Full(200, String::new(), vec![b'a', 0xff])).await;
    let failed = failure(&json!({"url": server.url("/")})).await;
    assert_eq!(code(&failed), (FailureKind::Permanent, "RESULT_NOT_JSON"));
    let server = Server::saying(201, "x-a: 1\r\nx-a: 2\r\n", r#"{"id": 5, "rest": 1}"#).await;
    let config = json!({"url": server.url("/"), "result": {
        "id": "${{ response.body.id }}",
        "status": "${{ response.status }}",
        "a": "${{ response.headers['x-a'] }}",
        "task": "${{ context.id }}",
    }});
    let expected = json!({"id": 5, "status": 201, "a": "1, 2", "task": 7});
    assert_eq!(result(&config).await, expected);
    let config = json!({"url": server.url("/"), "result": "${{ response.body.none }}"});
    assert_eq!(
        code(&failure(&config).await),
        (FailureKind::Permanent, "EXPRESSION")
    );
    let config = json!({"method": "HEAD", "url": server.url("/"), "response_bytes_max": 1});
    assert_eq!(result(&config).await, json!(null));
}

#[tokio::test]
async fn the_status_decides_and_the_server_says_when() {
    let server = Server::start(|request: &Request| {
        let status: u16 = request.target[1..4].parse().unwrap();
        let header = request
            .target
            .split_once('?')
            .map(|(_, wait)| wait.replace('+', " "));
        let header = header.map(|wait| format!("retry-after: {wait}\r\n"));
        let body: &[u8] = if status == 304 { b"" } else { b"because" };
        Reply::Full(status, header.unwrap_or_default(), body.to_vec())
    })
    .await;
    let failed = async |target: &str| {
        failure(&json!({"url": server.url(target), "retry_after_max": 100})).await
    };
    let refused = failed("/422").await;
    assert_eq!(code(&refused), (FailureKind::Permanent, "HTTP_422"));
    let expected = format!("GET {} was answered with 422", server.url("/422"));
    assert_eq!(refused.message, expected);
    assert_eq!(refused.context, json!({"status": 422, "body": "because"}));
    for (target, wait) in [
        ("/503?7", Some(7_000)),
        ("/429?5000", Some(100_000)),
        ("/500?soon", None),
        ("/409", None),
        ("/503?Sun,+06+Nov+1994+08:49:37+GMT", Some(1_000)),
        ("/304", None),
    ] {
        let failed = failed(target).await;
        assert_eq!(failed.kind, FailureKind::Retryable, "{target}");
        assert_eq!(failed.retry_after_ms, wait, "{target}");
    }
    let config = json!({"url": server.url("/404"), "success": [404]});
    assert_eq!(result(&config).await, json!("because"));
    assert_eq!(server.accepted(), 1, "failures do not cost a connection");
}

#[tokio::test]
async fn connections_are_used_again() {
    let server = Server::saying(200, "", "{}").await;
    for number in 0..20 {
        let config = json!({"url": server.url(&format!("/{number}")), "timeout": 20 + number});
        result(&config).await;
    }
    assert_eq!(server.requests().len(), 20);
    assert_eq!(server.accepted(), 1);
}

fn redirect(status: u16, to: &str) -> Reply {
    Reply::Full(status, format!("location: {to}\r\n"), b"moved".to_vec())
}

#[tokio::test]
async fn redirects_are_followed() {
    let server = Server::start(|request: &Request| match request.target.as_str() {
        "/307" => redirect(307, "/end?x"),
        "/302" => redirect(302, "/303"),
        "/303" => redirect(303, "end"),
        "/none" => redirect(302, "http://"),
        "/file" => redirect(302, "file:///etc/passwd"),
        _ => Reply::Full(200, String::new(), request.method.clone().into_bytes()),
    })
    .await;
    let post = |target: &str| json!({"method": "POST", "url": server.url(target), "body": [1]});
    assert_eq!(result(&post("/307")).await, json!("POST"));
    assert_eq!(server.requests().pop().unwrap().body, "[1]");
    assert_eq!(result(&post("/302")).await, json!("GET"));
    let last = server.requests().pop().unwrap();
    assert_eq!((last.body.as_str(), last.target.as_str()), ("", "/end"));
    assert!(!last.headers.contains_key("content-type"));
    for target in ["/none", "/file"] {
        let failed = failure(&post(target)).await;
        assert_eq!(
            code(&failed),
            (FailureKind::Permanent, "REDIRECT_INVALID"),
            "{target}"
        );
    }
    let mut config = post("/302");
    config["follow_redirects"] = json!(1);
    let failed = failure(&config).await;
    assert_eq!(
        code(&failed),
        (FailureKind::Permanent, "TOO_MANY_REDIRECTS")
    );
    config["follow_redirects"] = json!(0);
    assert_eq!(
        code(&failure(&config).await),
        (FailureKind::Retryable, "HTTP_302")
    );
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_redirect_loop_is_recognised() {
    let server = Server::start(|request: &Request| match request.target.as_str() {
        "/a" => redirect(302, "/b?token=hidden"),
        "/b?token=hidden" => redirect(302, "/a"),
        _ => redirect(302, &format!("{}x", request.target)),
    })
    .await;
    let failed = failure(&json!({"url": server.url("/a")})).await;
    assert_eq!(code(&failed), (FailureKind::Permanent, "REDIRECT_LOOP"));
    assert!(
        failed.message.contains("redirects in a circle, back to"),
        "{}",
        failed.message
    );
    assert!(!failed.message.contains("hidden"), "{}", failed.message);
    let failed = failure(&json!({"url": server.url("/x")})).await;
    assert_eq!(
        code(&failed),
        (FailureKind::Permanent, "TOO_MANY_REDIRECTS")
    );
    assert_eq!(server.requests().len(), 2 + 6);
}

#[tokio::test]
async fn what_was_meant_for_one_server_is_not_sent_to_another() {
    let other = Server::saying(200, "", "{}").await;
    let target = other.url("/end");
    let server = Server::start(move |_| redirect(307, &target)).await;
    let config = json!({
        "method": "POST",
        "url": server.url("/"),
        "headers": {"X-Api-Key": "key-of-the-first", "Content-Type": "text/plain"},
        "body": "hello",
    });
    assert_eq!(result(&config).await, json!({}));
    assert_eq!(
        server.requests()[0].headers["x-api-key"],
        "key-of-the-first"
    );
    let request = &other.requests()[0];
    assert!(!request.headers.contains_key("x-api-key"));
    assert_eq!(request.headers["content-type"], "text/plain");
    assert_eq!(request.body, "hello");
}

#[tokio::test]
async fn a_server_that_misbehaves_is_a_clear_failure() {
    let server = Server::start(|request: &Request| match request.target.as_str() {
        "/silence" => Reply::Silence,
        "/dropped" => Reply::Raw(Vec::new()),
        "/header" => Reply::Raw(b"HTTP/1.1 200 OK\r\nbad header\x01: x\r\n\r\n".to_vec()),
        "/short" => Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec()),
        "/huge" => Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n{".to_vec()),
        "/noise" => Reply::Raw(b"220 smtp.example.org ESMTP\r\n".to_vec()),
        "/failing" => Reply::Raw(b"HTTP/1.1 500 X\r\ncontent-length: 9999\r\n\r\nwhy".to_vec()),
        _ => Reply::Endless,
    })
    .await;
    for (target, kind, name, says) in [
        (
            "/silence",
            FailureKind::Retryable,
            "TIMEOUT",
            "not answered completely within 0.3 s",
        ),
        (
            "/dropped",
            FailureKind::Retryable,
            "NO_ANSWER",
            "connection closed",
        ),
        (
            "/header",
            FailureKind::Retryable,
            "NO_ANSWER",
            "invalid HTTP header",
        ),
        ("/short", FailureKind::Retryable, "NO_ANSWER", "broke off"),
        (
            "/noise",
            FailureKind::Retryable,
            "NO_ANSWER",
            "invalid HTTP version",
        ),
        (
            "/huge",
            FailureKind::Permanent,
            "RESPONSE_TOO_LARGE",
            "longer than 1048576 bytes",
        ),
        (
            "/endless",
            FailureKind::Permanent,
            "RESPONSE_TOO_LARGE",
            "longer than 1048576 bytes",
        ),
        (
            "/failing",
            FailureKind::Retryable,
            "HTTP_500",
            "was answered with 500",
        ),
    ] {
        let seconds = if target == "/silence" { 0.3 } else { 30.0 };
        let failed = failure(&json!({"url": server.url(target), "timeout": seconds})).await;
        assert_eq!(code(&failed), (kind, name), "{target}: {}", failed.message);
        assert!(
            failed.message.contains(says),
            "{target}: {}",
            failed.message
        );
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_named() {
    let server = Server::saying(200, "", "{}").await;
    // Nothing listens on port 1, and the server does not speak TLS.
    let tls = server.url("/x?q=hidden").replace("http:", "https:");
    for url in [
        "http://127.0.0.1:1/x?q=hidden",
        &tls,
        "http://no-such-host.invalid/",
    ] {
        let failed = failure(&json!({"url": url})).await;
        assert_eq!(
            code(&failed),
            (FailureKind::Retryable, "NO_CONNECTION"),
            "{}",
            failed.message
        );
        let shown = url.split('?').next().unwrap();
        assert!(failed.message.contains(shown), "{}", failed.message);
        assert!(!failed.message.contains("hidden"), "{}", failed.message);
    }
}

#[tokio::test]
async fn secrets_are_shown_nowhere() {
    let path = std::env::var("PATH").unwrap();
    // A server that repeats all that it was told.
    let server = Server::start(|request: &Request| {
        Reply::Full(
            400,
            "set-cookie: s=1\r\n".to_owned(),
            format!("{request:?}").into_bytes(),
        )
    })
    .await;
    let config = json!({
        "method": "POST",
        "url": server.url("/x?inline=query-in-url").replace("http://", "http://ada:pass-word@"),
        "query": {"q": "query value/ü"},
        "headers": {
            "X-Own": "${{ env.PATH }}",
            "X-Encoded": "${{ base64.encode(bytes('ada:' + env.PATH)) }}",
            "Authorization": "Bearer written-down",
            "Cookie": "session=c00kie-value",
        },
    });
    let attempt = attempt();
    let outcome = http(&config, Variables::TASK).unwrap()(attempt.clone()).await;
    let Outcome::Failed(failed) = outcome else {
        panic!("{outcome:?}");
    };
    let sent = &server.requests()[0].headers;
    assert_eq!(sent["x-own"], path);
    let log = attempt.attempt_log().text().unwrap();
    let stored = format!("{failed:?}\n{log}");
    for secret in [
        path.as_str(),
        &sent["x-encoded"],
        "written-down",
        "c00kie-value",
        "query-in-url",
        "query value",
        "query+value",
        "pass-word",
    ] {
        assert!(!stored.contains(secret), "{secret}: {stored}");
    }
    assert!(stored.contains("[redacted]"));
    let excerpt = failed.context["body"].as_str().unwrap();
    assert!(excerpt.len() <= 1024, "{}", excerpt.len());
    assert!(log.starts_with("POST http://127.0.0.1:"), "{log}");
}

#[tokio::test]
async fn a_request_that_cannot_be_written_is_not_sent() {
    let server = Server::saying(200, "", "{}").await;
    for config in [
        json!({"url": server.url("/"), "headers": {"X-Line": "${{ context.line }}"}}),
        json!({"url": "${{ context.name }}"}),
        json!({"url": "ftp://${{ context.id }}/"}),
    ] {
        let failed = failure(&config).await;
        assert_eq!(
            code(&failed),
            (FailureKind::Permanent, "REQUEST_INVALID"),
            "{failed:?}"
        );
        assert!(!failed.message.contains("Evil") && !failed.message.contains("Ada"));
    }
    let config = json!({"url": "http://${{ env.TASKER_NO_SUCH_VARIABLE }}/"});
    assert_eq!(
        code(&failure(&config).await),
        (FailureKind::Retryable, "ENVIRONMENT")
    );
    assert_eq!(server.accepted(), 0);
}

fn problems(config: &Value) -> Vec<String> {
    let problems = http(config, Variables::TASK).err().unwrap_or_default();
    let lines = problems
        .iter()
        .map(|p| format!("{}: {}", p.path, p.problem));
    lines.collect()
}

#[test]
fn every_problem_of_a_configuration_is_reported() {
    let found = problems(&json!({
        "metod": "GET",
        "method": "FETCH",
        "url": "/relative",
        "headers": {"a b": "x", "X": "${{ env.A + }}"},
        "query": {"a": "${{ nothing }}"},
        "params": {},
        "body": "${{ env.SECRET }}",
        "timeout": -1,
        "follow_redirects": 100,
        "success": [700],
        "idempotency_header": "a b",
        "result": "${{ respons.body }}",
    }));
    for expected in [
        "/metod: unknown key; did you mean `method`?",
        "/method: expected one of GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS, found `FETCH`",
        "/url: not an absolute address",
        "/headers: `a b` cannot be the name of a header",
        "/headers/X: ",
        "/query/a: column 1: unknown variable `nothing`",
        "/params: is another name of `query`",
        "/body: column 1: `env` may be used",
        "/timeout: expected seconds from 0 to 86400, found -1",
        "/follow_redirects: expected a whole number from 0 to 20, found 100",
        "/success/0: expected a status such as",
        "/idempotency_header: `a b` cannot be the name of a header",
        "/result: column 1: unknown variable `respons`; did you mean `response`?",
    ] {
        assert!(
            found.iter().any(|line| line.starts_with(expected)),
            "{expected}: {found:#?}"
        );
    }
    assert_eq!(found.len(), 13, "{found:#?}");
    assert_eq!(problems(&json!({})), ["/url: is required"]);
}
