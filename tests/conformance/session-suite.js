// What holds for an Engine.IO session whatever it carries: handshake, heartbeat, close, upgrade.
//
// Declared twice, for raw Engine.IO and below Socket.IO, as the two protocols' own suites do.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  assertHandshake, assertRefusal, pause, PING_INTERVAL_MS, PING_TIMEOUT_MS,
} from "./wire.js";

const SLACK_MS = 150;

/** `peer()` answers the peer; `echo(wire)` proves a WebSocket session alive, where that is possible. */
export function sessionSuite(peer, echo = async () => {}) {
  describe("handshake over polling", () => {
    test("a request without a session opens one", async () => {
      const { handshake, headers } = await peer().polling();
      assertHandshake(handshake, ["websocket"]);
      assert.match(headers.get("content-type"), /^text\/plain; charset=utf-8$/i);
      assert.equal(headers.get("cache-control"), "no-store");
    });

    test("another protocol version is refused", async () => {
      for (const query of [{}, { EIO: "abc" }, { EIO: "3" }, { EIO: "" }]) {
        const answer = await peer().http({ ...query, transport: "polling" });
        assertRefusal(answer, 5, "Unsupported protocol version");
      }
    });

    test("an unknown transport is refused, before anything else is looked at", async () => {
      for (const query of [{ EIO: "4" }, { EIO: "4", transport: "abc" }, {}, { transport: "" }]) {
        assertRefusal(await peer().http(query), 0, "Transport unknown");
      }
    });

    test("only GET opens a session", async () => {
      for (const method of ["POST", "PUT", "DELETE"]) {
        const answer = await peer().http({ EIO: "4", transport: "polling" }, { method });
        assertRefusal(answer, 2, "Bad handshake method");
      }
    });

    test("an unknown session is refused", async () => {
      for (const sid of ["x", "aaaaaaaaaaaaaaaaaaaa", "a/../b", "é"]) {
        const answer = await peer().http({ EIO: "4", transport: "polling", sid });
        assertRefusal(answer, 1, "Session ID unknown");
      }
    });
  });

  describe("handshake over WebSocket", () => {
    test("the first frame opens the session, without upgrades", async () => {
      assertHandshake((await peer().session()).handshake, []);
    });

    test("another protocol version is refused", async () => {
      for (const query of [{}, { EIO: "abc" }, { EIO: "3" }]) {
        await peer().wire({ ...query, transport: "websocket" }).end();
      }
    });

    test("an unknown transport is refused", async () => {
      for (const query of [{ EIO: "4" }, { EIO: "4", transport: "abc" }]) {
        await peer().wire(query).end();
      }
    });

    test("an unknown session is refused", async () => {
      await peer().wire({ EIO: "4", transport: "websocket", sid: "aaaaaaaaaaaaaaaaaaaa" }).end();
    });
  });

  describe("heartbeat over polling", () => {
    test("pings come at their interval while they are answered", async () => {
      const session = await peer().polling();
      for (let i = 0; i < 3; i += 1) {
        const ping = await session.get();
        assert.deepEqual([ping.status, ping.text], [200, "2"]);
        const pong = await session.post("3");
        assert.deepEqual([pong.status, pong.text], [200, "ok"]);
      }
    });

    test("silence ends the session", async () => {
      const session = await peer().polling();
      await pause(PING_INTERVAL_MS + PING_TIMEOUT_MS + SLACK_MS);
      assertRefusal(await session.get(), 1, "Session ID unknown");
    });
  });

  describe("heartbeat over WebSocket", () => {
    test("pings come at their interval while they are answered", async () => {
      const wire = await peer().session();
      const began = Date.now();
      for (let i = 0; i < 3; i += 1) {
        assert.equal(await wire.next(), "2");
        wire.send("3");
      }
      assert.ok(Date.now() - began >= 3 * PING_INTERVAL_MS - SLACK_MS);
    });

    test("silence ends the session", async () => {
      const wire = await peer().session();
      const began = Date.now();
      await wire.end();
      assert.ok(Date.now() - began >= PING_INTERVAL_MS + PING_TIMEOUT_MS - SLACK_MS);
    });
  });

  describe("close", () => {
    test("a close packet over polling ends the session and frees the waiting poll", async () => {
      const session = await peer().polling();
      const poll = session.get();
      await pause(50);
      assert.equal((await session.post("1")).text, "ok");
      const { status, text } = await poll;
      assert.deepEqual([status, text], [200, "6"]);
      assertRefusal(await session.get(), 1, "Session ID unknown");
    });

    test("a close packet over WebSocket ends the session", async () => {
      const wire = await peer().session();
      wire.send("1");
      await wire.end();
    });
  });

  describe("upgrade", () => {
    test("a session moves from polling to WebSocket", async () => {
      const session = await peer().polling();
      const wire = await peer().probe(session.sid);
      wire.send("2probe");
      assert.equal(await wire.next(), "3probe");
      const { status, text } = await session.get();
      assert.deepEqual([status, text], [200, "6"]);
      wire.send("5");
      await echo(wire);
    });

    test("every poll that waits during the upgrade is freed", async () => {
      const session = await peer().polling();
      const wire = await peer().probe(session.sid);
      const waiting = session.get();
      wire.send("2probe");
      assert.equal(await wire.next(), "3probe");
      assert.equal((await waiting).text, "6");
      assert.equal((await session.get()).text, "6");
      wire.send("5");
      await echo(wire);
    });

    test("an upgraded session takes no more requests", async () => {
      const session = await peer().polling();
      const wire = await peer().probe(session.sid);
      wire.send("2probe", "5");
      assert.equal(await wire.next(), "3probe");
      await pause(50);
      for (const answer of [await session.get(), await session.post("4hello")]) {
        assertRefusal(answer, 3, "Bad request");
      }
      await echo(wire);
    });

    test("an upgraded session takes no second WebSocket", async () => {
      const session = await peer().polling();
      const wire = await peer().probe(session.sid);
      wire.send("2probe", "5");
      assert.equal(await wire.next(), "3probe");
      await pause(50);
      await peer().wire({ EIO: "4", transport: "websocket", sid: session.sid }).end();
      await echo(wire);
    });

    test("a probe that says something else is closed, the session goes on", async () => {
      const session = await peer().polling();
      const wire = await peer().probe(session.sid);
      wire.send("4hello");
      await wire.end();
      assert.equal((await session.get()).text, "2");
    });
  });
}
