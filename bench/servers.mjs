// Processes under measurement: started, waited for, ended by their ids, and what they use.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, readdirSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { stripVTControlCharacters } from "node:util";

/** Every server that runs now. */
const running = new Set();

// Whatever ends this program, an interrupt too: no server outlives it.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.once(signal, () => {
    for (const child of running) child.kill("SIGTERM");
    process.exit(130);
  });
}
process.once("exit", () => {
  for (const child of running) child.kill("SIGTERM");
});

/**
 * Starts a program and waits until its lines have said everything that is asked for.
 *
 * @param {string[]} command the program and its arguments
 * @param {Record<string, RegExp>} wanted what is asked for; group `value` of each is answered, of the ones whose
 * name ends in `s` every one that was said
 */
export async function start([program, ...args], wanted, { env = {}, within = 30_000 } = {}) {
  const child = spawn(program, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env },
  });
  running.add(child);
  child.once("exit", () => running.delete(child));
  const last = [];
  const said = {};
  const told = new Promise((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      // Read to the end: a server must never wait for its own log.
      createInterface(stream).on("line", (line) => {
        const text = stripVTControlCharacters(line);
        if (last.push(text) > 20) last.shift();
        for (const [name, pattern] of Object.entries(wanted)) {
          const value = pattern.exec(text)?.groups.value;
          if (value === undefined) continue;
          if (name.endsWith("s")) (said[name] ??= []).push(value);
          else said[name] ??= value;
        }
        if (Object.keys(wanted).every((name) => name in said)) resolve();
      });
    }
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`${program} ended with ${code}:\n${last.join("\n")}`)));
  });
  // Its end is no fault once it has said everything.
  told.catch(() => {});
  const late = sleep(within, undefined, { ref: false }).then(() => {
    throw new Error(`${program} did not say that it is ready:\n${last.join("\n")}`);
  });
  late.catch(() => {});
  try {
    await Promise.race([told, late]);
    return { child, said };
  } catch (error) {
    await stop(child);
    throw error;
  }
}

/** Asks the process to end, and ends it if it does not. */
export async function stop(child, within = 10_000) {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const exit = once(child, "exit");
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), within);
  await exit;
  clearTimeout(timer);
}

/** One run of the generator; its report, also when that names faults. */
export async function load(program, args) {
  const child = spawn(program, ["load", ...args], { stdio: ["ignore", "pipe", "inherit"] });
  running.add(child);
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (part) => (text += part));
  try {
    await once(child, "close");
  } finally {
    running.delete(child);
  }
  if (!text) throw new Error(`vestibule load ${args.join(" ")} gave no report`);
  return JSON.parse(text);
}

const stat = (pid) => {
  const text = readFileSync(`/proc/${pid}/stat`, "utf8");
  const [state, parent, ...rest] = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return { name: text.slice(text.indexOf("(") + 1, text.lastIndexOf(")")), state, parent: Number(parent), rest };
};

/** Every process below one, by id. */
export function below(root) {
  const parents = new Map();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      parents.set(Number(name), stat(name).parent);
    } catch {
      // It ended meanwhile.
    }
  }
  const found = [root];
  for (const pid of found) {
    for (const [child, parent] of parents) if (parent === pid) found.push(child);
  }
  return found.slice(1);
}

/** CPU seconds of a process and of its children that have ended; 0 when it is gone. */
export function cpu(pid) {
  try {
    const { rest } = stat(pid);
    // utime, stime, cutime and cstime are fields 14 to 17; `rest` begins with the fifth. Ticks of 10 ms.
    return rest.slice(9, 13).reduce((sum, ticks) => sum + Number(ticks), 0) / 100;
  } catch {
    return 0;
  }
}

/** The words with which a process was started. */
export const words = (pid) => readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").filter(Boolean);

/** CPU seconds of the whole machine that were not idle. */
export function busy() {
  const [user, nice, system, , , irq, softirq, steal] = readFileSync("/proc/stat", "utf8")
    .split("\n")[0]
    .trim()
    .split(/\s+/)
    .slice(1)
    .map(Number);
  return (user + nice + system + irq + softirq + steal) / 100;
}
