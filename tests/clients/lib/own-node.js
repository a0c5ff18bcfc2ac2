// A node of a test's own: the built program on free ports and a fresh data folder.
//
// VESTIBULE_PROGRAM  the program (required)
//
// It accepts the tokens that are made here, so that a test chooses every claim.

import { execFile, spawn } from "node:child_process";
import { createHmac, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify, stripVTControlCharacters } from "node:util";

const run = promisify(execFile);
const READY_MS = 30_000;
const END_MS = 10_000;
const PROGRAM = process.env.VESTIBULE_PROGRAM;
if (!PROGRAM) {
  console.error("VESTIBULE_PROGRAM is not set: it names the built program");
  process.exit(64);
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const encoded = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** Prints the log's records after a row, a JSON object each. The log is one SQLite file. */
const READ_LOG = `
import json, sqlite3, sys
file, after = sys.argv[1], int(sys.argv[2])
rows = sqlite3.connect(f"file:{file}?mode=ro", uri=True).execute(
    "SELECT log_record.id, name, key, value FROM log_record JOIN log_topic ON log_topic.id = topic"
    " WHERE log_record.id > ? AND name <> 'timeline' ORDER BY log_record.id", (after,))
for row, topic, key, value in rows:
    try: event = json.loads(value)
    except ValueError: event = None
    print(json.dumps({"row": row, "topic": topic, "key": key, "event": event}))
`;

/** Keeps everybody else from writing into a database until its input ends. */
const HOLD = `
import sqlite3, sys
file = sqlite3.connect(sys.argv[1], timeout=10, isolation_level=None)
file.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
file.execute("ROLLBACK")
`;

export class Node {
  #child;
  #ended;
  #secret = randomBytes(32).toString("hex");
  #lines = [];
  /** The log as far as it was read. */
  #records = [];

  constructor(settings) {
    this.folder = mkdtempSync(join(tmpdir(), "vestibule-"));
    this.settings = settings;
  }

  /** Starts one. `settings`: `{"limits.enabled": false}`; `files`: `{name: text}` in `folder`. */
  static async start(settings = {}, files = {}) {
    const node = new Node(settings);
    for (const [name, text] of Object.entries(files)) node.write(name, text);
    try {
      await node.#run();
    } catch (error) {
      await node.stop();
      throw error;
    }
    return node;
  }

  write(name, text) {
    writeFileSync(join(this.folder, name), text);
  }

  async #run() {
    const all = {
      "auth.mode": "token",
      "auth.secret": this.#secret,
      ...this.settings,
    };
    const env = { ...process.env };
    for (const [key, value] of Object.entries(all)) {
      env[`VESTIBULE__${key.toUpperCase().replaceAll(".", "__")}`] = String(value);
    }
    const args = ["serve", "--listen", "127.0.0.1:0", "--operations", "127.0.0.1:0"];
    this.#child = spawn(PROGRAM, [...args, "--data", join(this.folder, "data")], {
      cwd: this.folder,
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#ended = once(this.#child, "exit");
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      createInterface(stream).on("line", (line) => {
        this.#lines.push(stripVTControlCharacters(line));
      });
    }
    await this.until("it listens", () => {
      const address = (name) => this.log.match(`listening name=${name} address=(\\S+)`)?.[1];
      this.url = address("clients") && `http://${address("clients")}`;
      this.operationsUrl = address("operations") && `http://${address("operations")}`;
      return this.url && this.operationsUrl;
    });
    await this.until("it is ready", async () => (await fetch(`${this.operationsUrl}/readyz`)).ok);
  }

  /** What it said so far. */
  get log() {
    return this.#lines.join("\n");
  }

  /** Looks again until there is something. */
  async until(what, look, ms = READY_MS) {
    const end = Date.now() + ms;
    for (;;) {
      const found = await look();
      if (found) return found;
      if (this.#child.exitCode !== null) throw new Error(`the node ended:\n${this.log}`);
      if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
      await pause(20);
    }
  }

  /** A token with these claims; it lasts an hour unless they say otherwise. */
  token(claims) {
    const now = Math.floor(Date.now() / 1000);
    const all = { iat: now, exp: now + 3600, jti: randomBytes(12).toString("hex"), ...claims };
    const signed = `${encoded({ alg: "HS256", typ: "JWT" })}.${encoded(all)}`;
    const signature = createHmac("sha256", this.#secret).update(signed).digest("base64url");
    return `${signed}.${signature}`;
  }

  /** A number of the metrics: the sum of all series of this name whose labels contain `labels`. */
  async metric(name, labels = "") {
    const text = await (await fetch(`${this.operationsUrl}/metrics`)).text();
    const lines = text.split("\n").filter((line) => new RegExp(`^${name}(\\{|\\s)`).test(line));
    const own = lines.filter((line) => line.includes(labels));
    return own.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
  }

  /** What the log holds, as another consumer of it would read it: `{topic, key, event}`. */
  async records() {
    const args = ["-c", READ_LOG, join(this.folder, "data", "vestibule.db")];
    const after = this.#records.at(-1)?.row ?? 0;
    const { stdout } = await run("python3", [...args, String(after)], { maxBuffer: 1 << 28 });
    const found = stdout.split("\n").filter(Boolean).map((line) => JSON.parse(line));
    // Two may have read at once.
    const known = this.#records.at(-1)?.row ?? 0;
    this.#records.push(...found.filter(({ row }) => row > known));
    return this.#records;
  }

  /** Holds the node's file, so that it can write nothing. Answers what lets go of it. */
  async hold() {
    const holder = spawn("python3", ["-c", HOLD, join(this.folder, "data", "vestibule.db")], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const ended = once(holder, "exit");
    const [line] = await Promise.race([once(holder.stdout, "data"), ended]);
    if (!String(line).startsWith("held")) throw new Error("the file cannot be held");
    return async () => {
      holder.stdin.end();
      await ended;
    };
  }

  /** Makes the node read its catalogue again; answers once it said what became of that. */
  async reload() {
    const before = this.#lines.length;
    this.#child.kill("SIGHUP");
    const told = () => this.#lines.slice(before).find((line) => /catalogue/i.test(line));
    return this.until("the node says what became of its catalogue", told);
  }

  async stop() {
    if (this.#child && this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#child.kill("SIGTERM");
      const timer = setTimeout(() => this.#child.kill("SIGKILL"), END_MS);
      await this.#ended;
      clearTimeout(timer);
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}
