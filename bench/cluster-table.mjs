// Turns what bench/cluster.mjs measured into the cluster's section of docs/BENCHMARKS.md.

import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { cpus, release, totalmem, type } from "node:os";

import { counted, histogram } from "./metrics.mjs";
import { fixed, median, table, whole } from "./table.mjs";

const BEGIN = "<!-- cluster: written by bench/cluster.mjs -->";
const END = "<!-- end of cluster -->";
const [TARGET_RATE, TARGET_MS, READS_MS] = [1_000, 50, 200];

const of = (runs, pick) => median(runs.map(pick));
const three = (runs, name) =>
  ["p50_ms", "p99_ms", "p999_ms"].map((at) => fixed(of(runs, ({ report }) => report[name]?.[at]), 1)).join(" / ");
const range = (runs, pick) => {
  const values = runs.map(pick);
  return `${fixed(Math.min(...values), 1)} to ${fixed(Math.max(...values), 1)}`;
};
/** Pairs of a rate and its runs, in the order they were measured. */
const byRate = (runs) => {
  const groups = new Map();
  for (const run of runs) groups.set(run.rate, [...(groups.get(run.rate) ?? []), run]);
  return [...groups];
};

const faults = (runs) => {
  const sum = (pick) => runs.reduce((total, { report }) => total + pick(report), 0);
  const main = ["lost", "doubled", "misordered"].map((name) => sum(({ check }) => check[name]));
  const count = (reasons) => Object.values(reasons).reduce((total, n) => total + n, 0);
  const others = {
    "order differs": sum(({ check }) => check.disordered_members),
    stalled: sum(({ stalled }) => stalled),
    unacknowledged: sum(({ unacknowledged }) => unacknowledged),
    refused: sum(({ refused }) => count(refused)),
    "ended early": sum(({ parted }) => count(parted)),
  };
  const named = Object.entries(others).filter(([, n]) => n > 0);
  return [main.join(" / "), ...named.map(([name, n]) => `${n} ${name}`)].join(", ");
};

const latency = (runs) =>
  table(
    ["sent/s", "arrived/s", "seen on another node p50 / p99 / p99.9 ms", "p99 of the rounds", "seen by any member", "acknowledged", "generator's own lag", "lost / doubled / misordered", "load average"],
    byRate(runs).map(([rate, own]) => [
      whole(rate),
      whole(of(own, ({ report }) => report.events / report.seconds)),
      three(own, "elsewhere"),
      range(own, ({ report }) => report.elsewhere.p99_ms),
      three(own, "delivery"),
      three(own, "ack"),
      three(own, "send_lag"),
      faults(own),
      range(own, ({ loads }) => Math.max(...loads)),
    ]),
  );

/** CPU by process: cores, and per event. */
const usage = (runs) => {
  const groups = byRate(runs);
  const names = Object.keys(runs[0].cores);
  const cell = (own, name) => {
    const cores = of(own, (run) => run.cores[name]);
    const each = (1e6 * cores) / of(own, ({ report }) => report.events / report.seconds);
    return `${fixed(cores)} (${whole(each)})`;
  };
  return table(
    ["cores (CPU µs per event)", ...groups.map(([rate]) => `${whole(rate)}/s`)],
    names.map((name) => [name, ...groups.map(([, own]) => cell(own, name))]),
  );
};

const DELIVERY = "vestibule_delivery_stage_seconds";
const STAGES = [
  ["log: node to Kafka's confirmation", "vestibule_eventlog_append_seconds", 'lane="ordinary"'],
  ["log's time of the record to the pump", DELIVERY, 'stage="fetched"'],
  ["pump: waits for its shard's turn", DELIVERY, 'stage="queued"'],
  ["apply: round trip to the shard, of the batch", DELIVERY, 'stage="applied"'],
  ["log's time of the record to published", "vestibule_delivery_seconds", ""],
  ["event's own time to members' outboxes", "vestibule_delivery_shown_seconds", ""],
  ["timeline record: node to Kafka's confirmation", "vestibule_eventlog_append_seconds", 'lane="patient"'],
  ["settled: applied to durable in `timeline`", DELIVERY, 'stage="settled"'],
  ["a commit of the pump", DELIVERY, 'stage="committed"'],
  ["archive: record in `timeline` to PostgreSQL", DELIVERY, 'stage="archived"'],
  ["a call to PostgreSQL", "vestibule_postgres_call_seconds", ""],
];

const [APPLIED, SHOWN] = [3, 5];

