// Measures Vestibule and Node's socket.io with one generator in one run, turn by turn, and writes
// the table in docs/BENCHMARKS.md.
//
//   node bench/run.mjs [--rounds 3] [--only f1k-max,echo] [--servers vestibule,node]
//                      [--duration 10s] [--profile dist] [--no-write]
//
// Each round of each case gets a fresh server process on a free loopback port; it is ended by its
// process id, also when this program fails or is interrupted. Figures are medians over the rounds,
// faults are summed.

import { execFileSync } from "node:child_process";
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { cases, servers } from "./cases.mjs";
import { load, start, stop } from "./servers.mjs";
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

async function measure(name, one) {
  // Beside the build, not in a temporary folder: that may be memory, where nothing needs flushing.
  const data = mkdtempSync(join(target, "bench-data-"));
  const server = servers({ binaries, data })[name];
  let child;
  try {
    const { said, ...started } = await start(server.command, server.ready, { env: server.env });
    child = started.child;
    const args = [...one.load, "--url", `ws://${said.address}`, "--dialect", server.dialect];
    if (one.load[0] === "reads") args.push("--operations", `http://${said.operations}`);
    args.push("--duration", options.duration ?? one.duration, "--pid", `${child.pid}`, "--json");
    if (server.token) {
      const file = join(data, "load-token");
      writeFileSync(file, execFileSync(server.token[0], server.token.slice(1)), { mode: 0o600 });
      args.push("--token-file", file);
    }
    return await load(join(binaries, "vestibule"), args);
  } finally {
    if (child) await stop(child);
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
