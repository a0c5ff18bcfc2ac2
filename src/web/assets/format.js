// Times, names and numbers as people read them. Pure: the present is an argument.

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const HUES = 10;
// Guests' ids tell that they are guests, and still read as a name.
const GUEST = "guest-";
// Intl makes a formatter in milliseconds, so each is made once.
const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const longDay = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const dated = new Intl.DateTimeFormat(undefined, { dateStyle: "long" });
const shortDay = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

const startOfDay = (at) => new Date(at.getFullYear(), at.getMonth(), at.getDate());
const daysBetween = (at, now) => Math.round((startOfDay(now) - startOfDay(at)) / DAY);

/** 14:02 */
export const clockTime = (at) => clock.format(new Date(at));

/** The exact moment, for titles. */
export const exactTime = (at) => full.format(new Date(at));

/** Today, Yesterday, Tuesday 3 November, 3 November 2024. */
export function dayLabel(at, now) {
  const days = daysBetween(at, now);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  return (Math.abs(days) < 300 ? longDay : dated).format(at);
}

/** As short as a list needs it: 14:02, Tue, 3 Nov. */
export function shortTime(text, now) {
  const at = new Date(text);
  const days = daysBetween(at, now);
  if (days <= 0) return clock.format(at);
  return (days < 7 ? weekday : shortDay).format(at);
}

/** just now, 5 minutes ago, yesterday. */
export function ago(text, now) {
  const at = new Date(text);
  const passed = now - at;
  if (passed < 45_000) return "just now";
  if (passed < HOUR) return relative.format(-Math.max(1, Math.round(passed / MINUTE)), "minute");
  if (passed < 12 * HOUR) return relative.format(-Math.round(passed / HOUR), "hour");
  const days = daysBetween(at, now);
  if (days < 7) return days === 0 ? `at ${clock.format(at)}` : relative.format(-days, "day");
  return `on ${shortDay.format(at)}`;
}

/** In 3 s, in 2 minutes: how long to wait. */
export function wait(ms) {
  const seconds = Math.max(1, Math.ceil(ms / 1000));
  if (seconds < 90) return `${seconds} s`;
  const minutes = Math.ceil(seconds / 60);
  return minutes < 90 ? `${minutes} minutes` : `${Math.ceil(minutes / 60)} hours`;
}

/** One of a few colours, always the same for an id. */
export function hueOf(id) {
  let hash = 7;
  for (const char of id) hash = (hash * 31 + char.codePointAt(0)) >>> 0;
  return hash % HUES;
}

/** One or two letters for a face. */
export function initials(name) {
  const words = name.split(/[\s._-]+/u).filter((word) => /[\p{L}\p{N}]/u.test(word));
  const letters = words.map((word) => [...word].find((char) => /[\p{L}\p{N}]/u.test(char)));
  const shown = letters.length > 1 ? [letters[0], letters.at(-1)] : letters;
  return shown.join("").toUpperCase() || "?";
}

/** "Ada", "Ada and Bo", "Ada, Bo and 3 others". */
export function listing(names, max = 3) {
  if (names.length <= 1) return names[0] ?? "";
  const isCut = names.length > max;
  const shown = isCut ? names.slice(0, max - 1) : names.slice(0, -1);
  const rest = names.length - shown.length;
  return `${shown.join(", ")} and ${isCut ? `${rest} others` : names.at(-1)}`;
}

/** "Ada is typing", "Ada and Bo are typing", "Several people are typing". */
export function typingText(names) {
  if (names.length === 0) return "";
  if (names.length > 2) return "Several people are typing";
  return `${names.join(" and ")} ${names.length === 1 ? "is" : "are"} typing`;
}

/** "1 message", "2 messages". */
export const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

/** The id of a guest who goes by this name. */
export const guestId = (name) => GUEST + name.trim().replace(/[\s/#?%]+/gu, "-");

export const isGuest = (id) => id.startsWith(GUEST);

/** What an id says about a name, when nothing else does. */
export const nameInId = (id) => (isGuest(id) ? id.slice(GUEST.length).replaceAll("-", " ") : id);

/** A text with the names of those whom it mentions. */
export const withNames = (text, nameOf) =>
  text.replace(/(?<![\p{L}\p{N}])@([\p{L}\p{N}](?:[\p{L}\p{N}._-]*[\p{L}\p{N}])?)/gu, (_, id) => `@${nameOf(id)}`);

/** A user name made of a name: "Ada Lovelace" gives "ada.lovelace". */
export function userNameOf(name) {
  const plain = name.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  return plain.replace(/[^a-z0-9]+/g, ".").replace(/^\.+|\.+$/g, "").slice(0, 40);
}
