// Tokens with chosen claims, signed with the secret in VESTIBULE_SECRET.

import { createHmac, randomUUID } from "node:crypto";

const HOUR_S = 3600;
const encoded = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** A token with these claims; it lasts an hour unless they say otherwise. */
export function signed(claims, secret = process.env.VESTIBULE_SECRET) {
  const now = Math.floor(Date.now() / 1000);
  const all = { iat: now, exp: now + HOUR_S, jti: randomUUID(), ...claims };
  const text = `${encoded({ alg: "HS256", typ: "JWT" })}.${encoded(all)}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}
