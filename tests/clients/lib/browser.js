// The page in headless Chromium, driven as a person would.

import { chromium } from "playwright-core";
import { unique, url } from "./node.js";

const EXECUTABLE = process.env.VESTIBULE_CHROMIUM ?? "/usr/bin/chromium";
// Without these Chromium calls its maker's hosts at every start.
const ARGUMENTS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];
const PATIENCE_MS = 20_000;

export const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, hasTouch: true };

export function launch() {
  return chromium.launch({ executablePath: EXECUTABLE, args: ARGUMENTS });
}

/** A person at the page, in a browser profile of their own. */
export class Visitor {
  /** `name` is shown to others; as a guest, spaces in it become dashes in the id. */
  constructor(name, page) {
    this.name = name;
    this.page = page;
    // What a person with the console open would see: errors, warnings, policy violations.
    this.complaints = [];
    this.allowed = [];
    page.on("console", (message) => {
      if (!["error", "warning"].includes(message.type())) return;
      const text = `${message.type()}: ${message.text()}`;
      if (!this.allowed.some((pattern) => pattern.test(text))) this.complaints.push(text);
    });
    page.on("pageerror", (error) => this.complaints.push(`uncaught: ${error.stack}`));
    page.setDefaultTimeout(PATIENCE_MS);
  }

  static async arrive(browser, name, options = {}) {
    const context = await browser.newContext(options);
    return new Visitor(name, await context.newPage());
  }

  /** Complaints that belong to the test: the browser itself reports refused requests. */
  allows(pattern) {
    this.allowed.push(pattern);
  }

  /** This person's id, once inside as a guest. */
  get guestId() {
    return `guest-${this.name.replaceAll(" ", "-")}`;
  }

  /** Through the door as a guest; into a conversation, or wherever the page leads. */
  async enter(conversationId) {
    const place = conversationId === undefined ? "" : `#${encodeURIComponent(conversationId)}`;
    await this.page.goto(`${url}/${place}`);
    await this.page.getByLabel("Your name").fill(this.name);
    await this.page.getByRole("button", { name: "Start chatting" }).click();
    await this.isShown("connected");
  }

  /** Makes an account. Answers `{id, email, password}`. */
  async signUp(id, place = "") {
    const { page } = this;
    await page.goto(`${url}/${place}`);
    await page.getByRole("tab", { name: "Sign up" }).click();
    const form = page.locator("#signup-form");
    const account = { id, email: `${id}@example.org`, password: "correct horse battery" };
    await form.getByLabel("Name", { exact: true }).fill(this.name);
    await form.getByLabel("User name").fill(id);
    await form.getByLabel("E-mail").fill(account.email);
    await form.getByLabel("Password").fill(account.password);
    await form.getByRole("button", { name: "Create account" }).click();
    await this.isShown("connected");
    return account;
  }

  /** Logs in with an account. */
  async logIn({ email, password }) {
    const { page } = this;
    await page.getByRole("tab", { name: "Log in" }).click();
    const form = page.locator("#login-form");
    await form.getByLabel("E-mail").fill(email);
    await form.getByLabel("Password").fill(password);
    await form.getByRole("button", { name: "Log in" }).click();
  }

  /** Writes a message and presses Enter. */
  async say(text) {
    const field = this.page.getByLabel("Message", { exact: true });
    await field.fill(text);
    await field.press("Enter");
  }

  /** The rows of settled messages; those with this text, when there is one. */
  rows(text) {
    const rows = this.page.locator("#messages .message:not(.pending)");
    const content = this.page.locator(".content").getByText(text ?? "", { exact: true });
    return text === undefined ? rows : rows.filter({ has: content });
  }

  /** Waits until a message with this text is settled in its place. */
  sees(text, ms = PATIENCE_MS) {
    return this.rows(text).first().waitFor({ timeout: ms });
  }

  /** Uses one of the tools of the message with this text. */
  async use(tool, text) {
    const row = this.rows(text).first();
    await row.focus();
    await row.getByRole("button", { name: tool, exact: true }).click();
  }

