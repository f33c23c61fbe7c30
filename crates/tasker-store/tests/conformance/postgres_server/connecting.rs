//! Connections that are refused, and what their errors say; TLS.

use std::error::Error;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::time::Duration;

use tasker_store::postgres::PostgresStore;
use tasker_store::{StoreError, open};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::place::{Place, Server, encoded, story};
use super::wire::Pooler;
use crate::fixture::clock;

/// More than any refusal takes: the driver waits 5 s for each address of a host.
const BOUND: Duration = Duration::from_secs(40);
const SECRET: &str = "s3cret-never-shown";

/// Nobody has the key of this authority.
const OTHER_AUTHORITY: &str = "-----BEGIN CERTIFICATE-----
MIIBeTCCAR+gAwIBAgIUVL05casuLrrIKDE1F5hVep4N6TAwCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGbm9ib2R5MCAXDTI2MTEyMzE0MzEyNVoYDzIxMjYxMDMwMTQz
MTI1WjARMQ8wDQYDVQQDDAZub2JvZHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AATVmQCe1/W6U6Xrubtql4obNNEmdD82UVgWgG4p3X8HrPuIaqG+bpu9XlSX5E/D
dJbjWEA6RReG4KA81Oxs/3Jko1MwUTAdBgNVHQ4EFgQUArKdCTicAJF3UM87Qiyd
qmo9TzMwHwYDVR0jBBgwFoAUArKdCTicAJF3UM87Qiydqmo9TzMwDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEAw3J9/t1p/VeWpNCqRsoz9YGzf3Qj
SVfIiv6Yj0h1xm4CIBIeMU0De+rxiAFSPvqExZuYIkI9i84b+JrY0JHtiLk4
-----END CERTIFICATE-----
";

/// What a user reads, and what a log may hold.
fn texts(error: &StoreError) -> (String, String) {
    let mut text = error.to_string();
    let mut debug = format!("{error:?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(text, ": {error}").unwrap();
        write!(debug, " {error:?}").unwrap();
        cause = error.source();
    }
    (text, debug)
}

/// Refused in time, by each of those who connect, in the same words, and without the password.
async fn refusal(url: &str) -> (StoreError, String) {
    let opened = timeout(BOUND, open(url, clock())).await;
    let refused = opened.expect("in bounded time").err().expect("refused");
    let (text, debug) = texts(&refused);
    let migrated = timeout(BOUND, PostgresStore::migrate(url)).await;
    let also = migrated.expect("in bounded time").expect_err("refused");
    assert_eq!(texts(&also).0, text, "whoever connects");
    // Neither a wrong one nor the right one.
    for secret in [SECRET, &Server::for_tests().password] {
        assert!(secret.is_empty() || !text.contains(secret), "{text}");
        assert!(secret.is_empty() || !debug.contains(secret), "{debug}");
    }
    (refused, text)
}

