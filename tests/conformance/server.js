// The server under test: `examples/conformance`, started on a free port, or one that runs already.
//
// CONFORMANCE_COMMAND  what to start; `--port 0` and, for raw Engine.IO, `--engine-only` are added.
//                      It prints `listening ADDRESS`. Default: the example, as cargo built it.
// CONFORMANCE_URL      one that runs already, e.g. http://127.0.0.1:3000; nothing is started then.

import { spawn } from "node:child_process";
import { statSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const START_MS = 10_000;
const root = fileURLToPath(new URL("../../", import.meta.url));

function built() {
  const target = process.env.CARGO_TARGET_DIR ?? `${root}target`;
  const places = ["release", "debug"].map((profile) => `${target}/${profile}/examples/conformance`);
  const age = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const [newest] = places.sort((a, b) => age(b) - age(a));
  if (age(newest) > 0) return `'${newest}'`;
  throw new Error(`no example at ${places.join(" or ")}: cargo build --release --example conformance`);
}

/** Starts it; answers `{url, stop}`. */
export async function start(options = []) {
  if (process.env.CONFORMANCE_URL) return { url: process.env.CONFORMANCE_URL, stop() {} };
  const command = process.env.CONFORMANCE_COMMAND ?? built();
  const line = `exec ${command} --port 0 ${options.join(" ")}`;
  const child = spawn("/bin/sh", ["-c", line], { stdio: ["ignore", "pipe", "inherit"] });
  const address = await new Promise((resolve, reject) => {
    const late = setTimeout(() => {
      child.kill("SIGKILL");
      reject(new Error(`no \`listening ADDRESS\` from ${command}`));
    }, START_MS);
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`${command} ended with ${code}`)));
    createInterface({ input: child.stdout }).on("line", (text) => {
      const [, found] = text.match(/listening (?:http:\/\/)?([\w.:[\]]+:\d+)/) ?? [];
      if (!found) return;
      clearTimeout(late);
      resolve(found);
    });
  });
  child.removeAllListeners("exit");
  const gone = new Promise((resolve) => child.once("exit", resolve));
  return {
    url: `http://${address}`,
    async stop() {
      child.kill("SIGTERM");
      const impatient = setTimeout(() => child.kill("SIGKILL"), 3000);
      await gone;
      clearTimeout(impatient);
    },
  };
}
