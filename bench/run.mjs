// Measures Vestibule and Node's socket.io with one generator in one run, turn by turn, and writes
// the table in docs/BENCHMARKS.md.
//
//   node bench/run.mjs [--rounds 3] [--only f1k-max,echo] [--servers vestibule,node]
//                      [--duration 10s] [--profile dist] [--no-write]
//
// Each round of each case gets a fresh server process on a free loopback port; it is ended by its
// process id. Figures are medians over the rounds, faults are summed.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs, stripVTControlCharacters } from "node:util";

import { cases, servers } from "./cases.mjs";
import { write } from "./table.mjs";

const root = join(import.meta.dirname, "..");
const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    only: { type: "string" },
    servers: { type: "string", default: "vestibule,node,gateway" },
    duration: { type: "string" },
    profile: { type: "string", default: "dist" },
    "no-write": { type: "boolean", default: false },
  },
});
const listed = (text) => (text ? text.split(",") : undefined);
const chosen = {
  cases: cases.filter(({ name }) => listed(options.only)?.includes(name) ?? true),
  servers: listed(options.servers),
};
const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");
const binaries = join(target, options.profile === "dev" ? "debug" : options.profile);

function build() {
  const run = (program, args, cwd = root) => execFileSync(program, args, { cwd, stdio: "inherit" });
  if (chosen.servers.includes("node")) {
    // bufferutil ships its native part built; no script has to run.
    run("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], join(root, "bench", "node"));
  }
  const example = chosen.servers.includes("vestibule") ? ["--example", "relay"] : [];
  run("cargo", ["build", "--locked", "--profile", options.profile, "--bin", "vestibule", ...example]);
}

/** Starts a server and answers its addresses once it says it is listening for clients. */
async function start({ command: [program, ...args], ready, env, operations }) {
  const all = { ...process.env, ...env };
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], env: all });
  const last = [];
  let own, other;
  const address = new Promise((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      // Read to the end: a server must never wait for its own log.
      createInterface(stream).on("line", (line) => {
        const text = stripVTControlCharacters(line);
        if (last.push(text) > 20) last.shift();
        other = operations?.exec(text)?.groups.address ?? other;
        own = ready.exec(text)?.groups.address ?? own;
        if (own && (other || !operations)) resolve(own);
      });
    }
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`${program} ended with ${code}:\n${last.join("\n")}`)));
  });
  const late = sleep(30_000, undefined, { ref: false }).then(() => {
    throw new Error(`${program} did not say that it is listening:\n${last.join("\n")}`);
  });
  try {
    return { child, address: await Promise.race([address, late]), operations: other };
  } catch (error) {
    await stop(child);
    throw error;
  }
}

/** Asks the process to end, and ends it if it does not. */
async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const exit = once(child, "exit");
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), 10_000);
  await exit;
  clearTimeout(timer);
}

/** One run of the generator; its report, also when that names faults. */
async function load(args) {
  const child = spawn(join(binaries, "vestibule"), ["load", ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (part) => (text += part));
  await once(child, "close");
  if (!text) throw new Error(`vestibule load ${args.join(" ")} gave no report`);
  return JSON.parse(text);
}

async function measure(name, one) {
  // Beside the build, not in a temporary folder: that may be memory, where nothing needs flushing.
  const data = mkdtempSync(join(target, "bench-data-"));
  const server = servers({ binaries, data })[name];
  const { child, address, operations } = await start(server);
  try {
    const args = [...one.load, "--url", `ws://${address}`, "--dialect", server.dialect];
    if (one.load[0] === "reads") args.push("--operations", `http://${operations}`);
    args.push("--duration", options.duration ?? one.duration, "--pid", `${child.pid}`, "--json");
    if (server.token) {
      const file = join(data, "load-token");
      writeFileSync(file, execFileSync(server.token[0], server.token.slice(1)), { mode: 0o600 });
      args.push("--token-file", file);
    }
    return await load(args);
  } finally {
    await stop(child);
    rmSync(data, { recursive: true, force: true });
  }
}

build();
mkdirSync(target, { recursive: true });
const raw = join(target, "bench-reports.jsonl");
const results = [];
for (const one of chosen.cases) {
  const sides = one.servers.filter((name) => chosen.servers.includes(name));
  const reports = Object.fromEntries(sides.map((name) => [name, []]));
  for (let round = 1; round <= Number(options.rounds); round += 1) {
    for (const name of sides) {
      process.stderr.write(`${one.name}, round ${round}: ${name}\n`);
      const report = await measure(name, one);
      appendFileSync(raw, `${JSON.stringify({ case: one.name, server: name, round, report })}\n`);
      reports[name].push(report);
    }
  }
  if (sides.length > 0) results.push({ ...one, reports });
}
const titles = Object.entries(servers({ binaries, data: "" })).map(([name, { title }]) => [name, title]);
const page = options["no-write"] ? undefined : join(root, "docs", "BENCHMARKS.md");
const isClean = write({ results, titles: Object.fromEntries(titles), root, page, options });
process.exitCode = isClean ? 0 : 1;
