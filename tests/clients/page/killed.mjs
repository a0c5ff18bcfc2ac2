// Two tabs at the balancer, each served by another node, while one of these nodes is killed: the conversation goes
// on, and both show every line once and in one order.
//
// VESTIBULE_NODES names the nodes. Prints the place of the node to kill in that list when it is to be killed, then
// one line of JSON. The exit code is 1 if a line is missing, came twice, or is in two orders.

import { nodeOf } from "../../chaos/member.js";
import { Company } from "../lib/browser.js";
import { unique } from "../lib/node.js";
import { eventually, pause } from "../lib/peer.js";

const LINES = 60;
const PACE_MS = 150;
const KILL_AT = 20;
const TABS_MAX = 12;
const WAIT_MS = 60_000;

const tags = await Promise.all(process.env.VESTIBULE_NODES.split(",").map(async (node) => {
  const answer = await fetch(`${node}/socket.io/?EIO=4&transport=polling`);
  return nodeOf(JSON.parse((await answer.text()).slice(1)).sid);
}));

/** Follows which node serves a tab. */
function follow(visitor) {
  visitor.nodes = [];
  const hear = (text) => {
    const sid = /^0\{"sid":"([^"]+)"/.exec(text)?.[1];
    if (sid) visitor.nodes.push(tags.indexOf(nodeOf(sid)));
  };
  visitor.page.on("websocket", (socket) => socket.on("framereceived", ({ payload }) => hear(String(payload))));
  visitor.page.on("response", async (response) => {
    if (response.url().includes("transport=polling")) hear(await response.text().catch(() => ""));
  });
  return visitor;
}

async function tab(prefix, room, unlike) {
  for (let n = 0; n < TABS_MAX; n += 1) {
    const visitor = follow(await company.arrive(prefix));
    // The browser says so when a connection is refused or lost.
    visitor.allows(/WebSocket connection|Failed to load resource/);
    await visitor.enter(room);
    await eventually("its node", () => visitor.nodes.length > 0);
    if (visitor.nodes.at(-1) !== unlike) return visitor;
    await visitor.page.context().close();
  }
  throw new Error("the balancer leads every tab to one node");
}

const company = new Company();
await company.open();
const room = unique("lobby");
const ada = await tab("ada", room);
const bo = await tab("bo", room, ada.nodes.at(-1));
const both = [ada, bo];
const lines = Array.from({ length: LINES }, (_, n) => `line ${n}`);
for (const [n, line] of lines.entries()) {
  if (n === KILL_AT) console.log(bo.nodes.at(-1));
  await both[n % 2].say(line);
  await pause(PACE_MS);
}
const texts = async (visitor) => (await visitor.messages()).map(({ text, place }) => `${place} ${text}`);
const isWhole = async (visitor) => (await visitor.messages()).length >= LINES && (await visitor.pending()).length === 0;
const isInTime = await eventually("all lines", async () => await isWhole(ada) && await isWhole(bo), WAIT_MS)
  .then(() => true, () => false);
// What comes twice comes a moment later.
await pause(1_000);
const [atAda, atBo] = [await texts(ada), await texts(bo)];
const shown = new Set(atAda.map((text) => text.slice(text.indexOf("line"))));
const isRight = isInTime && atAda.join("\n") === atBo.join("\n") && atAda.length === LINES && shown.size === LINES
  && bo.nodes.length > 1;
const nodes = both.map((one) => one.nodes);
const complaints = await company.leave();
await company.close();
console.log(JSON.stringify({ lines: LINES, shown: [atAda.length, atBo.length], nodes, isInTime, complaints }));
if (!isRight) console.error(atAda, atBo);
process.exit(isRight && complaints.length === 0 ? 0 : 1);
