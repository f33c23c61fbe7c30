"""DBOS under the benchmark's workloads; prints one line of JSON.

Workflows are called directly from a few threads: each call writes the workflow's row, a row per
step and the outcome, and returns when the outcome is committed. The steps of a level run one
after another, because on two cores that is faster than `asyncio.gather` (by a third for the
diamond, twofold for the fan), for the throughput and for the latency. Queues are not used: they
look for work once a second.
"""

import argparse
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import psycopg
from dbos import DBOS

LEVELS = {
    "single-step": [1],
    "linear-4": [1, 1, 1, 1],
    "diamond-4": [1, 2, 1],
    "fan-100": [1, 100, 1],
}
# More than four workflows at a time are slower: the interpreter runs one thread.
CLIENTS = 4
POOL = 20
WARM_UP = 2 * CLIENTS


@DBOS.step()
def sum_parents(name, parents):
    """A result of about 50 bytes that needs every parent's."""
    total = 1 + sum(parent["sum"] for parent in parents)
    return {"step": name, "sum": total, "padding": "0123456789"}


@DBOS.workflow()
def layered(levels):
    above = []
    for level, width in enumerate(levels):
        above = [sum_parents(f"s{level}_{n}", above) for n in range(width)]
    return above[0]["sum"]


def throughput(levels, tasks):
    """Seconds from the first call to the end of the last."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(layered, [levels] * WARM_UP))
        started = time.perf_counter()
        list(clients.map(layered, [levels] * tasks))
        return time.perf_counter() - started


def latency(levels, tasks):
    """Sorted milliseconds of calls one after another."""
    for _ in range(WARM_UP):
        layered(levels)
    times = []
    for _ in range(tasks):
        started = time.perf_counter()
        layered(levels)
        times.append((time.perf_counter() - started) * 1000)
    return sorted(times)


def check_rows(url, levels, workflows):
    """What was measured must be in the database."""
    steps = workflows * sum(levels)
    with psycopg.connect(url) as connection:
        count = "SELECT count(*) FROM dbos."
        done = connection.execute(f"{count}workflow_status WHERE status = 'SUCCESS'").fetchone()[0]
        recorded = connection.execute(f"{count}operation_outputs").fetchone()[0]
    if (done, recorded) != (workflows, steps):
        raise SystemExit(
            f"{done} workflows and {recorded} steps are recorded, not {workflows} and {steps}"
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--workload", required=True, choices=LEVELS)
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--tasks", type=int, help="throughput of so many workflows")
    kind.add_argument("--latency", type=int, help="latency of so many workflows")
    arguments = parser.parse_args()
    url = arguments.url.replace("postgres://", "postgresql://", 1)
    levels = LEVELS[arguments.workload]

    DBOS(
        config={
            "name": "bench",
            "system_database_url": url,
            "sys_db_pool_size": POOL,
            "log_level": "ERROR",
        }
    )
    DBOS.launch()
    figures = {
        "peer": "dbos",
        "version": version("dbos"),
        "workload": arguments.workload,
        "settings": f"{CLIENTS} threads, pool of {POOL}",
    }
    if arguments.tasks:
        tasks = arguments.tasks
        seconds = throughput(levels, tasks)
        figures["steps_per_second"] = tasks * sum(levels) / seconds
    else:
        tasks = arguments.latency
        times = latency(levels, tasks)
        for name, share in (("p50_ms", 0.50), ("p95_ms", 0.95), ("p99_ms", 0.99)):
            figures[name] = times[max(math.ceil(share * tasks), 1) - 1]
    DBOS.destroy()
    check_rows(url, levels, WARM_UP + tasks)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
