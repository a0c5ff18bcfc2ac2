// Typing notices: seen by the others, and gone by themselves.

import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { closePeers, assertRefused, onEachTransport, pair, pause, Peer } from "../lib/peer.js";

const EXPIRY_MS = 3000;
const SLACK_MS = 1500;

after(closePeers);

// Most of the time here is waiting, so the tests wait side by side.
onEachTransport((name, declare) => describe(name, { concurrency: true }, declare), (options) => {
  test("the others see it start and stop, the typist does not", async () => {
    const { ada, bo, conversationId } = await pair(options);
    const expected = { conversationId, userId: ada.user };
    await ada.askOk("typing:start", { conversationId });
    assert.deepEqual((await bo.saw("typing:start")).args[0], expected);
    await ada.askOk("typing:stop", { conversationId });
    assert.deepEqual((await bo.saw("typing:stop")).args[0], expected);
    await ada.send(conversationId, "done");
    await ada.arrived(conversationId, 1);
    assert.deepEqual(ada.received.map((one) => one.event), ["message:new"]);
  });

  test("it stops by itself after three seconds", async () => {
    const { ada, bo, conversationId } = await pair(options);
    await ada.askOk("typing:start", { conversationId });
    const started = await bo.saw("typing:start");
    const stopped = await bo.saw("typing:stop");
    assert.deepEqual(stopped.args[0], { conversationId, userId: ada.user });
    const lasted = stopped.at - started.at;
    const isInTime = lasted > EXPIRY_MS - SLACK_MS && lasted < EXPIRY_MS + SLACK_MS;
    assert.ok(isInTime, `lasted ${lasted} ms`);
    await pause(500);
    assert.equal(bo.all("typing:stop").length, 1, "one stop is enough");
  });

  test("it lasts while it is renewed", async () => {
    const { ada, bo, conversationId } = await pair(options);
    await ada.askOk("typing:start", { conversationId });
    const started = await bo.saw("typing:start");
    for (let i = 0; i < 2; i += 1) {
      await pause(2000);
      await ada.askOk("typing:start", { conversationId });
    }
    assert.equal(bo.all("typing:stop").length, 0);
    const stopped = await bo.saw("typing:stop");
    assert.ok(stopped.at - started.at > 4000 + EXPIRY_MS - SLACK_MS);
  });

  test("it stops when the typist is gone", async () => {
    const { ada, bo, conversationId } = await pair(options);
    await ada.askOk("typing:start", { conversationId });
    await bo.saw("typing:start");
    ada.close();
    await bo.saw("typing:stop", () => true, EXPIRY_MS + SLACK_MS);
  });

  test("it is not history, and bad input is told apart", async () => {
    const { ada, conversationId } = await pair(options);
    await ada.askOk("typing:start", { conversationId });
    assert.equal((await ada.join(conversationId)).seq, 0);
    for (const event of ["typing:start", "typing:stop"]) {
      for (const args of [[], [null], ["x"], [{}], [{ conversationId: 7 }]]) {
        assertRefused(await ada.ask(event, ...args), "invalid", `${event} ${args}`);
      }
    }
  });

  test("a second conversation hears nothing of it", async () => {
    const here = await pair(options);
    const there = await Peer.connect(here.bo.user, options);
    await there.join(`${here.conversationId}-other`);
    await here.ada.askOk("typing:start", { conversationId: here.conversationId });
    await here.bo.saw("typing:stop");
    assert.deepEqual(there.received, []);
  });
});