/** Where the time goes: mean and p99 of each part, in milliseconds. */
const stages = (runs) => {
  const groups = byRate(runs);
  const seen = groups.map(([, own]) =>
    own.map(({ before, after }) => {
      const [from, to] = [new Map(before), new Map(after)];
      return STAGES.map(([, metric, label]) => histogram(from, to, metric, label));
    }),
  );
  const figure = (rounds, stage) =>
    `${fixed(median(rounds.map((all) => all[stage].meanMs)), 1)} / ${fixed(median(rounds.map((all) => all[stage].at(0.99))), 1)}`;
  const rows = STAGES.map(([name], stage) => [name, ...seen.map((rounds) => figure(rounds, stage))]);
  const ends = (name) => groups.map(([, own]) => `${fixed(of(own, ({ report }) => report[name].mean_ms), 1)} / ${fixed(of(own, ({ report }) => report[name].p99_ms), 1)}`);
  rows.unshift(["**sent to seen, any member (generator)**", ...ends("delivery")], ["**sent to acknowledged (generator)**", ...ends("ack")]);
  const mean = (rounds, stage) => median(rounds.map((all) => all[stage].meanMs));
  const rest = groups.map(([, own], n) => fixed(of(own, ({ report }) => report.delivery.mean_ms) - mean(seen[n], SHOWN), 1));
  rows.push(["the rest of the mean: generator, HAProxy, sockets, both ways", ...rest]);
  const batches = groups.map(([, own], n) => {
    const applied = of(own, ({ before, after }) => counted(new Map(before), new Map(after), "vestibule_delivery_applied_total"));
    return fixed(applied / median(seen[n].map((all) => all[APPLIED].count)), 1);
  });
  rows.push(["records in one round trip of apply, mean", ...batches]);
  return table(["mean / p99 ms", ...groups.map(([rate]) => `${whole(rate)}/s`)], rows);
};

const answers = (runs) => {
  const kinds = runs[0].report.kinds.map(({ kind }) => {
    const at = (name) => of(runs, ({ report }) => report.kinds.find((one) => one.kind === kind)?.latency[name]);
    const figures = ["p50_ms", "p99_ms", "p999_ms"].map((name) => fixed(at(name)));
    return [kind, whole(at("count")), figures.join(" / "), `p99 ≤ ${READS_MS} ms: ${at("p99_ms") <= READS_MS ? "met" : "missed"}`];
  });
  const sums = { lookups: 0, hits: 0 };
  for (const { report } of runs) {
    for (const use of Object.values(report.caches)) for (const name of Object.keys(sums)) sums[name] += use[name];
  }
  const failed = runs.flatMap(({ report }) => Object.entries(report.failed)).map(([what, n]) => `${n} ${what}`);
  return [
    table(["request", "answers per round", "p50 / p99 / p99.9 ms", "target"], kinds),
    `Caches (in the process and on the shards) answered ${fixed((100 * sums.hits) / sums.lookups, 1)} % of ` +
      `${whole(sums.lookups)} look-ups. Load average ${range(runs, ({ loads }) => Math.max(...loads))}. ` +
      `Faults: ${failed.join(", ") || "none"}.`,
  ].join("\n\n");
};

const verdict = (runs) => {
  const met = byRate(runs).filter(([, own]) => of(own, ({ report }) => report.elsewhere.p99_ms) < TARGET_MS && faults(own) === "0 / 0 / 0");
  const best = Math.max(0, ...met.map(([rate]) => rate));
  const target = `at least ${whole(TARGET_RATE)} durable events/s with p99 under ${TARGET_MS} ms`;
  return `Target, ${target}: ${best >= TARGET_RATE ? "met" : "missed"}; the highest rate here with such a p99 is ${whole(best)}/s.`;
};

/** Prints the tables and puts them into `page`, if there is one. */
export function write({ results, root, page, plan }) {
  const first = (program, args) => execFileSync(program, args, { cwd: root, encoding: "utf8" }).trim();
  const facts = {
    date: new Date().toISOString().slice(0, 10),
    machine: `${cpus().length} cores (${cpus()[0].model.trim()}), ${Math.round(totalmem() / 2 ** 30)} GiB, ${type()} ${release()}; everything on it, the generator too`,
    commit: first("git", ["rev-parse", "--short", "HEAD"]),
    run: `${plan.senders} senders in ${plan.rooms} rooms over three nodes, ${plan.rounds} rounds of ${plan.seconds} s at each rate, medians; \`${["make bench-cluster", ...results.args].join(" ")}\``,
  };
  const parts = [
    Object.entries(facts).map(([name, value]) => `- ${name}: ${value}`).join("\n"),
    verdict(results.rates),
    "### Latency by rate",
    latency(results.rates),
    "### Where the time goes",
    stages(results.rates),
    "### CPU",
    usage(results.rates),
  ];
  if (results.reads.length) parts.push(`### Reads over REST, ${plan.reads}/s through the balancer`, answers(results.reads));
  const text = parts.join("\n\n");
  process.stdout.write(`${text}\n`);
  if (page) {
    const [before, rest] = readFileSync(page, "utf8").split(BEGIN);
    writeFileSync(page, `${before}${BEGIN}\n\n${text}\n\n${END}${rest.split(END)[1]}`);
  }
}
