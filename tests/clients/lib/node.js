// The node under test, and tokens for it.
//
// VESTIBULE_URL             where clients connect, e.g. http://127.0.0.1:8080 (required)
// VESTIBULE_OPERATIONS_URL  where health and metrics are; without it their tests are skipped
// VESTIBULE_TOKEN_COMMAND   a command that prints a token when `--user NAME [--rooms GLOB]` is added,
//                           e.g. `vestibule token --data DIR`; without it tokens come from the
//                           development endpoint, and tests that need narrower ones are skipped

import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { promisify } from "node:util";

const run = promisify(execFile);
const tokenCommand = process.env.VESTIBULE_TOKEN_COMMAND;
const tokens = new Map();

function required(name) {
  const value = process.env[name];
  if (value) return value.replace(/\/$/, "");
  console.error(`${name} is not set: it says where the node under test listens`);
  process.exit(64);
}

export const url = required("VESTIBULE_URL");
export const operationsUrl = process.env.VESTIBULE_OPERATIONS_URL?.replace(/\/$/, "");

/** A reason to skip a test that needs tokens with chosen permissions; false if they can be had. */
export const withoutRoomTokens = tokenCommand
  ? false
  : "needs VESTIBULE_TOKEN_COMMAND for a token with chosen rooms";

/** A name that no other test uses. */
export function unique(prefix) {
  return `${prefix}-${randomBytes(6).toString("hex")}`;
}

/** A token for a user. `rooms`: a glob of rooms, by default every conversation. */
export function token(user, rooms) {
  const key = JSON.stringify([user, rooms]);
  if (!tokens.has(key)) tokens.set(key, tokenCommand ? printed(user, rooms) : given(user, rooms));
  return tokens.get(key);
}

async function printed(user, rooms) {
  const quoted = [user, rooms].map((text) => text && `'${text.replaceAll("'", `'\\''`)}'`);
  const options = `--user ${quoted[0]}${rooms ? ` --rooms ${quoted[1]}` : ""}`;
  const { stdout } = await run("/bin/sh", ["-c", `${tokenCommand} ${options}`]);
  return stdout.trim().split("\n").at(-1);
}

async function given(user, rooms) {
  if (rooms) throw new Error(withoutRoomTokens);
  const response = await fetch(`${url}/api/development/token`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ user }),
  });
  if (!response.ok) throw new Error(`no development token: ${response.status}`);
  return (await response.json()).token;
}

/** A REST request by a user (or nobody). Answers `{status, type, body}`, JSON parsed. */
export async function rest(path, { user, rooms, method = "GET", json, body, headers = {} } = {}) {
  const all = { ...headers };
  if (user) all.authorization = `Bearer ${await token(user, rooms)}`;
  if (json !== undefined) all["content-type"] = "application/json";
  const ask = () =>
    fetch(url + path, {
      method,
      headers: all,
      body: json !== undefined ? JSON.stringify(json) : body,
    });
  const response = await ask().catch((error) => {
    // A kept connection may end in the moment in which it is used again, after a refused body for one.
    // Browsers ask again when nothing can be changed by that; this fetch does not.
    if (method !== "GET") throw error;
    return ask();
  });
  const type = response.headers.get("content-type") ?? "";
  const text = await response.text();
  return { status: response.status, type, body: /json/.test(type) ? JSON.parse(text) : text };
}

/** A page of a conversation's history. `query` is what follows the question mark. */
export function history(conversationId, user, query = "") {
  const id = encodeURIComponent(conversationId);
  return rest(`/api/conversations/${id}/messages${query && `?${query}`}`, { user });
}
