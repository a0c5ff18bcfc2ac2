// Two people on the page, in a real browser.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { launch, PHONE, Visitor } from "../lib/browser.js";
import { rest, unique, url } from "../lib/node.js";
import { closePeers, eventually, Peer } from "../lib/peer.js";

let browser;
let visitors = [];

before(async () => {
  browser = await launch();
});

after(() => browser?.close());

afterEach(async () => {
  closePeers();
  const complaints = visitors.flatMap((one) => one.complaints.map((text) => `${one.name}: ${text}`));
  await Promise.all(visitors.map((one) => one.page.context().close()));
  visitors = [];
  assert.deepEqual(complaints, []);
});

async function arrive(prefix, options) {
  const visitor = await Visitor.arrive(browser, unique(prefix), options);
  visitors.push(visitor);
  return visitor;
}

async function two(options) {
  const conversationId = unique("lobby");
  const [ada, bo] = [await arrive("ada", options), await arrive("bo", options)];
  await ada.enter(conversationId);
  await bo.enter(conversationId);
  return { ada, bo, conversationId };
}

const texts = async (visitor) => (await visitor.messages()).map((message) => message.text);

test("two people chat, and both see one order", async () => {
  const { ada, bo } = await two();
  await ada.say("Good morning");
  await bo.sees("Good morning");
  await bo.say("Hello");
  await bo.say("<b>not bold</b> & \"quoted\"");
  await ada.sees("<b>not bold</b> & \"quoted\"");
  await ada.say("two\nlines");
  await bo.sees("two\nlines");
  await eventually("nothing pending", async () => (await ada.pending()).length === 0);
  const [atAda, atBo] = [await ada.messages(), await bo.messages()];
  const strip = ({ text, place }) => ({ text, place });
  assert.deepEqual(atAda.map(strip), atBo.map(strip));
  assert.deepEqual(atAda.map((one) => one.isOwn), [true, false, false, true]);
  assert.deepEqual(atBo.map((one) => one.isOwn), [false, true, true, false]);
});

// Stands between the page and the node, as a bad network would.
async function interpose(visitor) {
  const link = { mode: "open", held: [], rewrite: (frame) => frame };
  await visitor.page.routeWebSocket(/socket\.io/, (toPage) => {
    const toNode = toPage.connectToServer();
    toNode.onMessage((frame) => {
      if (link.mode === "open") toPage.send(link.rewrite(frame));
      if (link.mode === "held") link.held.push(frame);
    });
    link.release = () => {
      link.mode = "open";
      for (const frame of link.held.splice(0)) toPage.send(frame);
    };
    link.cut = async () => {
      link.mode = "open";
      await Promise.all([toNode.close(), toPage.close()]);
    };
  });
  return link;
}

async function twoWithLink() {
  const conversationId = unique("lobby");
  const [ada, bo] = [await arrive("ada"), await arrive("bo")];
  const link = await interpose(ada);
  await ada.enter(conversationId);
  await bo.enter(conversationId);
  return { ada, bo, link };
}

test("a message is shown as pending until it stands in its place", async () => {
  const { ada, bo, link } = await twoWithLink();
  link.mode = "held";
  await ada.say("slow");
  await ada.say("and steady");
  await bo.sees("and steady");
  assert.deepEqual(await ada.pending(), ["slow", "and steady"]);
  await ada.page.getByText("Sending…").first().waitFor();
  link.release();
  await ada.sees("and steady");
  await eventually("nothing pending", async () => (await ada.pending()).length === 0);
  assert.deepEqual(await texts(ada), ["slow", "and steady"]);
});

test("a lost ack brings a retry, and still one message", async () => {
  const { ada, bo, link } = await twoWithLink();
  link.mode = "lost";
  await ada.say("once");
  await bo.say("meanwhile");
  await bo.sees("once");
  await bo.sees("meanwhile");
  await link.cut();
  await ada.isTold("Caught up 2 messages.");
  await ada.isShown("connected");
  await eventually("nothing pending", async () => (await ada.pending()).length === 0);
  await ada.say("twice");
  await bo.sees("twice");
  await ada.sees("twice");
  assert.deepEqual(await texts(bo), await texts(ada));
  assert.deepEqual((await texts(ada)).sort(), ["meanwhile", "once", "twice"]);
});

test("a gap that can not be closed is told, and the page loads anew", async () => {
  const { ada, bo, link } = await twoWithLink();
  await ada.say("before");
  await bo.sees("before");
  let answers = 0;
  link.rewrite = (frame) => {
    if (!/"complete":true/.test(frame) || answers > 0) return frame;
    answers += 1;
    const told = JSON.parse(frame.replace(/^\d+/, ""));
    const joined = { ...told[0], missed: [], complete: false, reason: "trimmed" };
    return frame.match(/^\d+/)[0] + JSON.stringify([joined]);
  };
  link.mode = "lost";
  await bo.say("meanwhile");
  await bo.sees("meanwhile");
  await link.cut();
  await ada.isTold("Reloaded: the absence was too long");
  await ada.sees("meanwhile");
  assert.equal(answers, 1);
  await bo.say("after");
  await ada.sees("after");
  assert.deepEqual(await texts(ada), ["before", "meanwhile", "after"]);
});

