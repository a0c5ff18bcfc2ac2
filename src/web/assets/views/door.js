// The door: come in as a guest, with an account, or with somebody's token.

import { Api, hasAccount, userOf } from "../api.js";
import { by, say, show } from "../dom.js";
import { guestId, userNameOf, wait } from "../format.js";
import { showError } from "./dialogs.js";

const FIRST = ["Quiet", "Amber", "Swift", "Gentle", "Lucky", "Bright", "Calm", "Merry", "Bold", "Misty"];
const SECOND = ["Otter", "Heron", "Maple", "Comet", "Lynx", "Willow", "Robin", "Harbour", "Fox", "Finch"];
const WAYS = ["guest", "signup", "login", "token"];

const any = (list) => list[Math.floor(Math.random() * list.length)];

/** An account's identity from what the gateway says of it. */
export function accountOf(user, token) {
  const identity = { id: user.id, name: user.name || user.id, email: user.email, kind: "account" };
  // Where the browser keeps no cookies, the token serves as long as the tab is open.
  return hasAccount() ? identity : { ...identity, token };
}

const ENTER = {
  async guest(fields) {
    const name = fields.get("name").trim();
    if (name === "") throw new Error("Choose a name.");
    const { token, user } = await new Api().developmentToken(guestId(name));
    return { id: user ?? guestId(name), name, kind: "guest", token };
  },
  async signup(fields) {
    const { user, token } = await new Api().signUp(Object.fromEntries(fields));
    return accountOf(user, token);
  },
  async login(fields) {
    const { user, token } = await new Api().login(Object.fromEntries(fields));
    return accountOf(user, token);
  },
  async token(fields) {
    const token = fields.get("token").trim();
    const user = userOf(token);
    if (!user) throw new Error("This is not a token that names a user.");
    return { id: user.id, name: user.name || user.id, kind: "token", token };
  },
};

export class Door {
  #isDevelopment;
  #entered;

  /** `entered(identity)` is called with whoever came in. */
  constructor({ isDevelopment, entered }) {
    this.#isDevelopment = isDevelopment;
    this.#entered = entered;
    show(by("tab-guest"), isDevelopment);
    // Elsewhere the gateway gives ids: one of another's choice could be somebody's already.
    show(by("signup-id").parentElement, isDevelopment);
    by("signup-id").disabled = !isDevelopment;
    for (const way of WAYS) {
      by(`tab-${way}`).addEventListener("click", () => this.#choose(way));
      by(`${way}-form`).addEventListener("submit", (event) => this.#submit(event, way));
    }
    by("door").querySelector("[role=tablist]").addEventListener("keydown", (event) => this.#turn(event));
    const [name, id] = [by("signup-name"), by("signup-id")];
    name.addEventListener("input", () => {
      if (!id.dataset.own) id.value = userNameOf(name.value);
    });
    id.addEventListener("input", () => { id.dataset.own = id.value; });
    for (const field of by("door").querySelectorAll("input, textarea")) {
      field.addEventListener("input", () => field.removeAttribute("aria-invalid"));
    }
  }

  /** Opens it, with a note if there is something to tell. */
  open(note = "", way) {
    show(by("app"), false);
    show(by("door"), true);
    document.title = "Vestibule";
    say(by("door-note"), note);
    show(by("door-note"), note !== "");
    by("guest-name").value ||= `${any(FIRST)} ${any(SECOND)}`;
    this.#choose(way ?? (this.#isDevelopment ? "guest" : "signup"));
  }

  #choose(chosen) {
    for (const way of WAYS) {
      const isChosen = way === chosen;
      const tab = by(`tab-${way}`);
      tab.setAttribute("aria-selected", isChosen);
      tab.tabIndex = isChosen ? 0 : -1;
      show(by(`${way}-panel`), isChosen);
    }
    if (document.activeElement?.getAttribute("role") === "tab") return;
    const first = by(`${chosen}-form`).querySelector("input, textarea");
    first.focus();
    if (chosen === "guest") first.select();
  }

  #turn(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const ways = WAYS.filter((way) => !by(`tab-${way}`).hidden);
    const at = ways.findIndex((way) => `tab-${way}` === event.target.id);
    const next = ways[(at + step + ways.length) % ways.length];
    event.preventDefault();
    by(`tab-${next}`).focus();
    this.#choose(next);
  }

  async #submit(event, way) {
    event.preventDefault();
    const form = event.target;
    const submit = form.querySelector("[type=submit]");
    showError(form);
    submit.disabled = true;
    try {
      const identity = await ENTER[way](new FormData(form));
      form.reset();
      delete by("signup-id").dataset.own;
      this.#entered(identity);
      submit.disabled = false;
    } catch (refusal) {
      this.#refused(form, submit, refusal);
    }
  }

  #refused(form, submit, refusal) {
    const field = form.querySelector(`[name="${CSS.escape(refusal.field ?? "")}"]`);
    field?.setAttribute("aria-invalid", "true");
    if (refusal.code !== "rate_limited" || !refusal.retryAfterMs) {
      showError(form, refusal.message);
      submit.disabled = false;
      (field ?? submit).focus();
      return;
    }
    // The time to wait counts down in the button; the alert is spoken once.
    const until = Date.now() + refusal.retryAfterMs;
    const label = submit.textContent;
    showError(form, `Too many attempts. Try again in ${wait(refusal.retryAfterMs)}.`);
    const tick = () => {
      const left = until - Date.now();
      submit.disabled = left > 0;
      submit.textContent = left > 0 ? `${label} (${wait(left)})` : label;
      if (left > 0) setTimeout(tick, Math.min(1000, left));
      else showError(form);
    };
    tick();
  }
}
