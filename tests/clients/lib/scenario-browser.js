// The browser half of scenario.js: people at the page.

import assert from "node:assert/strict";
import { launch, PHONE, Visitor } from "./browser.js";
import { eventually } from "./peer.js";

const PATIENCE_MS = 60_000;
// What Chromium itself writes when a node is away; everything else is the page's own fault.
const LOST_CONNECTION = /ERR_CONNECTION|ERR_EMPTY_RESPONSE|WebSocket connection to|status of 50[23]/;

export async function browserCommands() {
  const browser = await launch();
  const visitors = new Map();
  const find = (name) => visitors.get(name) ?? assert.fail(`nobody is called ${name}`);

  return {
    async enter(name, conversationId, size) {
      const visitor = await Visitor.arrive(browser, name, size === "phone" ? PHONE : {});
      visitors.set(name, visitor);
      await visitor.enter(conversationId);
    },
    say: (name, ...words) => find(name).say(words.join(" ")),
    sees: (name, ...words) => find(name).sees(words.join(" "), PATIENCE_MS),
    async told(name, ...words) {
      return { notice: await find(name).isTold(words.join(" "), PATIENCE_MS) };
    },
    state: (name, state) => find(name).isShown(state, PATIENCE_MS),
    async settled(name) {
      const isSettled = async () => (await find(name).pending()).length === 0;
      await eventually("nothing pending", isSettled, PATIENCE_MS);
    },
    async same(...names) {
      const shown = [];
      for (const name of names) {
        const messages = await find(name).messages();
        shown.push(messages.map(({ text, place }) => ({ text, place })));
        const places = new Set(messages.map((message) => message.place));
        assert.equal(places.size, messages.length, `${name} sees something twice`);
      }
      for (const other of shown) assert.deepEqual(other, shown[0]);
      return { messages: shown[0].length };
    },
    clean(name) {
      const complaints = find(name).complaints.splice(0);
      const own = complaints.filter((text) => !LOST_CONNECTION.test(text));
      assert.deepEqual(own, []);
    },
    async screenshot(name, path) {
      await find(name).page.screenshot({ path });
    },
    close: () => browser.close(),
  };
}