test("many messages at once stay in order", async () => {
  const { ada, bo } = await two();
  const lines = Array.from({ length: 40 }, (_, i) => `line ${i}`);
  for (const line of lines) await ada.say(line);
  await bo.sees("line 39");
  await ada.sees("line 39");
  assert.deepEqual(await texts(bo), lines);
  assert.deepEqual(await texts(ada), lines);
});

test("typing is shown to the other, and goes away by itself", async () => {
  const { ada, bo } = await two();
  await ada.page.getByLabel("Message", { exact: true }).pressSequentially("Let me see");
  const shown = bo.page.getByText(`${ada.name} is typing`);
  await shown.waitFor();
  assert.equal(await ada.page.locator("#typing").textContent(), "");
  await shown.waitFor({ state: "detached", timeout: 8000 }).catch(async () => {
    assert.equal(await bo.page.locator("#typing").textContent(), "");
  });
});

test("history is there on arrival, and older pages on request", async () => {
  const conversationId = unique("lobby");
  const writer = await Peer.connect(unique("writer"), { transports: ["websocket"] });
  await writer.join(conversationId);
  const lines = Array.from({ length: 120 }, (_, i) => `line ${i}`);
  await Promise.all(lines.map((line) => writer.send(conversationId, line)));
  await writer.arrived(conversationId, lines.length);

  const ada = await arrive("ada");
  await ada.enter(conversationId);
  await ada.sees("line 119");
  const older = ada.page.getByRole("button", { name: "Load older messages" });
  for (const first of ["line 20", "line 0"]) {
    await older.click();
    await ada.sees(first);
  }
  await eventually("the beginning", async () => !(await older.isVisible()));
  assert.deepEqual(await texts(ada), lines);
});

test("a reload keeps name, conversation and messages", async () => {
  const { ada, bo } = await two();
  await ada.say("before");
  await bo.sees("before");
  await ada.page.reload();
  await ada.isShown("connected");
  await ada.sees("before");
  await bo.say("after");
  await ada.sees("after");
  assert.deepEqual((await ada.messages()).map((one) => one.isOwn), [true, false]);
});

test("a message posted over REST appears on the page", async () => {
  const { ada, conversationId } = await two();
  const json = { conversationId, content: "by post" };
  await rest("/api/messages", { method: "POST", user: unique("backend"), json });
  await ada.sees("by post");
});

test("another conversation is another hash", async () => {
  const { ada, bo } = await two();
  await ada.say("here");
  await bo.sees("here");
  const other = unique("elsewhere");
  await ada.page.evaluate((id) => { location.hash = id; }, other);
  await ada.page.getByRole("heading", { name: other }).waitFor();
  await ada.isShown("connected");
  await ada.say("there");
  await ada.sees("there");
  assert.deepEqual(await texts(ada), ["there"]);
  assert.deepEqual(await texts(bo), ["here"]);
});

test("the keyboard alone is enough", async () => {
  const ada = await arrive("ada");
  await ada.page.goto(`${url}/`);
  await ada.page.keyboard.type(ada.name);
  await ada.page.keyboard.press("Tab");
  await ada.page.keyboard.press("ControlOrMeta+a");
  await ada.page.keyboard.type(unique("lobby"));
  await ada.page.keyboard.press("Enter");
  await ada.isShown("connected");
  await ada.page.keyboard.type("no mouse");
  await ada.page.keyboard.press("Shift+Enter");
  await ada.page.keyboard.type("at all");
  await ada.page.keyboard.press("Enter");
  await ada.sees("no mouse\nat all");
  await ada.page.keyboard.press("Shift+Tab");
  const focused = await ada.page.evaluate(() => document.activeElement.getAttribute("aria-label"));
  assert.equal(focused, "Messages");
});

test("a phone's width is enough, light and dark", async () => {
  for (const colorScheme of ["light", "dark"]) {
    const { ada, bo } = await two({ ...PHONE, colorScheme });
    await bo.say(`https://example.org/${"long/".repeat(60)}`);
    await bo.say("x".repeat(300));
    await ada.say("ok");
    await bo.sees("ok");
    for (const visitor of [ada, bo]) {
      assert.ok((await visitor.overflow()) <= 0, `${visitor.name} scrolls sideways`);
      const shot = await visitor.page.screenshot();
      assert.ok(shot.length > 5000, "a screenshot shows something");
      const send = await visitor.page.getByRole("button", { name: "Send" }).boundingBox();
      assert.ok(send.x + send.width <= 360 && send.width >= 40, "the send button is in reach");
    }
    const door = await arrive("door", { ...PHONE, colorScheme });
    await door.page.goto(`${url}/`);
    assert.ok((await door.overflow()) <= 0, "the door scrolls sideways");
  }
});

test("every field and button has a name", async () => {
  const { ada } = await two();
  const nameless = await ada.page.evaluate(() =>
    [...document.querySelectorAll("button, input, textarea, section")]
      .filter((one) => !one.labels?.length && !one.getAttribute("aria-label") && !one.textContent.trim())
      .map((one) => one.id || one.outerHTML.slice(0, 60)),
  );
  assert.deepEqual(nameless, []);
});
