// The gateway's REST side: who somebody is, lists, pages of history, changes that need no socket.
//
// An account is known by its HttpOnly cookie, so a change also carries the readable half of the CSRF
// pair. A guest or a bearer of a token sends the token, and no cookies: such a tab is somebody else
// than the browser's account.

import { newId, Refusal } from "./vestibule.js";

export { newId, Refusal };

const TIMEOUT_MS = 15_000;
const CSRF_COOKIE = "vestibule_csrf";
function cookie(name) {
  const pair = document.cookie.split("; ").find((one) => one.startsWith(`${name}=`));
  return pair ? decodeURIComponent(pair.slice(name.length + 1)) : null;
}

/** Whether this browser holds an account's cookies. */
export const hasAccount = () => cookie(CSRF_COOKIE) !== null;

/** The user a token names. Only for display: the gateway is the one who checks it. */
export function userOf(token) {
  try {
    const claims = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(claims), (c) => c.charCodeAt(0));
    const { sub, name } = JSON.parse(new TextDecoder().decode(bytes));
    return typeof sub === "string" && sub !== "" ? { id: sub, name } : null;
  } catch {
    return null;
  }
}

async function send(path, options) {
  let response;
  try {
    response = await fetch(path, { ...options, signal: AbortSignal.timeout(TIMEOUT_MS) });
  } catch {
    throw new Refusal({ message: "The node does not answer. Is it running?" });
  }
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  const message = body.detail || body.message || body.title || `The node answered ${response.status}.`;
  const seconds = Number(response.headers.get("retry-after"));
  const retryAfterMs = body.retryAfterMs ?? (seconds > 0 ? seconds * 1000 : undefined);
  const code = body.code ?? (response.status === 429 ? "rate_limited" : undefined);
  throw new Refusal({ ...body, code, message, retryAfterMs });
}

const part = encodeURIComponent;

export class Api {
  #token;

  /** With a token as its bearer, without one as the browser's account. */
  constructor(token) {
    this.#token = token;
  }

  request(method, path, { json, query, key } = {}) {
    const headers = { Accept: "application/json" };
    if (json !== undefined) headers["Content-Type"] = "application/json";
    if (key) headers["Idempotency-Key"] = key;
    if (this.#token) headers.Authorization = `Bearer ${this.#token}`;
    else if (method !== "GET" && hasAccount()) headers["X-CSRF-Token"] = cookie(CSRF_COOKIE);
    const given = Object.entries(query ?? {}).filter(([, value]) => value !== undefined && value !== null);
    const search = new URLSearchParams(given).toString();
    return send(search ? `${path}?${search}` : path, {
      method,
      headers,
      credentials: this.#token ? "omit" : "same-origin",
      ...(json !== undefined && { body: JSON.stringify(json) }),
    });
  }

  developmentToken = (user) => this.request("POST", "/api/development/token", { json: { user } });
  signUp = (fields) => this.request("POST", "/api/signup", { json: fields });
  login = (fields) => this.request("POST", "/api/login", { json: fields });
  logout = () => this.request("POST", "/api/logout", { json: {} });

  profile = () => this.request("GET", "/api/profile");
  updateProfile = (json) => this.request("PATCH", "/api/profile", { json });
  user = (id) => this.request("GET", `/api/users/${part(id)}`);
  sessions = () => this.request("GET", "/api/sessions");
  revokeSession = (id) => this.request("DELETE", `/api/sessions/${part(id)}`);

  conversations = (after) => this.request("GET", "/api/conversations", { query: { limit: 50, after } });
  conversation = (id) => this.request("GET", `/api/conversations/${part(id)}`);
  create = (json, key) => this.request("POST", "/api/conversations", { json, key });
  members = (id, after) =>
    this.request("GET", `/api/conversations/${part(id)}/members`, { query: { limit: 100, after } });
  addMembers = (id, userIds) =>
    this.request("POST", `/api/conversations/${part(id)}/members`, { json: { userIds } });
  setRole = (id, user, role) =>
    this.request("PATCH", `/api/conversations/${part(id)}/members/${part(user)}`, { json: { role } });
  removeMember = (id, user) =>
    this.request("DELETE", `/api/conversations/${part(id)}/members/${part(user)}`);
  messages = (id, query) =>
    this.request("GET", `/api/conversations/${part(id)}/messages`, { query });

  notifications = (before) =>
    this.request("GET", "/api/notifications", { query: { limit: 30, before } });
  readNotifications = (json) => this.request("PATCH", "/api/notifications", { json });
  presence = (users) => this.request("GET", "/api/presence", { query: { users: users.join(",") } });
}
