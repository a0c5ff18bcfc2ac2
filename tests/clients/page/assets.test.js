// The page as it is served: types, policy, caching, weight.

import assert from "node:assert/strict";
import { test } from "node:test";
import { url } from "../lib/node.js";

const TYPES = {
  js: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
  svg: "image/svg+xml",
  txt: "text/plain; charset=utf-8",
};

/** Every file that the page needs, found as a browser finds them. */
async function files() {
  const found = new Set(["/", "/assets/THIRD-PARTY.txt"]);
  const page = await (await fetch(`${url}/`)).text();
  for (const [, path] of page.matchAll(/(?:href|src)="(\/assets\/[^"]+)"/g)) found.add(path);
  return [...found];
}

test("each file has its type, its policy, and a tag that saves sending it again", async () => {
  for (const path of await files()) {
    const headers = { "accept-encoding": "identity" };
    const response = await fetch(url + path, { headers });
    assert.equal(response.status, 200, path);
    const type = path === "/" ? "text/html; charset=utf-8" : TYPES[path.split(".").at(-1)];
    assert.equal(response.headers.get("content-type"), type, path);
    assert.equal(response.headers.get("x-content-type-options"), "nosniff", path);
    assert.equal(response.headers.get("referrer-policy"), "no-referrer", path);
    const policy = response.headers.get("content-security-policy");
    assert.match(policy, /default-src 'none'/, path);
    assert.match(policy, /frame-ancestors 'none'/, path);
    assert.doesNotMatch(policy, /unsafe|\*/, path);
    const body = await response.text();

    const etag = response.headers.get("etag");
    const again = await fetch(url + path, { headers: { ...headers, "if-none-match": etag } });
    assert.equal(again.status, 304, path);
    const head = await fetch(url + path, { method: "HEAD", headers });
    assert.equal(Number(head.headers.get("content-length")), Buffer.byteLength(body), path);
  }
});

test("the page is light: packed, it takes less than many a picture", async () => {
  let sent = 0;
  for (const path of await files()) {
    const headers = { "accept-encoding": "gzip" };
    const packed = await fetch(url + path, { method: "HEAD", headers });
    assert.equal(packed.headers.get("content-encoding"), "gzip", path);
    assert.equal(packed.headers.get("vary"), "accept-encoding", path);
    if (!path.includes("socket.io")) sent += Number(packed.headers.get("content-length"));
  }
  assert.ok(sent < 120 * 1024, `${sent} bytes`);
});