/// Refused for good: nothing but another URL helps.
async fn refused_for_good(url: &str, says: &[&str]) {
    let (refused, text) = refusal(url).await;
    let is_final = matches!(refused, StoreError::CannotConnect { .. });
    assert!(is_final && !refused.is_transient(), "{refused:?}");
    for part in says {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// Not reached, which may pass.
async fn not_reached(url: &str, says: &[&str]) {
    let (refused, text) = refusal(url).await;
    assert!(refused.is_transient(), "{refused:?}");
    for part in says {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn who_may_not_enter_is_told_why_and_where() {
    let server = Server::for_tests();
    let shown = format!("cannot connect to `{}:{}/", server.host, server.port);
    let wrong = Server {
        password: SECRET.to_owned(),
        ..server.clone()
    };
    let says = "password authentication failed for user";
    refused_for_good(&wrong.url(""), &[&shown, says]).await;
    let unknown = Server {
        database: "no such database".to_owned(),
        ..server
    };
    let says = "database \"no such database\" does not exist";
    refused_for_good(&unknown.url(""), &[&shown, says]).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let server = Server {
        user: "ann".to_owned(),
        password: SECRET.to_owned(),
        host: "127.0.0.1".to_owned(),
        port: 0,
        database: "orders".to_owned(),
    };
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let shown = format!("`127.0.0.1:{port}/orders`");
    let unreachable = Server {
        port,
        ..server.clone()
    };
    not_reached(&unreachable.url(""), &[&shown, "refused"]).await;
    let unknown = Server {
        host: "no-such-host.invalid".to_owned(),
        port: 5432,
        ..server
    };
    let shown = "`no-such-host.invalid:5432/orders`";
    not_reached(&unknown.url(""), &[shown, "lookup"]).await;
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_in_the_time_of_the_url() {
    // Connections are accepted by the system, but nobody reads from them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("postgres://ann:{SECRET}@127.0.0.1:{port}/orders?connect_timeout=1");
    let shown = format!("`127.0.0.1:{port}/orders`");
    let ten = Duration::from_secs(10);
    timeout(ten, not_reached(&url, &[&shown]))
        .await
        .expect("a second each, not the time of a call");
}

#[tokio::test]
async fn a_server_that_goes_away_while_it_agrees_on_tls_may_come_back() {
    let restarting = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = restarting.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = restarting.accept().await {
            client.read_exact(&mut [0; 8]).await.unwrap();
            client.write_all(b"S").await.unwrap();
            // All of what it says: what is left unread would turn the end into a reset.
            let mut head = [0; 5];
            client.read_exact(&mut head).await.unwrap();
            let mut hello = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
            client.read_exact(&mut hello).await.unwrap();
        }
    });
    let url = format!("postgres://ann:{SECRET}@127.0.0.1:{port}/orders");
    not_reached(&url, &[&format!("`127.0.0.1:{port}/orders`")]).await;
}

#[tokio::test]
async fn a_url_that_cannot_be_read_is_refused_without_its_password() {
    let tails = [
        "@db:port/orders",
        "@db/orders?port=x",
        "@db/orders?sslmode=maybe",
        "@db/orders?schemas=x",
        "@db/orders?sslmode=verify-full&sslrootcert=no-such-file.crt",
        "@[::1/orders",
        "@",
        "",
        "?schema=pg_x@db/orders",
    ];
    for tail in tails {
        let url = format!("postgres://ann:{SECRET}{tail}");
        let opened = timeout(BOUND, open(&url, clock())).await;
        let refused = opened.expect("in bounded time").err().expect("refused");
        let (text, debug) = texts(&refused);
        assert!(!text.contains(SECRET), "{tail}: {text}");
        assert!(!debug.contains(SECRET), "{tail}: {debug}");
        let names_it =
            text.starts_with("in the store's URL: ") || text.starts_with("cannot connect to `");
        assert!(names_it && !refused.is_transient(), "{tail}: {text}");
    }
}

/// Whether the sessions of a store are encrypted.
async fn is_encrypted(server: &Server, parameters: &str) -> bool {
    let place = Place::migrated(server, parameters).await;
    let name = place.schema.clone();
    let url = format!("{}&application_name={name}", place.url);
    let f = place.open(&url).await;
    story(&f).await;
    let sql = format!(
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
         WHERE application_name = '{name}'"
    );
    let encrypted: Option<bool> = server.ask(&sql).await;
    encrypted.expect("the store keeps its sessions")
}

async fn speaks_tls(server: &Server) -> bool {
    server.ask::<String>("SHOW ssl").await == "on"
}

#[tokio::test]
async fn encryption_is_used_where_it_can_be_and_required_where_it_must_be() {
    let server = Server::for_tests();
    if speaks_tls(&server).await {
        assert!(is_encrypted(&server, "sslmode=require").await);
        assert!(is_encrypted(&server, "").await, "preferred");
    } else {
        let url = server.url("sslmode=require");
        refused_for_good(&url, &["server does not support TLS"]).await;
        assert!(!is_encrypted(&server, "").await);
    }
    assert!(!is_encrypted(&server, "sslmode=disable").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_refused_where_encryption_is_required() {
    let server = Server::for_tests();
    let pooler = Pooler::before(&server).await;
    let plain = Server {
        host: "127.0.0.1".to_owned(),
        port: pooler.port,
        password: SECRET.to_owned(),
        ..server
    };
    let shown = format!("cannot connect to `127.0.0.1:{}/", pooler.port);
    for mode in ["require", "verify-ca", "verify-full"] {
        let url = plain.url(&format!("sslmode={mode}"));
        refused_for_good(&url, &[&shown, "server does not support TLS"]).await;
    }
}

#[tokio::test]
async fn a_certificate_is_checked_against_the_given_authority_and_the_host() {
    let server = Server::for_tests();
    let Some(authority) = std::env::var_os("TASKER_TEST_POSTGRES_CA") else {
        println!("not run: no TASKER_TEST_POSTGRES_CA names the server's authority");
        return;
    };
    let by =
        |mode: &str, authority: &str| format!("sslmode={mode}&sslrootcert={}", encoded(authority));
    let authority = authority.to_str().unwrap();
    for mode in ["verify-full", "verify-ca", "require"] {
        assert!(is_encrypted(&server, &by(mode, authority)).await, "{mode}");
    }
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other.crt");
    std::fs::write(&other, OTHER_AUTHORITY).unwrap();
    let other = other.to_str().unwrap();
    for mode in ["verify-full", "verify-ca", "require"] {
        let url = server.url(&by(mode, other));
        refused_for_good(&url, &["certificate"]).await;
    }
    // The system's authorities have not signed it either.
    refused_for_good(&server.url("sslmode=verify-full"), &["certificate"]).await;
    // Signed by the right one, but for another host.
    let elsewhere = Server {
        host: "db.example".to_owned(),
        ..server.clone()
    };
    let address = format!("&hostaddr={}", server.host);
    let url = elsewhere.url(&(by("verify-full", authority) + &address));
    refused_for_good(&url, &["db.example", "certificate"]).await;
}
