// graphile-worker under the benchmark's single-step workload; prints one line of JSON.
//
// The settings are those that its documentation measures with. A job is complete when its row is
// deleted: the events say so before the deletion is committed, so this program looks at the table.
// A job's row has no history, no transitions and no result; that is what this peer is.

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import pg from "pg";

const CONCURRENT = 24;
// Jobs per call that adds them, as many as Tasker's; 1,000 and 5,000 are not faster.
const ADD_AT_ONCE = 200;
const WARM_UP = 200;
const MODES = {
  plain: {},
  batched: { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 },
};

const { values: flags } = parseArgs({
  options: {
    url: { type: "string" },
    workload: { type: "string", default: "single-step" },
    mode: { type: "string", default: "plain" },
    tasks: { type: "string" },
    latency: { type: "string" },
  },
});
if (flags.workload !== "single-step") throw new Error("a job of graphile-worker is one step");
if (!flags.url || !MODES[flags.mode] || !flags.tasks === !flags.latency) {
  throw new Error("--url, --mode plain|batched, and either --tasks or --latency are needed");
}

const preset = {
  worker: {
    connectionString: flags.url,
    concurrentJobs: CONCURRENT,
    maxPoolSize: CONCURRENT + 1,
    logger: new Logger(() => () => {}),
    ...MODES[flags.mode],
  },
};
const pool = new pg.Pool({ connectionString: flags.url, max: 2 });
const utils = await makeWorkerUtils({ preset });
await utils.migrate();

let handled = 0;
let onHandled = () => {};
const taskList = {
  // No database connection is taken, so the handler costs what an empty one costs.
  step: async (payload) => {
    if (payload.parents.length !== 0) throw new Error("a root has no parents");
    handled += 1;
    onHandled();
  },
};

function job() {
  return { identifier: "step", payload: { step: "s0_0", parents: [], padding: "0123456789" } };
}

async function add(jobs) {
  for (let left = jobs; left > 0; left -= ADD_AT_ONCE) {
    await utils.addJobs(Array.from({ length: Math.min(left, ADD_AT_ONCE) }, job));
  }
}

async function startWorker() {
  const runner = await run({ preset, taskList, noHandleSignals: true });
  runner.events.on("job:error", ({ error }) => {
    // An exception would be swallowed, and the job tried again later.
    console.error(error);
    process.exit(1);
  });
  return runner;
}

/** Waits until so many jobs have been handled and no row is left. */
async function waitForAll(jobs) {
  while (handled < jobs) await sleep(1);
  for (;;) {
    const { rows } = await pool.query("SELECT EXISTS (SELECT FROM graphile_worker._private_jobs)");
    if (!rows[0].exists) return;
    await sleep(1);
  }
}

/** Jobs per second: first all are added while the worker runs, then all lie there when it starts. */
async function throughput(jobs) {
  let runner = await startWorker();
  await add(WARM_UP);
  await waitForAll(WARM_UP);
  const secondsSince = (started) => (performance.now() - started) / 1_000;

  handled = 0;
  let started = performance.now();
  await add(jobs);
  await waitForAll(jobs);
  const steps_per_second = jobs / secondsSince(started);
  await runner.stop();

  handled = 0;
  await add(jobs);
  started = performance.now();
  runner = await startWorker();
  await waitForAll(jobs);
  const drain_per_second = jobs / secondsSince(started);
  await runner.stop();
  return { steps_per_second, drain_per_second };
}

/** One client adds a job, waits until it is complete, and adds the next. */
async function latency(jobs) {
  const runner = await startWorker();
  await add(WARM_UP);
  await waitForAll(WARM_UP);
  const client = await pool.connect();
  const gone = {
    name: "gone",
    text: "SELECT FROM graphile_worker._private_jobs WHERE id = $1",
  };
  const { identifier, payload } = job();
  const times = [];
  for (let n = 0; n < jobs; n += 1) {
    const ran = new Promise((resolve) => {
      onHandled = resolve;
    });
    const started = performance.now();
    const { id } = await utils.addJob(identifier, payload);
    await ran;
    while ((await client.query({ ...gone, values: [id] })).rowCount > 0);
    times.push(performance.now() - started);
  }
  client.release();
  await runner.stop();
  times.sort((a, b) => a - b);
  const quantile = (share) => times[Math.max(Math.ceil(share * jobs), 1) - 1];
  return { p50_ms: quantile(0.5), p95_ms: quantile(0.95), p99_ms: quantile(0.99) };
}

const manifest = new URL("node_modules/graphile-worker/package.json", import.meta.url);
const { version } = JSON.parse(readFileSync(manifest, "utf8"));
const figures = flags.tasks
  ? await throughput(Number(flags.tasks))
  : await latency(Number(flags.latency));
await utils.release();
await pool.end();
const settings = `${flags.mode}, ${CONCURRENT} concurrent`;
const peer = "graphile-worker";
console.log(JSON.stringify({ peer, version, workload: flags.workload, settings, ...figures }));
