// Two people on the page, in a real browser: one conversation, whatever the network does.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { Company, interpose } from "../lib/browser.js";
import { rest, unique, url } from "../lib/node.js";
import { closePeers, eventually, Peer } from "../lib/peer.js";

const company = new Company();

before(() => company.open());
after(() => company.close());
afterEach(async () => {
  closePeers();
  assert.deepEqual(await company.leave(), []);
});

const texts = async (visitor) => (await visitor.messages()).map((message) => message.text);

test("two people chat, and both see one order", async () => {
  const { ada, bo } = await company.two();
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

async function twoWithLink() {
  const conversationId = unique("lobby");
  const [ada, bo] = [await company.arrive("ada"), await company.arrive("bo")];
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
  await ada.isTold("Resumed.");
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
  const { ada, bo } = await company.two();
  const lines = Array.from({ length: 25 }, (_, i) => `line ${i}`);
  for (const line of lines) await ada.say(line);
  await bo.sees("line 24");
  await ada.sees("line 24");
  assert.deepEqual(await texts(bo), lines);
  assert.deepEqual(await texts(ada), lines);
});

test("typing is shown to the other, and goes away by itself", async () => {
  const { ada, bo } = await company.two();
  await ada.page.getByLabel("Message", { exact: true }).pressSequentially("Let me see");
  const shown = bo.page.locator("#typing").getByText(`${ada.name} is typing`);
  await shown.waitFor();
  assert.equal(await ada.page.locator("#typing").textContent(), "");
  await shown.waitFor({ state: "detached", timeout: 8000 }).catch(async () => {
    assert.equal(await bo.page.locator("#typing").textContent(), "");
  });
});

test("history is there on arrival, and older pages on request or when scrolling up", async () => {
  const conversationId = unique("lobby");
  const writer = await Peer.connect(unique("guest-writer"), { transports: ["websocket"] });
  await writer.join(conversationId);
  const lines = Array.from({ length: 120 }, (_, i) => `line ${i}`);
  await Promise.all(lines.map((line) => writer.send(conversationId, line)));
  await writer.arrived(conversationId, lines.length);

  const ada = await company.arrive("ada");
  await ada.enter(conversationId);
  await ada.sees("line 119");
  const older = ada.page.getByRole("button", { name: "Load older messages" });
  assert.equal((await texts(ada))[0], "line 70");
  // What is being read stays where it is while earlier messages come in above it.
  const top = (scrollTo) => ada.rows("line 70").evaluate((row, wanted) => {
    if (wanted !== null) document.getElementById("scroll").scrollTop = wanted;
    return row.getBoundingClientRect().top;
  }, scrollTo);
  const before = await top(100);
  await ada.sees("line 20");
  const moved = Math.abs((await top(null)) - before);
  assert.ok(moved < 2, `the view jumped by ${moved} pixels`);
  await older.click();
  await ada.sees("line 0");
  await eventually("the beginning", async () => !(await older.isVisible()));
  await ada.page.getByText("The beginning").waitFor();
  assert.deepEqual(await texts(ada), lines);
});

test("a reload keeps name, conversation and messages", async () => {
  const { ada, bo } = await company.two();
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
  const { ada, conversationId } = await company.two();
  const json = { conversationId, content: "by post" };
  await rest("/api/messages", { method: "POST", user: unique("guest-backend"), json });
  await ada.sees("by post");
});

test("another conversation is another hash", async () => {
  const { ada, bo } = await company.two();
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
  const ada = await company.arrive("ada");
  await ada.page.goto(`${url}/#${unique("lobby")}`);
  await ada.page.keyboard.type(ada.name);
  await ada.page.keyboard.press("Enter");
  await ada.isShown("connected");
  await ada.page.keyboard.type("no mouse");
  await ada.page.keyboard.press("Shift+Enter");
  await ada.page.keyboard.type("at all");
  await ada.page.keyboard.press("Enter");
  await ada.sees("no mouse\nat all");
  // Back to the messages, to what can be done with one, and to the composer again.
  const focused = () => ada.page.evaluate(() => {
    const { activeElement: one } = document;
    return one.getAttribute("aria-label") ?? (one.id || one.className);
  });
  await ada.page.keyboard.press("Shift+Tab");
  assert.equal(await focused(), "Delete");
  await ada.page.keyboard.press("ArrowUp");
  assert.match(await focused(), /^message own/);
  await ada.page.keyboard.press("Tab");
  assert.equal(await focused(), "React");
  await ada.page.keyboard.press("Enter");
  assert.match(await focused(), /^React with/);
  await ada.page.keyboard.press("ArrowRight");
  await ada.page.keyboard.press("Enter");
  await ada.page.locator(".chip-button[aria-pressed=true]").waitFor();
  await ada.page.keyboard.press("Escape");
  assert.equal(await focused(), "text");
  // The last message is changed with the arrow key, and left alone with Escape.
  await ada.page.keyboard.press("ArrowUp");
  await ada.page.getByText("Editing").waitFor();
  await ada.page.keyboard.press("Escape");
  assert.equal(await ada.page.locator("#text").inputValue(), "");
  // A dialog opens and closes, and gives the focus back.
  await ada.page.getByRole("button", { name: "New conversation" }).focus();
  await ada.page.keyboard.press("Enter");
  assert.equal(await focused(), "create-person");
  await ada.page.keyboard.press("Escape");
  assert.equal(await focused(), "New conversation");
});

test("who sends too fast is told how long to wait, and the message goes out by itself", async () => {
  const { ada, bo, link } = await twoWithLink();
  let refused = 0;
  link.rewrite = (frame) => {
    // The ack of the first attempt; the retry carries the same id and is the same message.
    if (refused > 0 || !/^43\d+\[{"ok":true,"id"/.test(frame)) return frame;
    refused += 1;
    const error = { code: "rate_limited", message: "too many messages", retryAfterMs: 1500 };
    return frame.match(/^43\d+/)[0] + JSON.stringify([{ ok: false, error }]);
  };
  await ada.say("in a hurry");
  await ada.isTold("That was too much at once. Sending goes on in 2 s.");
  await bo.sees("in a hurry");
  await ada.sees("in a hurry");
  await eventually("nothing pending", async () => (await ada.pending()).length === 0);
  assert.equal(refused, 1);
  assert.deepEqual(await texts(bo), ["in a hurry"]);
  assert.deepEqual(await texts(ada), ["in a hurry"]);
});

test("a message that is refused for good waits for a decision", async () => {
  const { ada, bo } = await company.two();
  await ada.page.locator("#text").evaluate((field) => field.removeAttribute("maxlength"));
  await ada.say("x".repeat(20_000));
  await ada.page.getByText("Not sent:").waitFor();
  await ada.page.getByRole("button", { name: "Discard" }).click();
  await ada.page.getByText("Not sent:").waitFor({ state: "detached" });
  await ada.say("short");
  await bo.sees("short");
  await eventually("one line", async () => (await texts(ada)).join() === "short");
});

test("what works less well is told for as long as it lasts", async () => {
  const { ada, link } = await twoWithLink();
  const since = new Date(Date.now() - 300_000).toISOString();
  link.toPage("degraded", { what: "archive", since });
  const banner = ada.page.locator("#degraded");
  await banner.getByText(/archive has trouble since 5 minutes ago/).waitFor();
  link.toPage("degraded", { what: "archive", since, until: new Date().toISOString() });
  await banner.waitFor({ state: "hidden" });
});

test("a lost connection is shown, and what is written meanwhile is sent when it is back", async () => {
  const { ada, bo, link } = await twoWithLink();
  ada.allows(/WebSocket/);
  link.isDown = true;
  await link.cut();
  await ada.isShown("reconnecting");
  await ada.page.locator("#strip").getByText(/Reconnecting/).waitFor();
  await ada.say("written in the dark");
  await eventually("it waits", async () => (await ada.pending()).join() === "written in the dark");
  link.isDown = false;
  await ada.page.getByRole("button", { name: "Try now" }).click();
  await ada.isTold("Resumed.");
  await bo.sees("written in the dark");
  await ada.page.locator("#strip").waitFor({ state: "hidden" });
  assert.deepEqual(await texts(ada), ["written in the dark"]);
});
