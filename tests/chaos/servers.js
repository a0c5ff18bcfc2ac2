// The servers and nodes of a run: the program `examples/servers.rs`, told what to do line by line.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

const run = promisify(execFile);
const READY_MS = 60_000;
const LOOK_EVERY_MS = 50;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Servers {
  #child;
  #waiting = [];
  #errors = "";
  #isOver = false;

  /** Starts `{program, shards, sentinels, brokers}`; `ports` tells where they are. */
  static async start(command, asked) {
    const servers = new Servers();
    servers.#child = spawn(command, [JSON.stringify(asked)], { stdio: ["pipe", "pipe", "pipe"] });
    createInterface(servers.#child.stdout).on("line", (line) => servers.#waiting.shift()?.resolve(JSON.parse(line)));
    servers.#child.stderr.on("data", (bytes) => { servers.#errors += bytes; });
    servers.#child.on("exit", () => servers.#ended());
    servers.#child.on("error", () => servers.#ended());
    servers.#child.stdin.on("error", () => {});
    servers.ports = await servers.#answer();
    return servers;
  }

  /** Asks for something and waits until it is done. In the order of the calls. */
  ask(verb, what, n = 0, more = {}) {
    const answer = this.#answer();
    this.#child.stdin.write(`${JSON.stringify({ do: verb, what, n, ...more })}\n`);
    return answer;
  }

  async startNodes(nodes) {
    const told = await this.ask("nodes", "", 0, { nodes });
    this.url = told.url;
    this.nodes = told.nodes;
  }

  async isReady(n) {
    const answer = await fetch(`${this.nodes[n].operations}/readyz`, { signal: AbortSignal.timeout(1_000) })
      .catch(() => undefined);
    return answer?.ok === true;
  }

  /** Waits until a node serves again. */
  async ready(n) {
    const end = Date.now() + READY_MS;
    while (!await this.isReady(n)) {
      if (Date.now() > end) throw new Error(`node ${n} is not ready again`);
      await pause(LOOK_EVERY_MS);
    }
  }

  /** A number of a node's metrics, summed over its series that carry `label`; undefined when it does not answer. */
  async metric(n, name, label = "") {
    const answer = await fetch(`${this.nodes[n].operations}/metrics`, { signal: AbortSignal.timeout(1_000) })
      .then((response) => response.text()).catch(() => undefined);
    if (answer === undefined) return undefined;
    const lines = answer.split("\n").filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
      .filter((line) => line.includes(label));
    return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
  }

  /** What the archive holds of these rooms. */
  async archive(rooms) {
    const text = `SELECT room, epoch, seq, event_id FROM archive_event WHERE kind = 'MESSAGE_SENT' AND room IN (${
      rooms.map((room) => `'conversation:${room}'`).join(",")}) ORDER BY room, epoch, seq`;
    const where = ["-h", "127.0.0.1", "-p", String(this.ports.postgres), "-U", "vestibule", "vestibule"];
    const { stdout } = await run("psql", ["-X", "-A", "-t", "-F", " ", ...where, "-c", text], { maxBuffer: 1 << 28 });
    const held = Object.fromEntries(rooms.map((room) => [room, []]));
    for (const line of stdout.split("\n").filter(Boolean)) {
      const [room, epoch, seq, id] = line.split(" ");
      held[room.slice("conversation:".length)].push({ epoch: Number(epoch), seq: Number(seq), id });
    }
    return held;
  }

  /** Ends all of them. */
  async close() {
    const ended = once(this.#child, "exit");
    this.#isOver = true;
    this.#child.stdin.end();
    if (this.#child.exitCode === null) await ended;
  }

  #answer() {
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  #ended() {
    if (this.#isOver) return;
    const error = new Error(`the servers have ended: ${this.#errors.slice(-2_000)}`);
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }
}
