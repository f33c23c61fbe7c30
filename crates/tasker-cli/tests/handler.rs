//! `tasker handler`: what people do with template files.

mod support;

use std::path::Path;

use serde_json::Value;

use support::{tasker, text};

/// Runs what must end with this status; gives its data.
#[track_caller]
fn data(folder: &Path, status: i32, arguments: &[&str]) -> String {
    let output = tasker(folder, arguments);
    let (data, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(
        output.status.code(),
        Some(status),
        "{arguments:?}: {data}{said}"
    );
    data
}

/// Runs what must be refused as wrong use; gives what it says.
#[track_caller]
fn refusal(folder: &Path, arguments: &[&str]) -> String {
    let output = tasker(folder, arguments);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    text(&output.stderr)
}

const ORDER: &str = "\
name: order
namespace_name: shop
version: 1.2.0
step_templates:
  - {name: charge, handler: charge_card, retry_limit: 5}
  - {name: ship, handler: ship_parcel, depends_on_step: charge}
";

/// A folder with template files in the usual place.
fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join("config/tasker/tasks").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("shop/order.yaml", ORDER);
    write(
        "shop/order_1.yaml",
        &ORDER
            .replace("1.2.0", "1.0.0")
            .replace("retry_limit: 5", "timeout: 30"),
    );
    write("store/order.yaml", &ORDER.replace("shop", "store"));
    folder
}

#[test]
fn a_drawing_says_which_task_a_step_starts() {
    let folder = tempfile::tempdir().unwrap();
    let file = "\
name: refund
namespace_name: tickets
version: 1.0.0
step_templates:
  - {name: own, handler: {task: {name: refund}}}
  - {name: theirs, handler: {task: {namespace: payments, name: refund, version: 2.1.0}}}
";
    std::fs::write(folder.path().join("refund.yaml"), file).unwrap();
    let drawn = data(folder.path(), 0, &["handler", "graph", "refund.yaml"]);
    assert!(drawn.contains("own · starts refund\n"), "{drawn}");
    let theirs = "theirs · starts payments.refund@2.1.0\n";
    assert!(drawn.contains(theirs), "{drawn}");
}

#[test]
fn files_are_listed_shown_drawn_and_compared() {
    let folder = project();
    let listed = data(folder.path(), 0, &["handler", "list"]);
    assert!(listed.contains("shop.order@1.2.0"), "{listed}");
    assert!(
        listed.contains("config/tasker/tasks/store/order.yaml"),
        "{listed}"
    );
    let shown = data(folder.path(), 0, &["handler", "show", "shop.order"]);
    assert!(
        shown.starts_with("name: order\nnamespace_name: shop\nversion: \"1.2.0\"\n"),
        "{shown}"
    );
    let drawn = data(folder.path(), 0, &["handler", "graph", "shop.order@1.0.0"]);
    assert!(
        drawn.contains("charge") && drawn.contains("ship"),
        "{drawn}"
    );
    let mermaid = [
        "handler",
        "graph",
        "config/tasker/tasks/shop/order.yaml",
        "--mermaid",
    ];
    assert!(data(folder.path(), 0, &mermaid).starts_with("graph TD"));
    let changed = data(
        folder.path(),
        1,
        &["handler", "diff", "shop.order@1.0.0", "shop.order"],
    );
    assert_eq!(
        changed,
        "~ version: \"1.0.0\" → \"1.2.0\"\n\
         - step_templates.charge.timeout: 30\n\
         + step_templates.charge.retry_limit: 5\n"
    );
    let same = data(
        folder.path(),
        0,
        &["handler", "diff", "shop.order", "shop/order@1.2.0"],
    );
    assert!(same.starts_with("no difference: content "), "{same}");
    let schema: Value =
        serde_json::from_str(&data(folder.path(), 0, &["handler", "schema"])).unwrap();
    assert_eq!(schema["properties"]["name"]["type"], "string");
    let json = data(
        folder.path(),
        0,
        &["handler", "show", "shop.order", "--json"],
    );
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["handler"], "shop.order@1.2.0");
    assert_eq!(json["content_hash"].as_str().unwrap().len(), 64);
}

