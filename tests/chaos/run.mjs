// Members and publishers on stock clients, a whole cluster, faults, and the judgement: `make chaos`.
//
//   node tests/chaos/run.mjs --scenario nodes,links --seed 7 --seconds 120
//
// Without a scenario all of them run, one after the other. The seed decides which faults happen, in which order and
// to whom; it is printed, and the same seed does the same again. What was counted is printed at the end of each as
// one line of JSON; if anything was violated, the record and the nodes' logs are kept and the exit code is 1.

import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { FAULTS } from "./faults.js";
import { Fleet } from "./fleet.js";
import { judge } from "./judge.js";
import { Random } from "./random.js";
import { isLossy, SCENARIOS, schedule } from "./scenarios.js";
import { Stage } from "./stage.js";
import { Stalls } from "./stalls.js";

const { values } = parseArgs({
  options: {
    scenario: { type: "string", default: Object.keys(SCENARIOS).join(",") },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    // Only these faults of the scenario, by name.
    faults: { type: "string" },
    // How long faults happen in each scenario.
    seconds: { type: "string", default: "120" },
    members: { type: "string", default: "18" },
    rooms: { type: "string", default: "6" },
    // Messages per second, of all together.
    rate: { type: "string", default: "50" },
    // How long everything may take to arrive after the last was sent.
    settle: { type: "string", default: "60" },
    program: { type: "string", default: "target/release/vestibule" },
    servers: { type: "string", default: "target/release/examples/servers" },
    // A file that gets a line of JSON for each run.
    report: { type: "string" },
    // Nothing is kept and told of what was violated but the report.
    forget: { type: "boolean", default: false },
  },
});
const number = (name) => {
  const value = Number(values[name]);
  if (Number.isFinite(value) && value >= 0) return value;
  console.error(`--${name} ${values[name]}: a number is expected`);
  process.exit(64);
};
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
/** Every third has a way of its own, which can be broken. */
const hasWay = (n) => n % 3 === 0;
/** Every fifth does not believe its acks. */
const isDoubting = (n) => n % 5 === 1;
const PRESENCE_MS = 40_000;
const ARCHIVE_MS = 60_000;

let failures = 0;
for (const name of values.scenario.split(",")) {
  if (!SCENARIOS[name]) {
    console.error(`--scenario ${name}: known are ${Object.keys(SCENARIOS).join(", ")}`);
    process.exit(64);
  }
  const only = values.faults && { faults: values.faults.split(","), beside: [] };
  if (!await happens(name, { ...SCENARIOS[name], ...only })) failures += 1;
}
process.exit(failures === 0 ? 0 : 1);

/** One run; whether all was as it should be. */
async function happens(name, scenario) {
  const seed = number("seed");
  console.log(`${name}: seed ${seed}, ${values.seconds} s`);
  const random = new Random(seed);
  const stage = await Stage.start(scenario, { node: values.program, servers: values.servers });
  try {
    return await judged({ name, scenario, seed, random, stage });
  } finally {
    await stage.close();
  }
}

async function judged({ name, scenario, seed, random, stage }) {
  const plan = {
    url: stage.url,
    token: stage.token,
    senders: number("members"),
    rooms: number("rooms"),
    each: 2,
    seconds: number("seconds"),
    rate: number("rate"),
    settleMs: number("settle") * 1000,
    backMs: number("settle") * 1000,
    isLossy: isLossy(scenario),
  };
  const links = await Promise.all(Array.from({ length: plan.senders }, (_, n) => hasWay(n) && stage.way(`way ${n}`)));
  const fleet = new Fleet(plan, (n) => ({
    link: links[n] || undefined,
    isDoubting: isDoubting(n),
  }));
  // The judge knows members by their names.
  stage.ways = fleet.members.filter(({ link }) => link).map(({ name: own, link }) => Object.assign(link, { name: own }));
  const stalls = new Stalls((excuse) => stage.excuse(excuse));
  await fleet.connect();
  const start = Date.now();
  const sending = fleet.send();
  const counts = await breakThings({ scenario, random, stage, start, end: start + plan.seconds * 1000 });
  await sending;
  const isSettled = await fleet.settle();
  stalls.end();
  const record = await fleet.record(isSettled);
  const total = Object.values(record.histories).reduce((sum, { all }) => sum + all.length, 0);
  record.archives = await archived(stage, fleet.rooms, total);
  record.presence = await seen(fleet);
  Object.assign(record, { excuses: stage.excuses, sentAway: stage.sentAway }, await stage.misfortunes());
  const dropped = stage.redis.flat().reduce((sum, link) => sum + link.dropped, 0);
  const report = { scenario: name, seed, seconds: plan.seconds, faults: counts, dropped, sentAway: stage.sentAway,
    stalls: stalls.count, longestStallMs: stalls.longestMs, ...judge(record, plan) };
  fleet.close();
  for (const link of stage.ways) link.close();
  console.log(JSON.stringify(report));
  if (values.report) await writeFile(values.report, `${JSON.stringify(report)}\n`, { flag: "a" });
  const isWell = report.violations.count === 0;
  if (!isWell && !values.forget) await keep({ stage, record, report });
  return isWell;
}

/** Lets faults happen until the end; answers how often each did. */
async function breakThings({ scenario, random, stage, start, end }) {
  const counts = {};
  const happen = async ({ name, more }) => {
    counts[name] = (counts[name] ?? 0) + 1;
    console.log(`${((Date.now() - start) / 1000).toFixed(1)} s: ${name} ${JSON.stringify(more)}`);
    await FAULTS[name].act(stage, more);
  };
  for (const fault of schedule(scenario, random, stage)) {
    if (Date.now() + fault.quiet > end) break;
    await pause(fault.quiet);
    await Promise.all([happen(fault), fault.beside && happen(fault.beside)]);
  }
  await pause(Math.max(0, end - Date.now()));
  return counts;
}

/** What the archive holds, once it has everything or has had time enough. */
async function archived(stage, rooms, total) {
  const end = Date.now() + ARCHIVE_MS;
  for (;;) {
    const held = await stage.servers.archive(rooms);
    const count = Object.values(held).reduce((sum, rows) => sum + rows.length, 0);
    if (count >= total || Date.now() > end) return held;
    await pause(500);
  }
}

/** What members see of each other, once it is right or has had time enough. The last member leaves first. */
async function seen(fleet) {
  const gone = fleet.members.at(-1);
  gone.close();
  const watchers = fleet.members.slice(0, 3);
  const end = Date.now() + PRESENCE_MS;
  for (;;) {
    const all = [];
    for (const watcher of watchers) {
      for (const { name } of fleet.members) {
        all.push({ watcher: watcher.name, user: name, online: await watcher.sees(name), expected: name !== gone.name });
      }
    }
    if (all.every(({ online, expected }) => online === expected) || Date.now() > end) return all;
    await pause(500);
  }
}

async function keep({ stage, record, report }) {
  const folder = await mkdtemp(join(tmpdir(), "vestibule-chaos-"));
  await writeFile(join(folder, "record.json"), JSON.stringify(record, (_, value) => (value === Infinity ? null : value)));
  await stage.keepLogs(folder);
  console.error(`${report.violations.count} violations; the record and the nodes' logs are in ${folder}`);
  for (const note of report.violations.notes) console.error(`  ${note}`);
}
