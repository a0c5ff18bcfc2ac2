// Clients that are told what to do, line by line, by a test that also stops and starts the node.
//
//   node scenario.js            sockets on the official client
//   node scenario.js --browser  people at the page in Chromium
//
// Reads one command a line from standard input, in order, and answers each with one line of JSON:
// `{"ok":true,...}` or `{"ok":false,"error":"..."}`. Ends at `quit` or at the end of the input, with
// exit code 0 if every command succeeded. Environment: see lib/node.js.
//
// Sockets:
//   connect NAME CONVERSATION [websocket|polling|upgrade]   reconnects by itself from then on
//   write NAME COUNT PREFIX     starts sending PREFIX 1 … PREFIX COUNT, each until it is acknowledged
//   written NAME                waits until all of it is acknowledged
//   acknowledged NAME N         waits until N of what it wrote are acknowledged (to kill midway)
//   up NAME | down NAME         waits until it is connected and in, or disconnected
//   check CONVERSATION          every acknowledged message is in history exactly once, places rise by
//                               one, each sender's order holds, and each socket saw it just so
//   disconnect NAME
//
// Browser (a conversation is chosen at `enter`):
//   enter NAME CONVERSATION     say NAME TEXT…         sees NAME TEXT…      told NAME TEXT…
//   state NAME STATE            connected, reconnecting, offline
//   settled NAME                waits until nothing is pending
//   same NAME NAME…             all show the same messages in the same places, each once
//   clean NAME                  no console error since the last `clean`, but for lost connections
//   screenshot NAME FILE

import { createInterface } from "node:readline";
import { browserCommands } from "./lib/scenario-browser.js";
import { socketCommands } from "./lib/scenario-sockets.js";

const isBrowser = process.argv.includes("--browser");
const commands = isBrowser ? await browserCommands() : await socketCommands();

function answer(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

let failures = 0;
answer({ ok: true, ready: isBrowser ? "browser" : "sockets" });
for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...words] = line.trim().split(/\s+/);
  if (name === "" || name.startsWith("#")) continue;
  if (name === "quit") break;
  try {
    if (!Object.hasOwn(commands, name)) throw new Error(`no such command: ${name}`);
    answer({ ok: true, command: line.trim(), ...(await commands[name](...words)) });
  } catch (error) {
    failures += 1;
    answer({ ok: false, command: line.trim(), error: error.message });
  }
}
await commands.close();
process.exit(failures === 0 ? 0 : 1);
