// Health, readiness and metrics, on their own listener only.

import assert from "node:assert/strict";
import { test } from "node:test";
import { operationsUrl, url } from "../lib/node.js";

const skip = operationsUrl ? false : "needs VESTIBULE_OPERATIONS_URL";

test("a serving node is healthy and ready", { skip }, async () => {
  for (const path of ["/healthz", "/readyz"]) {
    const response = await fetch(operationsUrl + path);
    assert.equal(response.status, 200, `${path}: ${await response.text()}`);
  }
});

test("metrics are in the Prometheus text format", { skip }, async () => {
  const response = await fetch(`${operationsUrl}/metrics`);
  assert.equal(response.status, 200);
  assert.match(await response.text(), /^# TYPE \w+ (counter|gauge|histogram|summary)$/m);
});

test("clients do not see what is for operators", async () => {
  for (const path of ["/metrics", "/healthz", "/readyz"]) {
    assert.equal((await fetch(url + path)).status, 404, path);
  }
});
