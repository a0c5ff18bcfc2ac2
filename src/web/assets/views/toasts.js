// Short messages at the edge of the page: what went wrong, what came back.

import { button, by, icon, make } from "../dom.js";
import { wait } from "../format.js";

const SHOWN_MS = 7000;
const AT_A_TIME = 4;

/** Shows a text for a few seconds; `kind` is "info" or "error". The same text is not shown twice. */
export function toast(text, kind = "info") {
  const place = by("toasts");
  for (const other of place.children) {
    if (other.dataset.text === text) other.remove();
  }
  while (place.children.length >= AT_A_TIME) place.firstElementChild.remove();
  const shown = make("div", `toast ${kind}`, make("p", "", text));
  shown.dataset.text = text;
  const close = button("icon small", "Dismiss", () => shown.remove(), icon("close"));
  shown.append(close);
  place.append(shown);
  let timer;
  const start = () => { timer = setTimeout(() => shown.remove(), SHOWN_MS); };
  // Who reads it, or holds the focus there, decides when it goes.
  for (const hold of ["pointerenter", "focusin"]) shown.addEventListener(hold, () => clearTimeout(timer));
  for (const go of ["pointerleave", "focusout"]) shown.addEventListener(go, start);
  start();
}

const SUBJECTS = {
  send: "The message was not sent",
  edit: "The message was not changed",
  delete: "The message was not deleted",
  react: "The reaction was not kept",
  open: "This conversation cannot be opened",
};

/** What a refusal means, in a sentence. */
export function explain(refusal, what) {
  if (refusal.code === "rate_limited") {
    const soon = refusal.retryAfterMs ? ` in ${wait(refusal.retryAfterMs)}` : " in a moment";
    const goesOn = what === "send" ? `Sending goes on${soon}.` : `Try again${soon}.`;
    return `That was too much at once. ${goesOn}`;
  }
  const text = refusal.message.replace(/^./u, (first) => first.toUpperCase()).replace(/\.?$/, ".");
  return SUBJECTS[what] ? `${SUBJECTS[what]}. ${text}` : text;
}

/** Shows a refusal. */
export function complain(refusal, what) {
  toast(explain(refusal, what), refusal.code === "rate_limited" ? "info" : "error");
}