  /** Waits until the connection's state reads like this. */
  isShown(state, ms = PATIENCE_MS) {
    return this.page.locator(`#state[data-state="${state}"]`).waitFor({ state: "attached", timeout: ms });
  }

  /** Waits for a notice with this text, and returns it. */
  async isTold(text, ms = PATIENCE_MS) {
    const notice = this.page.locator(".toast p").filter({ hasText: text, visible: true }).first();
    await notice.waitFor({ timeout: ms });
    return notice.textContent();
  }

  /** The settled messages: `{text, place, isOwn}` in the order shown. */
  messages() {
    return this.rows().evaluateAll((rows) =>
      rows.map((row) => ({
        text: row.querySelector(".content").textContent,
        place: row.dataset.place,
        isOwn: row.classList.contains("own"),
      })),
    );
  }

  /** The texts of what is still to be sent or settled. */
  pending() {
    return this.page.locator("#messages .pending .content").allTextContents();
  }

  /** The conversation's row in the list. */
  listed(title) {
    const named = this.page.locator(".row-title").getByText(title, { exact: true });
    return this.page.locator("#list a").filter({ has: named });
  }

  /** Waits until the row in the list shows this number of unread messages; 0 for none. */
  async hasUnread(title, count, ms = PATIENCE_MS) {
    const badge = this.listed(title).locator(".badge");
    if (count === 0) await badge.waitFor({ state: "detached", timeout: ms });
    else await badge.getByText(String(count), { exact: true }).waitFor({ timeout: ms });
  }

  /** How far the page is wider than the window. */
  overflow() {
    return this.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  }
}

/** People for the tests of one file: their complaints fail the test in which they made them. */
export class Company {
  #browser;
  #visitors = [];

  async open() {
    this.#browser = await launch();
  }

  close() {
    return this.#browser?.close();
  }

  /** Somebody with a name of their own that begins like this. */
  async arrive(prefix, options = {}) {
    const name = unique(prefix).replaceAll("-", " ");
    const visitor = await Visitor.arrive(this.#browser, name, options);
    this.#visitors.push(visitor);
    return visitor;
  }

  /** The same person in another tab of the same browser. */
  async alsoAt(visitor) {
    const other = new Visitor(visitor.name, await visitor.page.context().newPage());
    this.#visitors.push(other);
    return other;
  }

  /** Two guests in a conversation that nobody else uses. */
  async two(options) {
    const conversationId = unique("lobby");
    const [ada, bo] = [await this.arrive("ada", options), await this.arrive("bo", options)];
    await Promise.all([ada.enter(conversationId), bo.enter(conversationId)]);
    return { ada, bo, conversationId };
  }

  /** Everybody leaves; what they had to complain of. */
  async leave() {
    const visitors = this.#visitors.splice(0);
    const contexts = new Set(visitors.map((one) => one.page.context()));
    await Promise.all([...contexts].map((context) => context.close()));
    return visitors.flatMap((one) => one.complaints.map((text) => `${one.name}: ${text}`));
  }
}

/** Stands between a page and the node, as a bad network would. */
export async function interpose(visitor) {
  const link = { mode: "open", isDown: false, held: [], rewrite: (frame) => frame };
  await visitor.page.routeWebSocket(/socket\.io/, (toPage) => {
    if (link.isDown) {
      toPage.close();
      return;
    }
    const toNode = toPage.connectToServer();
    toNode.onMessage((frame) => {
      if (link.mode === "open") toPage.send(link.rewrite(frame));
      if (link.mode === "held") link.held.push(frame);
    });
    link.toPage = (...event) => toPage.send(`42${JSON.stringify(event)}`);
    link.release = () => {
      link.mode = "open";
      for (const frame of link.held.splice(0)) toPage.send(frame);
    };
    link.cut = async () => {
      link.mode = "open";
      await Promise.all([toNode.close(), toPage.close()]);
    };
  });
  return link;
}
