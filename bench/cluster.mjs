// Measures a cluster: three nodes behind HAProxy, two Redis shards, Kafka, PostgreSQL, all on this machine.
//
//   node bench/cluster.mjs [--rates 500,1000,2000,5000] [--rounds 3] [--duration 20] [--senders 200]
//                          [--rooms 50] [--reads 500] [--warm 20] [--profile dist] [--set KEY=VALUE] [--no-build] [--no-write]
//
// Messages are due at even intervals whatever the cluster does (an open loop), and their time counts from then.
// The ladder of rates ends where more than one in a hundred takes over a second, or any is lost. What each
// process uses comes from /proc, where the time goes from the nodes' metrics. Figures are medians over the rounds.

import { execFileSync } from "node:child_process";
import { appendFileSync, chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { setTimeout as sleep } from "node:timers/promises";

import { readAll } from "./metrics.mjs";
import { below, busy, cpu, load, start, stop, words } from "./servers.mjs";
import { write } from "./cluster-table.mjs";

const root = join(import.meta.dirname, "..");
const { values: options } = parseArgs({
  options: {
    rates: { type: "string", default: "500,1000,2000,5000" },
    rounds: { type: "string", default: "3" },
    duration: { type: "string", default: "20" },
    // Seconds of load before anything is measured.
    warm: { type: "string", default: "20" },
    senders: { type: "string", default: "200" },
    rooms: { type: "string", default: "50" },
    // API reads per second; 0 for none.
    reads: { type: "string", default: "500" },
    profile: { type: "string", default: "dist" },
    set: { type: "string", multiple: true, default: [] },
    "no-build": { type: "boolean", default: false },
    "no-write": { type: "boolean", default: false },
    // Programs to use instead of what is built here.
    program: { type: "string" },
    cluster: { type: "string" },
  },
});
const number = (name) => {
  const value = Number(options[name]);
  if (Number.isFinite(value) && value >= 0) return value;
  process.stderr.write(`--${name} ${options[name]}: a number is expected\n`);
  process.exit(64);
};
const [rounds, seconds, senders, rooms, reads] = ["rounds", "duration", "senders", "rooms", "reads"].map(number);
const rates = options.rates.split(",").map(Number);
const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");
const binaries = join(target, options.profile === "dev" ? "debug" : options.profile);
const program = options.program ?? join(binaries, "vestibule");
const WARM_UP_SECONDS = 3;
const SAMPLE_EVERY_MS = 500;

function build() {
  const what = ["--bin", "vestibule", "--example", "cluster"];
  execFileSync("cargo", ["build", "--locked", "--profile", options.profile, ...what], { cwd: root, stdio: "inherit" });
}

/** Starts everything; what it is made of, by process. */
async function open(folder) {
  const settings = ["limits.enabled=false", ...options.set].flatMap((setting) => ["--set", setting]);
  const command = [options.cluster ?? join(binaries, "examples", "cluster"), "--program", program, ...settings];
  const wanted = {
    url: /^open (?<value>http:\S+?)\/?$/,
    nodes: /^node (?<value>.+)$/,
    data: /^tokens: .*--data (?<value>\S+)$/,
    end: /^(?<value>Ctrl-C ends all of it)/,
  };
  // The folder is beside the build: a temporary one may be memory, where nothing needs flushing. The tests' broker
  // compiles its code for a quick start, a lasting one for speed.
  const env = { TMPDIR: folder, VESTIBULE_KAFKA_JAVA: "-XX:TieredStopAtLevel=4 -XX:ReservedCodeCacheSize=128m" };
  const { child, said } = await start(command, wanted, { env, within: 120_000 });
  const nodes = said.nodes.map(parse);
  return { child, url: said.url, data: said.data, nodes, processes: processes(child.pid, nodes) };
}

function parse(line) {
  const found = /^(?<name>\S+): \S+ +pid (?<pid>\d+) +http:\/\/(?<operations>[^/]+)/.exec(line)?.groups;
  if (!found) throw new Error(`not understood: node ${line}`);
  return { ...found, pid: Number(found.pid) };
}

/** Groups of process ids by what they are. */
function processes(example, nodes) {
  const groups = Object.fromEntries(nodes.map(({ name, pid }) => [`node ${name}`, [pid]]));
  let shard = 0;
  for (const pid of below(example)) {
    const [word = ""] = words(pid);
    if (word.endsWith("redis-server") || word.startsWith("redis-server")) groups[`redis ${shard++}`] = [pid];
    else if (word.endsWith("java")) groups.kafka = [pid];
    else if (word.endsWith("haproxy")) (groups.haproxy ??= []).push(pid);
    else if (word.endsWith("/postgres")) groups.postgres = [pid];
  }
  return groups;
}

/** Tokens of that many users, one a line: the log is partitioned by user. */
function tokens(folder, data) {
  const file = join(folder, "tokens");
  const line = (n) => ["token", "--user", `load-${n}`, "--rooms", "conversation:*", "--ttl", "6h", "--data", data];
  const lines = Array.from({ length: senders }, (_, n) => execFileSync(program, line(n), { encoding: "utf8" }).trim());
  writeFileSync(file, lines.join("\n"), { mode: 0o600 });
  return file;
}

/** Samples what everything uses while `work` runs; answers its result and the samples. */
async function sampled(groups, work) {
  const samples = [];
  // A process of PostgreSQL for each connection: they come and go, the first stays.
  const all = (name, pids) => (name === "postgres" ? [pids[0], ...below(pids[0])] : pids);
  const take = () => {
    const used = Object.entries(groups).map(([name, pids]) => [name, all(name, pids).reduce((sum, pid) => sum + cpu(pid), 0)]);
    samples.push({ at: performance.now(), used: Object.fromEntries(used), busy: busy() });
  };
  const timer = setInterval(take, SAMPLE_EVERY_MS);
  try {
    take();
    const result = await work();
    take();
    return { result, samples };
  } finally {
    clearInterval(timer);
  }
}

/** Cores used between two moments before the end. */
function cores(samples, fromEndMs, generator) {
  const end = samples.at(-1).at;
  const inside = samples.filter(({ at }) => at >= end - fromEndMs && at <= end - 700);
  const [first, last] = [inside[0], inside.at(-1)];
  const time = (last.at - first.at) / 1e3;
  const each = Object.fromEntries(Object.keys(first.used).map((name) => [name, (last.used[name] - first.used[name]) / time]));
  const own = Object.values(each).reduce((sum, value) => sum + value, generator);
  return { ...each, "load generator": generator, "everything else on the machine": Math.max((last.busy - first.busy) / time - own, 0) };
}

async function messages(cluster, file, rate, time = seconds) {
  const audience = senders / rooms;
  const args = [
    ...["durable", "--url", cluster.url.replace("http", "ws"), "--token-file", file, "--json"],
    ...["--connections", `${senders}`, "--rooms", `${rooms}`, "--publishers", `${Math.floor(audience)}`],
    ...["--rate", `${rate * audience}`, "--warm-up", `${WARM_UP_SECONDS}s`, "--duration", `${time}s`],
    ...["--settle", "2s", "--stall", "20s", "--opening", "16"],
    ...Object.values(cluster.processes).flat().flatMap((pid) => ["--pid", `${pid}`]),
  ];
  const loads = [loadavg()[0]];
  const before = await readAll(cluster.nodes);
  const { result, samples } = await sampled(cluster.processes, () => load(program, args));
  // The last are archived and committed a little later.
  await sleep(2_000);
  const after = await readAll(cluster.nodes);
  loads.push(loadavg()[0]);
  const used = cores(samples, time * 1e3, result.generator.cores);
  return { rate, report: result, before: [...before], after: [...after], cores: used, loads };
}

async function answers(cluster) {
  const args = [
    ...["reads", "--url", cluster.url, "--rate", `${reads}`, "--duration", `${seconds}s`, "--json"],
    ...cluster.nodes.flatMap(({ operations }) => ["--operations", `http://${operations}`]),
    ...Object.values(cluster.processes).flat().flatMap((pid) => ["--pid", `${pid}`]),
  ];
  const loads = [loadavg()[0]];
  const { result, samples } = await sampled(cluster.processes, () => load(program, args));
  loads.push(loadavg()[0]);
  return { report: result, cores: cores(samples, seconds * 1e3, 0), loads };
}

const isBroken = ({ report }) =>
  report.check.lost > 0 || report.stalled > 0 || Object.keys(report.refused).length > 0 || report.delivery.p99_ms > 1_000;

async function measure(folder) {
  const cluster = await open(folder);
  try {
    const file = tokens(folder, cluster.data);
    const results = { rates: [], reads: [], args: process.argv.slice(2) };
    const keep = (kind, one) => {
      results[kind].push(one);
      appendFileSync(join(target, "bench-cluster.jsonl"), `${JSON.stringify({ kind, ...one, before: undefined, after: undefined })}\n`);
    };
    // A broker that has just been started still compiles itself: what it costs then says nothing.
    await messages(cluster, file, Math.min(...rates, 500), number("warm"));
    for (const rate of rates) {
      const own = [];
      for (let round = 1; round <= rounds; round += 1) {
        const one = await messages(cluster, file, rate);
        const { delivery, elsewhere, ack } = one.report;
        process.stderr.write(
          `${rate}/s, round ${round}: seen p50 ${delivery.p50_ms} p99 ${delivery.p99_ms} p99.9 ${delivery.p999_ms}; elsewhere ` +
            `p99 ${elsewhere?.p99_ms}; ack p50 ${ack.p50_ms} p99 ${ack.p99_ms} ms; load ${one.loads.map((n) => n.toFixed(1)).join(" to ")}\n`,
        );
        own.push(one);
        keep("rates", one);
      }
      if (own.every(isBroken)) break;
    }
    for (let round = 1; reads > 0 && round <= rounds; round += 1) keep("reads", await answers(cluster));
    return results;
  } finally {
    await stop(cluster.child, 60_000);
  }
}

if (!options["no-build"]) build();
mkdirSync(target, { recursive: true });
const folder = mkdtempSync(join(target, "bench-data-"));
// PostgreSQL runs as another user, where this is root.
chmodSync(folder, 0o711);
try {
  const results = await measure(folder);
  const page = options["no-write"] ? undefined : join(root, "docs", "BENCHMARKS.md");
  write({ results, root, page, plan: { senders, rooms, seconds, rounds, reads } });
} finally {
  rmSync(folder, { recursive: true, force: true });
}
