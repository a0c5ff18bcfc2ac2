// Every row of the catalogue through a real client, and that without the row its test fails.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Node } from "../lib/own-node.js";
import { catalogue, coded, without } from "./catalogue.js";
import { rows } from "./rows.js";
import { Stage } from "./stage.js";
import { words } from "./words.js";

const SETTINGS = {
  "limits.enabled": false, "presence.grace": "200ms", "telemetry.canary": "always", "telemetry.canary_every": "200ms",
};
/** For what is expected not to happen. */
const SHORT_MS = 1500;

const types = catalogue.map(({ type }) => type);

test("every row has a test, and every test a row", () => {
  assert.deepEqual(Object.keys(rows).sort(), [...types].sort());
  assert.deepEqual(Object.keys(words).sort(), [...coded].sort());
});

describe("rows", () => {
  let stage;
  before(async () => { stage = new Stage(await Node.start(SETTINGS)); });
  after(async () => {
    stage?.close();
    await stage?.node.stop();
  });
  for (const type of types) test(type, () => rows[type](stage));
  for (const word of coded) test(word, () => words[word](stage));
});

describe("without its row", () => {
  let node;
  before(async () => {
    const own = { "catalogue.file": "catalogue.toml" };
    node = await Node.start({ ...SETTINGS, ...own }, { "catalogue.toml": without(undefined) });
  });
  after(() => node?.stop());
  for (const type of types) {
    test(`the test of ${type} fails`, async () => {
      node.write("catalogue.toml", without(type));
      const told = await node.reload();
      assert.match(told, /catalogue reloaded/);
      const stage = new Stage(node, SHORT_MS);
      try {
        await assert.rejects(async () => rows[type](stage), `it passes without its row: ${told}`);
      } finally {
        stage.close();
      }
    });
  }
});
