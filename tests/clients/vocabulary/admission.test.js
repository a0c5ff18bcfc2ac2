// A crowd of stock clients at a node that lets a few in at a time: all of them get in by themselves.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { io } from "socket.io-client";
import { Node } from "../lib/own-node.js";

const CROWD = 60;
let node;
const sockets = [];

before(async () => {
  node = await Node.start({
    "admission.opening_max": 8, "admission.connects_at_once": 1, "admission.connects_waiting": 2,
    "limits.enabled": false,
  });
});
after(async () => {
  for (const socket of sockets) socket.disconnect();
  await node.stop();
});

test("all of a crowd get in, on both transports", async () => {
  for (let n = 0; n < CROWD; n += 1) {
    sockets.push(io(node.url, {
      forceNew: true,
      transports: n % 2 === 0 ? ["websocket"] : ["polling", "websocket"],
      auth: { token: node.token({ sub: `user-${n}` }) },
      reconnectionDelay: 50,
      reconnectionDelayMax: 500,
    }));
  }
  const errors = [];
  for (const socket of sockets) socket.on("connect_error", (error) => errors.push(error.message));
  await node.until("all are in", () => sockets.every(({ connected }) => connected));
  for (const at of ["handshake", "connect"]) {
    assert.ok(await node.metric("vestibule_admission_refused_total", `at="${at}"`) > 0, `${at}: nobody was told to come again`);
  }
  assert.equal(await node.metric("vestibule_admission_opening"), 0);
  assert.equal(await node.metric("vestibule_admission_connects_waiting"), 0);
  // Those who came back to sockets were let in as such.
  const ids = sockets.map(({ id }) => id);
  for (const socket of sockets) socket.io.engine.close();
  await node.until("all are back", () => sockets.every(({ connected }) => connected));
  const again = sockets.filter(({ recovered, id }, n) => recovered && id === ids[n]);
  assert.equal(again.length, CROWD, [...new Set(errors)].join(", "));
});
