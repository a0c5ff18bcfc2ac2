// That the checker finds what is broken on purpose: `make check-chaos-mutations`.
//
// Each mistake (src/lifecycle/mutation.rs) is made by a program that was built with the feature `mutations`, under
// faults that it cannot survive. A run that finds nothing wrong is the failure here; so is one that finds something
// when no mistake is made.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    program: { type: "string", default: "target/debug/vestibule-mutations" },
    servers: { type: "string", default: "target/debug/examples/servers" },
    seconds: { type: "string", default: "20" },
    only: { type: "string" },
  },
});

/** A mistake, what happens to the cluster, and what has to be found. */
const CASES = [
  { mutation: "none", scenario: "bus", faults: "lose events on the bus", finds: [] },
  { mutation: "repair-off", scenario: "bus", faults: "lose events on the bus", finds: ["shown", "lost"] },
  { mutation: "dedup-off", scenario: "links", faults: "slow a link down", finds: ["shown", "history"] },
  { mutation: "ack-before-log", scenario: "log", faults: "the broker is away", finds: ["lost", "history"] },
];

let failures = 0;
const folder = await mkdtemp(join(tmpdir(), "vestibule-mutations-"));
for (const one of CASES.filter(({ mutation }) => !values.only || values.only === mutation)) {
  if (!await isCaught(one)) failures += 1;
}
await rm(folder, { recursive: true });
process.exit(failures === 0 ? 0 : 1);

async function isCaught({ mutation, scenario, faults, finds }) {
  const file = join(folder, `${mutation}.jsonl`);
  const args = [
    join(import.meta.dirname, "run.mjs"), "--scenario", scenario, "--faults", faults, "--seed", "1",
    "--seconds", values.seconds, "--settle", "15", "--program", values.program, "--servers", values.servers,
    "--report", file, "--forget",
  ];
  const env = { ...process.env, VESTIBULE_MUTATION: mutation };
  const child = spawn(process.execPath, args, { env, stdio: ["ignore", "ignore", "inherit"] });
  await once(child, "exit");
  const text = await readFile(file, "utf8").catch(() => undefined);
  const kinds = text && JSON.parse(text).violations.kinds;
  const missed = kinds ? finds.filter((kind) => !kinds[kind]) : ["a report"];
  const isRight = missed.length === 0 && (finds.length > 0 || Object.keys(kinds).length === 0);
  console.log(`${mutation}: ${isRight ? "as it should be" : "WRONG"}, found ${JSON.stringify(kinds)}`);
  return isRight;
}
