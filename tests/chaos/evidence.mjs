// Writes docs/EVIDENCE.md from the reports of runs: node tests/chaos/evidence.mjs REPORTS.jsonl "what was run on"
//
// Reports are the lines that `run.mjs --report FILE` adds to a file, one for each run.

import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { join } from "node:path";

const [file, note = ""] = process.argv.slice(2);
if (!file) {
  console.error("the file of reports is expected");
  process.exit(64);
}
const root = join(import.meta.dirname, "../..");
const runs = readFileSync(file, "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line));
const sum = (values) => values.reduce((total, value) => total + value, 0);
const total = (of) => sum(runs.map(of)).toLocaleString("en");
const faultsOf = ({ faults }) => sum(Object.values(faults));
const table = (head, rows) => [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
const counted = (of) => {
  const all = {};
  for (const run of runs) for (const [name, count] of Object.entries(of(run))) all[name] = (all[name] ?? 0) + count;
  return Object.entries(all).toSorted(([a], [b]) => a.localeCompare(b));
};
const commit = execFileSync("git", ["rev-parse", "--short", "HEAD"], { cwd: root, encoding: "utf8" }).trim();

const perRun = runs.map((run) => [
  run.scenario, run.seed, `${run.seconds} s`, faultsOf(run), run.sent, run.acked, run.sentAgain, run.shown, run.archived,
  run.missed, run.recovered, run.reloadedRooms, sum(Object.values(run.disconnects)), run.receiptMs?.p50 ?? "–",
  run.backMs?.max ?? "–", `**${run.violations.count}**`,
]);

const wrong = runs.flatMap(({ scenario, seed, violations }) =>
  Object.entries(violations.kinds).map(([kind, count]) => [scenario, seed, kind, count]));

writeFileSync(join(root, "docs/EVIDENCE.md"), `# What was counted while everything broke

Written by \`tests/chaos/evidence.mjs\` from the reports of \`make chaos\` (commit ${commit}, ${new Date().toISOString().slice(0, 10)}, ${cpus().length} cores,
${Math.round(totalmem() / 2 ** 30)} GiB${note ? `; ${note}` : ""}). \`make chaos ARGS='--scenario NAME --seed SEED --seconds SECONDS'\` repeats a run: the seed decides which faults
happen, in which order and to whom; the moment at which a packet meets one it does not.

A run: three nodes behind HAProxy without stickiness, two Redis shards, Kafka, PostgreSQL; members on the stock Socket.IO
client (WebSocket, polling, and the upgrade), each in two of six rooms, all sending. Every link of a node to a server leads through a proxy, and
that of every third member to the balancer. Every fifth member sends each message again after it was acknowledged.

Judged at the end: no acknowledged event is missing at any member, in history or in the archive; none is there twice; all members of a
room, history and the archive have one order, with the same places; each sender's order is kept; a session that was recovered has no hole;
nobody lost a connection but by a node's or a link's fault; nobody was told to reload a room unless a Redis server had lost
writes; everybody sees who is here; no node ended or panicked by itself.

## Sums

${table(["runs", "faults", "sent", "acknowledged", "shown", "archived", "sent again", "violations"], [[
    runs.length, total(faultsOf), total((run) => run.sent), total((run) => run.acked), total((run) => run.shown),
    total((run) => run.archived), total((run) => run.sentAgain), `**${total((run) => run.violations.count)}**`,
  ]])}

## Runs

${table([
    "scenario", "seed", "time", "faults", "sent", "acked", "sent again", "shown", "archived", "missed and brought", "recovered",
    "rooms reloaded", "connections lost", "receipt p50, ms", "longest away, ms", "violations",
  ], perRun)}

"Missed and brought" are events that came with a join after a lost connection; "longest away" is from the loss of a connection until its client had
everything again. A busy machine stood still for a second or more ${total((run) => run.stalls ?? 0)} times; connections that were lost then are
not counted against a node. Events that a proxy took out of the bus: ${total((run) => run.dropped)}.

## Violations

${wrong.length === 0 ? "None." : table(["scenario", "seed", "kind", "times"], wrong)}

## Faults

${table(["what", "times"], counted((run) => run.faults))}

## Connections

${table(["why clients lost theirs", "times"], counted((run) => run.disconnects))}

## The checker itself

\`make check-chaos-mutations\` builds a program that breaks a promise on purpose and expects that a run of it fails:

${table(["mistake", "under", "found as"], [
    ["none", "events lost on the bus", "nothing"],
    ["what the bus lost is not read again", "events lost on the bus", "members with holes and missing events"],
    ["a retry under the same client id is another event", "a slow link, members who send again", "events shown and kept twice"],
    ["the sender is answered before the log has the event", "a broker that is away for longer than senders wait", "acknowledged events that nobody has"],
  ])}
`);
