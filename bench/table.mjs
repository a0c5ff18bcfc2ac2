// Turns reports into the tables of docs/BENCHMARKS.md: medians, ratios to Node, faults.

import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { cpus, release, totalmem, type } from "node:os";
import { join } from "node:path";

const BEGIN = "<!-- results: written by bench/run.mjs -->";
const END = "<!-- end of results -->";
/** From here on the generator, not the server, may have been the limit. */
const SATURATED_CORES = 0.9;

export const median = (values) => {
  const known = values.filter((value) => value !== undefined && value !== null).sort((a, b) => a - b);
  const middle = known.length >> 1;
  return known.length % 2 ? known[middle] : (known[middle - 1] + known[middle]) / 2;
};
const of = (reports, pick) => median(reports.map(pick));
const spread = (reports, pick) => {
  const values = reports.map(pick);
  const width = (Math.max(...values) - Math.min(...values)) / median(values);
  return `${Math.round(width * 100)} %`;
};
export const whole = (value) => Math.round(value).toLocaleString("en-US");
export const fixed = (value, digits = 2) => (Number.isFinite(value) ? value.toFixed(digits) : "–");
const times = (value) => (Number.isFinite(value) ? `${value.toFixed(value < 10 ? 2 : 1)}x` : "–");
const row = (cells) => `| ${cells.join(" | ")} |`;
export const table = (head, rows) => [row(head), row(head.map(() => "---")), ...rows.map(row)].join("\n");

const faults = (reports) => {
  if (reports[0].scenario === "reads") {
    const failed = reports.flatMap(({ failed }) => Object.entries(failed));
    const text = failed.map(([what, n]) => `${n} ${what}`).join(", ");
    return { isClean: failed.length === 0, text: text || "none" };
  }
  const sum = (pick) => reports.reduce((total, report) => total + pick(report), 0);
  const count = (reasons) => Object.values(reasons).reduce((total, n) => total + n, 0);
  const main = ["lost", "doubled", "misordered"].map((name) => sum(({ check }) => check[name]));
  const others = {
    "order differs": sum(({ check }) => check.disordered_members),
    stray: sum(({ check }) => check.strays),
    stalled: sum(({ stalled }) => stalled),
    unacknowledged: sum(({ unacknowledged }) => unacknowledged),
    foreign: sum(({ foreign }) => foreign),
    refused: sum(({ refused }) => count(refused)),
    "ended early": sum(({ parted }) => count(parted)),
    "never ready": sum(({ opening }) => count(opening.failed)),
  };
  const named = Object.entries(others).filter(([, n]) => n > 0);
  return {
    isClean: main.every((n) => n === 0) && named.length === 0,
    text: [main.join(" / "), ...named.map(([name, n]) => `${n} ${name}`)].join(", "),
  };
};

const perDelivery = ({ server }) => server.us_per_delivery;
const userPerDelivery = ({ server }) => server.user_us_per_delivery;
const perCpu = ({ server }) => server.deliveries_per_cpu_second;
const perSecond = (report) => report.deliveries_per_second;
const latency = (reports, name) =>
  ["p50_ms", "p99_ms", "p999_ms"].map((at) => fixed(of(reports, (report) => report[name]?.[at]))).join(" / ");
const rate = (reports) => {
  const isBound = of(reports, ({ generator }) => generator.cores) > SATURATED_CORES;
  return `${isBound ? "≥ " : ""}${whole(of(reports, perSecond))}`;
};

/** One row for each server of each case; `cells` gets its reports and those of Node. */
const rows = (results, titles, cells) =>
  results.flatMap(({ name, reports }) =>
    Object.entries(reports).map(([server, own], index) => [
      index === 0 ? name : "",
      titles[server],
      ...cells(own, reports.node),
      faults(own).text,
    ]),
  );
const ratio = (own, node, pick) => (node ? times(of(own, pick) / of(node, pick)) : "–");

const idle = (results, titles) => {
  const each = ({ server }) => server.rss_bytes_per_connection;
  return table(
    ["case", "server", "RSS per socket, bytes", "x Node", "spread", "handshake + join, CPU µs", "never ready or ended early"],
    rows(results, titles, (own, node) => [
      whole(of(own, each)),
      ratio(own, node, each),
      spread(own, each),
      whole(of(own, ({ opening }) => opening.cpu_us)),
    ]).map((cells) => [...cells.slice(0, -1), cells.at(-1).replace("0 / 0 / 0", "0").replace("0, ", "")]),
  );
};

const traffic = (results, titles) =>
  table(
    ["case", "server", "deliveries/s", "x Node", "CPU µs per delivery (user)", "deliveries per CPU second", "x Node", "spread", "p50 / p99 / p99.9 ms", "server, generator cores", "lost / doubled / misordered"],
    rows(results, titles, (own, node) => [
      rate(own),
      ratio(own, node, perSecond),
      `${fixed(of(own, perDelivery))} (${fixed(of(own, userPerDelivery))})`,
      whole(of(own, perCpu)),
      ratio(own, node, perCpu),
      spread(own, perCpu),
      latency(own, "delivery"),
      `${fixed(of(own, ({ server }) => server.cores))}, ${fixed(of(own, ({ generator }) => generator.cores))}`,
    ]),
  );

