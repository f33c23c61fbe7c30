//! Lists, tasks that steps start, and what undoes them, as files say it.

use serde_json::json;
use tasker_model::subtask::Gather;
use tasker_model::template::{MapOver, Undo};

use super::{assert_round_trip, load, problems, to_yaml};

const ORDER: &str = "\
name: order
namespace_name: shop
step_templates:
  - {name: lines, handler: Shop::Lines}
  - name: reserve
    depends_on_step: lines
    map: results.lines
    handler: {http: {method: post, url: 'https://stock/${{ item.sku }}', body: {place: '${{ index }}'}}}
    undo: Shop::Release
  - name: pay
    depends_on_step: reserve
    handler: {task: {name: pay, namespace: money, context: {total: '${{ context.total }}'}}}
    undo:
      handler: {command: {program: ./refund, args: ['${{ results.pay.id }}', '${{ results.reserve[0] }}']}}
      retry_limit: 9
      timeout: 30s
  - {name: labels, handler: Shop::Label, depends_on_step: pay, map: {over: 'context.labels', concurrency: 2, max_failures: 1, gather: count}}
  - {name: ship, handler: Shop::Ship, depends_on_step: labels, starts_task: true, point_of_no_return: true}
";

#[test]
fn what_starts_tasks_and_undoes_them_is_read_and_shown() {
    let file = load(ORDER).unwrap();
    assert_round_trip(&file.template);
    let steps = &file.template.source().steps;
    assert_eq!(steps[1].map, Some(MapOver::new("results.lines")));
    assert_eq!(steps[1].undo, Some(Undo::by("Shop::Release")));
    assert_eq!(
        (steps[2].handler.as_str(), steps[2].starts_task),
        ("tasker.task", true)
    );
    let undo = steps[2].undo.as_ref().unwrap();
    assert_eq!(
        (undo.handler.as_str(), undo.retry.limit, undo.timeout_ms),
        ("tasker.command", 9, Some(30_000))
    );
    let limited = MapOver {
        concurrency: 2,
        max_failures: 1,
        gather: Gather::Count,
        ..MapOver::new("context.labels")
    };
    assert_eq!(steps[3].map, Some(limited));
    assert!(steps[4].starts_task && steps[4].point_of_no_return);
    let shown = to_yaml(&file.template);
    for part in [
        "  map: results.lines\n",
        "  undo: Shop::Release\n",
        "  handler:\n    task:\n      name: pay\n",
        "  map:\n    over: context.labels\n    concurrency: 2\n    max_failures: 1\n    gather: count\n",
        "  starts_task: true\n",
        "  point_of_no_return: true\n",
    ] {
        assert!(shown.contains(part), "{part} in:\n{shown}");
    }
    assert_eq!(shown.matches("starts_task").count(), 1, "{shown}");
}

#[test]
fn a_difference_in_them_is_one() {
    let before = load(ORDER).unwrap().template;
    let after = ORDER.replace("max_failures: 1", "max_failures: 2");
    let after = after.replace("undo: Shop::Release", "undo: Shop::LetGo");
    let found = super::differences(&before, &load(&after).unwrap().template);
    let at: Vec<_> = found.iter().map(|found| found.at.as_str()).collect();
    assert_eq!(
        at,
        [
            "step_templates.reserve.undo",
            "step_templates.labels.map.max_failures"
        ]
    );
    assert_eq!(found[1].after, Some(json!(2)));
}

#[test]
fn what_is_wrong_with_them_is_said_with_its_place() {
    let text = "\
name: order
step_templates:
  - {name: lines, handler: x}
  - {name: other, handler: x}
  - {name: a, handler: x, depends_on_step: lines, map: results.other}
  - {name: b, handler: x, map: {over: context.list, concurency: 2, gather: all}}
  - {name: c, handler: x, map: {concurrency: 2}}
  - {name: d, handler: x, map: {over: 'context.list +', concurrency: 0}}
  - {name: e, handler: {http: {url: 'https://x/${{ context.id }}'}}, map: context.list}
  - {name: f, handler: {http: {url: 'https://x/${{ item.id }}'}}}
  - {name: g, handler: {task: {nam: pay, version: one, context: [1], priority: high}}}
  - {name: h, handler: x, undo: {handler: {task: {name: pay}}}}
  - {name: i, handler: x, undo: {handler: {http: {url: 'https://x/${{ results.lines }}/${{ results.i }}'}}}}
  - {name: j, handler: x, undo: {retry_limit: 2}, starts_task: 1}
  - {name: k, handler: x, undo: {handler: {http: {ulr: x}}}}
";
    let expected = [
        "t.yaml:5:56: step `a` has no results of `other`, on which it does not depend; it depends on lines",
        "t.yaml:6:53: `map` has the unknown key `concurency`; did you mean `concurrency`?",
        "t.yaml:6:76: a map gathers no `all`; known: list, count",
        "t.yaml:7:32: `map` needs the key `over`",
        "t.yaml:8:32: `over`: ",
        "t.yaml:8:70: a map with a concurrency of 0 would never start an item",
        "t.yaml:9:37: `url`: column 1: `context` is not known to one item of a list; take what is needed into the list",
        "t.yaml:10:37: `url`: column 1: `item` is known where a step runs over a list (`map`) only",
        "t.yaml:11:31: `name`: is required",
        "t.yaml:11:37: `nam`: unknown key; did you mean `name`?",
        "t.yaml:11:51: `version`: ",
        "t.yaml:11:65: `context`: expected an object or an expression, found a list",
        "t.yaml:11:80: `priority`: expected a whole number or an expression, found a text",
        "t.yaml:12:50: what undoes a step cannot start a task",
        "t.yaml:13:56: `url`: step `i` has no results of `lines`, on which it does not depend; it depends on nothing",
        "t.yaml:14:33: `undo` needs the key `handler`",
        "t.yaml:14:64: `starts_task` of step `j` must be `true` or `false`; found the number 1",
        "t.yaml:15:50: `url`: is required",
        "t.yaml:15:56: `ulr`: unknown key; known are method, url",
    ];
    let found = problems(text);
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\nexpected {expected}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}
