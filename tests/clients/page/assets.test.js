// The page as it is served: types, policy, caching.

import assert from "node:assert/strict";
import { test } from "node:test";
import { url } from "../lib/node.js";

const ASSETS = {
  "/": "text/html; charset=utf-8",
  "/assets/app.js": "text/javascript; charset=utf-8",
  "/assets/socket.io.esm.min.js": "text/javascript; charset=utf-8",
  "/assets/style.css": "text/css; charset=utf-8",
  "/assets/favicon.svg": "image/svg+xml",
  "/assets/THIRD-PARTY.txt": "text/plain; charset=utf-8",
};

test("each file has its type, its policy, and a tag that saves sending it again", async () => {
  for (const [path, type] of Object.entries(ASSETS)) {
    const response = await fetch(url + path);
    assert.equal(response.status, 200, path);
    assert.equal(response.headers.get("content-type"), type, path);
    assert.equal(response.headers.get("x-content-type-options"), "nosniff", path);
    assert.equal(response.headers.get("referrer-policy"), "no-referrer", path);
    const policy = response.headers.get("content-security-policy");
    assert.match(policy, /default-src 'none'/, path);
    assert.match(policy, /frame-ancestors 'none'/, path);
    assert.doesNotMatch(policy, /unsafe|\*/, path);
    const body = await response.text();

    const etag = response.headers.get("etag");
    const again = await fetch(url + path, { headers: { "if-none-match": etag } });
    assert.equal(again.status, 304, path);
    const head = await fetch(url + path, { method: "HEAD" });
    assert.equal(Number(head.headers.get("content-length")), Buffer.byteLength(body), path);
  }
});