const durable = (results, titles) =>
  table(
    ["case", "server", "messages/s", "deliveries/s", "CPU µs per message", "CPU µs per delivery", "ack p50 / p99 / p99.9 ms", "delivery p50 / p99 / p99.9 ms", "lost / doubled / misordered"],
    rows(results, titles, (own) => [
      whole(of(own, ({ events, seconds }) => events / seconds)),
      rate(own),
      fixed(of(own, ({ server, events }) => ((server.user_seconds + server.system_seconds) * 1e6) / events), 1),
      fixed(of(own, perDelivery)),
      latency(own, "ack"),
      latency(own, "delivery"),
    ]),
  );

/** The kinds of a read mix and its caches, with what each should keep to. */
const reads = (results) => {
  const reports = results.flatMap((one) => Object.values(one.reports).flat());
  const met = (isMet, target) => `${target}: ${isMet ? "met" : "missed"}`;
  const kinds = reports[0].kinds.map(({ kind, target_p99_ms: target }) => {
    const at = (name) =>
      of(reports, ({ kinds }) => kinds.find((one) => one.kind === kind)?.latency[name]);
    const figures = ["p50_ms", "p99_ms", "p999_ms"].map((name) => fixed(at(name)));
    const verdict = target ? met(at("p99_ms") <= target, `p99 ≤ ${target} ms`) : "";
    return [kind, whole(at("count")), figures.join(" / "), verdict];
  });
  const uses = reports.flatMap(({ caches }) => Object.entries(caches));
  const names = [...new Set(uses.map(([name]) => name))].sort();
  const part = (chosen) => {
    const sum = (member) => chosen.reduce((total, [, use]) => total + use[member], 0);
    return { lookups: sum("lookups"), ratio: (100 * sum("hits")) / sum("lookups") };
  };
  const caches = names.map((name) => [name, part(uses.filter(([own]) => own === name)), ""]);
  const together = part(uses);
  caches.push(["together", together, met(together.ratio >= 85, "≥ 85 %")]);
  const cores = fixed(of(reports, (report) => report.server_cores));
  return [
    table(["request", "answers per round", "p50 / p99 / p99.9 ms", "target"], kinds),
    table(
      ["cache", "look-ups", "answered by the cache", "target"],
      caches.map(([name, { lookups, ratio }, target]) => [
        name,
        whole(lookups),
        `${fixed(ratio, 1)} %`,
        target,
      ]),
    ),
    `Server: ${cores} cores. Faults: ${faults(reports).text}.`,
  ].join("\n\n");
};

const machine = (root, rounds, sample) => {
  const first = (program, args) => execFileSync(program, args, { cwd: root, encoding: "utf8" }).trim();
  const manifest = readFileSync(join(root, "Cargo.toml"), "utf8");
  const lock = JSON.parse(readFileSync(join(root, "bench", "node", "package-lock.json"), "utf8"));
  const locked = (name) => `${name} ${lock.packages[`node_modules/${name}`].version}`;
  const facts = {
    date: new Date().toISOString().slice(0, 10),
    machine: `${cpus().length} cores (${cpus()[0].model.trim()}), ${Math.round(totalmem() / 2 ** 30)} GiB, ${type()} ${release()}`,
    Vestibule: `${/^version = "(.*)"/m.exec(manifest)[1]}, commit ${first("git", ["rev-parse", "--short", "HEAD"])}, ${first("rustc", ["--version"])}`,
    Node: `${process.version}, ${["socket.io", "engine.io", "ws", "bufferutil"].map(locked).join(", ")}`,
    run: `${rounds} rounds, servers in turn, a fresh process each; ${fixed(sample.seconds, 0)} s measured`,
  };
  return Object.entries(facts).map(([name, value]) => `- ${name}: ${value}`).join("\n");
};

/** Prints the tables and puts them into `page`; false if any server made a mistake. */
export function write({ results, titles, root, page, options }) {
  const kind = (wanted) => results.filter(({ load: [scenario] }) => scenario === wanted);
  const measured = results.flatMap(({ reports }) => Object.values(reports).flat());
  if (measured.length === 0) throw new Error("no case was measured: look at --only and --servers");
  const described = results.map(({ name, what }) => `- \`${name}\`: ${what}.`).join("\n");
  const sample = measured.find(({ scenario }) => !["idle", "reads"].includes(scenario)) ?? measured[0];
  const parts = [machine(root, options.rounds, sample), described];
  if (kind("idle").length) parts.push("### Idle memory", idle(kind("idle"), titles));
  const live = [...kind("fanout"), ...kind("echo")];
  if (live.length) parts.push("### Fan-out and echo, relay", traffic(live, titles));
  if (kind("durable").length) parts.push("### Durable messages, gateway", durable(kind("durable"), titles));
  if (kind("reads").length) parts.push("### Reads over REST, gateway", reads(kind("reads")));
  const text = parts.join("\n\n");
  process.stdout.write(`${text}\n`);
  if (page) {
    const [before, rest] = readFileSync(page, "utf8").split(BEGIN);
    writeFileSync(page, `${before}${BEGIN}\n\n${text}\n\n${END}${rest.split(END)[1]}`);
  }
  return measured.every((report) => faults([report]).isClean);
}
