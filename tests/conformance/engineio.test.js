// Engine.IO 4, against a server that echoes every message.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { sessionSuite } from "./session-suite.js";
import { start } from "./server.js";
import { assertRefusal, pause, Peer, SEPARATOR } from "./wire.js";

const BYTES = Buffer.from([1, 2, 3, 4]);
const BASE64 = "bAQIDBA==";

let server;
let peer;

before(async () => {
  server = await start(["--engine-only"]);
  peer = new Peer(server.url, "/engine.io/");
});
afterEach(() => peer?.closeAll());
after(() => server?.stop());

sessionSuite(() => peer, (wire) => wire.send("4hello").expect("4hello"));

describe("messages over polling", () => {
  async function echoes(...packets) {
    const session = await peer.polling();
    const body = packets.join(SEPARATOR);
    const sent = await session.post(body);
    assert.deepEqual([sent.status, sent.text], [200, "ok"]);
    const received = await session.get();
    assert.equal(received.status, 200);
    return received.text;
  }

  test("one text packet", async () => {
    assert.equal(await echoes("4hello"), "4hello");
  });

  test("several text packets come back in one answer", async () => {
    const expected = ["4test1", "4test2", "4test3"].join(SEPARATOR);
    assert.equal(await echoes("4test1", "4test2", "4test3"), expected);
  });

  test("text and binary packets, in order", async () => {
    assert.equal(await echoes("4hello", BASE64), ["4hello", BASE64].join(SEPARATOR));
  });

  test("text beyond ASCII, and the empty message", async () => {
    assert.equal(await echoes("4zażółć 👩‍👩‍👧 \u2028"), "4zażółć 👩‍👩‍👧 \u2028");
    assert.equal(await echoes("4"), "4");
  });

  test("base64 with line breaks, without padding, and in the URL's alphabet", async () => {
    assert.equal(await echoes("bAQID\nBA==\n"), BASE64);
    assert.equal(await echoes("bAQIDBA"), BASE64);
    assert.equal(await echoes("b-_8="), "b+/8=");
  });

  test("an invalid packet ends the session", async () => {
    for (const body of ["abc", "", `4a${SEPARATOR}`, `4a${SEPARATOR}${SEPARATOR}4b`, "9", "2"]) {
      const session = await peer.polling();
      // A server may have answered before it looked, and may reset the connection instead.
      const answer = await session.post(body).catch(() => ({ status: 400 }));
      assert.ok([200, 400].includes(answer.status), `${JSON.stringify(body)} ${answer.status}`);
      assertRefusal(await session.get(), 1, "Session ID unknown");
    }
  });

  test("a second poll at the same time ends the session", async () => {
    const session = await peer.polling();
    const first = session.get();
    await pause(50);
    const second = await session.get({ t: "second" });
    assert.deepEqual([(await first).status, (await first).text], [200, "1"]);
    assert.ok([400, 500].includes(second.status), `${second.status}`);
    assert.equal((await session.get()).status, 400);
  });

  test("a body over the limit is refused with 413", async () => {
    const session = await peer.polling();
    const answer = await session.post(`4${"x".repeat(1_000_001)}`);
    assert.equal(answer.status, 413);
  });

  test("a binary body is refused and the request is answered", async () => {
    const session = await peer.polling();
    const headers = { "content-type": "application/octet-stream" };
    assert.equal((await session.post(BYTES, { headers })).status, 400);
  });

  test("answers carry the cross-origin headers, errors too", async () => {
    const options = { headers: { origin: "http://elsewhere.test" } };
    const good = await peer.http({ EIO: "4", transport: "polling" }, options);
    const bad = await peer.http({ EIO: "3", transport: "polling" }, options);
    for (const answer of [good, bad]) {
      assert.equal(answer.headers.get("access-control-allow-origin"), "*");
    }
    const preflight = await peer.http({ EIO: "4", transport: "polling" }, {
      method: "OPTIONS",
      headers: { ...options.headers, "access-control-request-method": "POST" },
    });
    assert.equal(preflight.status, 204);
    assert.match(preflight.headers.get("access-control-allow-methods"), /POST/);
  });
});

describe("messages over WebSocket", () => {
  test("a text packet", async () => {
    await (await peer.session()).send("4hello").expect("4hello");
  });

  test("a binary packet", async () => {
    await (await peer.session()).send(BYTES).expect(BYTES);
  });

  test("an invalid packet ends the session", async () => {
    for (const frame of ["abc", "", "9", "2"]) {
      const wire = await peer.session();
      wire.send(frame);
      await wire.end();
    }
  });

  test("a thousand packets come back in order", async () => {
    const wire = await peer.session();
    const packets = Array.from({ length: 1000 }, (_, i) => (i % 10 ? `4${i}` : Buffer.from(`${i}`)));
    await wire.send(...packets).expect(...packets);
  });

  test("a message over the limit closes with 1009", async () => {
    const wire = await peer.session();
    wire.send(`4${"x".repeat(1_000_001)}`);
    assert.equal(await wire.end(), 1009);
  });
});
