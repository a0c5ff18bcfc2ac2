// The account: name, appearance, devices, the way out.

import { button, by, face, make, say, show } from "../dom.js";
import { ago } from "../format.js";
import { confirm, showError } from "./dialogs.js";
import { explain, toast } from "./toasts.js";

/** "Firefox on Linux" out of what a browser says of itself. */
export function deviceName(agent) {
  const text = agent ?? "";
  const has = (pattern) => pattern.test(text);
  const system = has(/android/i) ? "Android" : has(/iphone|ipad/i) ? "iOS" : has(/mac os/i) ? "macOS"
    : has(/windows/i) ? "Windows" : has(/linux|x11/i) ? "Linux" : "";
  const browser = has(/edg\//i) ? "Edge" : has(/firefox\//i) ? "Firefox" : has(/chrom(e|ium)\//i) ? "Chrome"
    : has(/safari\//i) ? "Safari" : "";
  if (browser && system) return `${browser} on ${system}`;
  return browser || system || text.split(/[\s/]/)[0] || "A device";
}

export class AccountView {
  #page;

  constructor(page) {
    this.#page = page;
    const { on } = page;
    on(by("open-account"), "click", () => this.open());
    on(by("logout"), "click", () => page.leave());
    for (const choice of document.querySelectorAll("input[name=theme]")) {
      choice.checked = choice.value === window.vestibuleTheme();
      on(choice, "change", () => window.vestibuleTheme(choice.value));
    }
  }

  open() {
    const { kind } = this.#page.store.me;
    showError(by("account"));
    this.#drawProfile();
    by("devices").replaceChildren();
    show(by("devices-note"), false);
    say(by("logout"), kind === "account" ? "Log out on this device" : "Leave");
    by("account").showModal();
    this.#readDevices();
  }

  #drawProfile() {
    const { me } = this.#page.store;
    const card = make("div", "person-row", face(me.id, me.name, { size: "large" }));
    const lines = make("div", "", make("p", "person-name", me.name));
    lines.append(make("p", "soft", me.kind === "account" ? me.id : me.kind === "guest" ? "Guest in this tab" : me.id));
    if (me.email) lines.append(make("p", "soft", me.email));
    card.append(lines);
    const link = button("quiet", "Copy a link to you", () => {
      this.#page.copy(this.#page.inviteLink(), "Link copied. Whoever opens it can write to you.");
    });
    by("profile").replaceChildren(card, make("p", "row-actions", link));
    if (me.kind === "account") by("profile").append(this.#renaming());
    if (this.#page.isDevelopment) {
      const second = make("a", "quiet", "Open a guest in another tab");
      Object.assign(second, { href: "/?guest", target: "_blank", rel: "noopener" });
      link.after(second);
    }
  }

  #renaming() {
    const { me } = this.#page.store;
    const label = make("label", "", "Name");
    label.htmlFor = "rename";
    const input = make("input", "");
    Object.assign(input, { id: "rename", value: me.name, maxLength: 80, required: true, autocomplete: "name" });
    const submit = make("button", "quiet", "Save");
    const form = make("form", "form adding", label, make("div", "beside", input, submit));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      submit.disabled = true;
      showError(by("account"));
      try {
        await this.#page.visit.api.updateProfile({ name: input.value.trim() });
        me.name = input.value.trim();
        this.#page.store.learn({ id: me.id, name: me.name });
        this.#drawProfile();
        by("rename").focus();
        toast("Your name is changed.");
      } catch (refusal) {
        showError(by("account"), explain(refusal));
      }
      submit.disabled = false;
    });
    return form;
  }

  async #readDevices() {
    const note = by("devices-note");
    try {
      const { sessions } = await this.#page.visit.api.sessions();
      by("devices").replaceChildren(...sessions.map((one) => this.#device(one)));
      const isBare = sessions.length === 0;
      show(note, isBare);
      if (isBare) say(note, "You are here with a token alone; there is no login to end.");
    } catch (refusal) {
      show(note, true);
      say(note, explain(refusal));
    }
  }

  #device(session) {
    const { id, device, address, createdAt, current } = session;
    const name = deviceName(device);
    const since = `since ${ago(createdAt, new Date())}`.replace("since on ", "since ").replace("since at ", "since ");
    const text = make("span", "member-text", make("b", "", name));
    text.append(make("span", "soft", [address, since].filter(Boolean).join(" · ")));
    text.title = device ?? "";
    const row = make("li", "member", text);
    if (current) row.append(make("span", "tag", "This one"));
    else row.append(button("quiet danger", `End ${name}`, () => this.#revoke(id, name, row), make("span", "", "End")));
    return row;
  }

  async #revoke(id, name, row) {
    const text = "It is signed out at once, and has to log in again.";
    if (!(await confirm({ title: `End ${name}?`, text, yes: "End it" }))) return;
    try {
      await this.#page.visit.api.revokeSession(id);
      row.remove();
      toast(`${name} is signed out.`);
      by("account").querySelector("[data-close]").focus();
    } catch (refusal) {
      showError(by("account"), explain(refusal));
    }
  }
}