#[test]
fn what_is_shown_can_be_used_as_a_file() {
    let folder = project();
    let shown = data(folder.path(), 0, &["handler", "show", "shop.order"]);
    std::fs::write(folder.path().join("copy.yaml"), shown).unwrap();
    data(
        folder.path(),
        0,
        &["handler", "diff", "copy.yaml", "shop.order"],
    );
}

#[test]
fn definitions_of_a_store_are_found_too() {
    let folder = tempfile::tempdir().unwrap();
    let empty = data(folder.path(), 0, &["handler", "list"]);
    assert!(empty.starts_with("no task handlers"), "{empty}");
    data(folder.path(), 0, &["demo", "--pace", "0"]);
    let listed: Value =
        serde_json::from_str(&data(folder.path(), 0, &["handler", "list", "--json"])).unwrap();
    assert_eq!(listed[0]["source"], "store");
    let name = listed[0]["handler"].as_str().unwrap();
    // What Rust code has defined reads back as a file to the same content.
    let shown = data(folder.path(), 0, &["handler", "show", name]);
    std::fs::write(folder.path().join("from_rust.yaml"), shown).unwrap();
    data(
        folder.path(),
        0,
        &["handler", "diff", "from_rust.yaml", name],
    );
}

#[test]
fn mistakes_are_shown_with_their_lines() {
    let folder = project();
    let good = data(folder.path(), 0, &["handler", "validate"]);
    assert!(
        good.contains("✓ config/tasker/tasks/shop/order.yaml: shop.order@1.2.0"),
        "{good}"
    );
    let broken = ORDER
        .replace("retry_limit", "retry_limitt")
        .replace("depends_on_step: charge", "depends_on_step: chrage");
    std::fs::write(folder.path().join("broken.yaml"), broken).unwrap();
    let found = data(folder.path(), 1, &["handler", "validate", "broken.yaml"]);
    assert_eq!(
        found,
        "✗ broken.yaml\n  \
           error: step `charge` has the unknown key `retry_limitt`; did you mean `retry_limit`?\n    \
             --> broken.yaml:5:42\n      \
               |\n    \
             5 |   - {name: charge, handler: charge_card, retry_limitt: 5}\n      \
               |                                          ^\n  \
           error: step `ship` depends on unknown step `chrage`; did you mean `charge`?\n    \
             --> broken.yaml:6:57\n      \
               |\n    \
             6 |   - {name: ship, handler: ship_parcel, depends_on_step: chrage}\n      \
               |                                                         ^\n"
    );
    let json: Value = serde_json::from_str(&data(
        folder.path(),
        1,
        &["handler", "validate", "broken.yaml", "--json"],
    ))
    .unwrap();
    assert_eq!(json[0]["problems"][1]["line"], 6);
    assert_eq!(
        data(folder.path(), 1, &["handler", "validate", "gone.yaml"])
            .lines()
            .next(),
        Some("✗ gone.yaml")
    );
}

#[test]
fn names_that_are_not_clear_are_refused_with_a_hint() {
    let folder = project();
    let ambiguous = refusal(folder.path(), &["handler", "show", "order"]);
    assert!(
        ambiguous.contains("`order` is in several namespaces: shop, store"),
        "{ambiguous}"
    );
    let mistyped = refusal(folder.path(), &["handler", "show", "shop.ordr"]);
    assert!(
        mistyped.contains("hint: did you mean `shop.order@"),
        "{mistyped}"
    );
    let version = refusal(folder.path(), &["handler", "show", "shop.order@1"]);
    assert!(version.contains("`1` is not a version"), "{version}");
    let folder_gone = refusal(
        folder.path(),
        &["handler", "list", "--templates", "nowhere"],
    );
    assert!(
        folder_gone.contains("nowhere:1:1: cannot be read"),
        "{folder_gone}"
    );
}

#[test]
fn every_command_of_the_documentation_works() {
    let folder = tempfile::tempdir().unwrap();
    let page = include_str!("../../../docs/YAML.md");
    let file = page
        .split("```yaml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    let path = folder.path().join("config/tasker/tasks/shop/checkout.yaml");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, file).unwrap();
    let commands: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("% tasker "))
        .collect();
    assert_eq!(commands.len(), 6);
    for line in commands {
        let arguments: Vec<&str> = line.split(' ').collect();
        assert!(!data(folder.path(), 0, &arguments).is_empty(), "{line}");
    }
}
