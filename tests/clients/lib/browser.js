// The page in headless Chromium, driven as a person would.

import { chromium } from "playwright-core";
import { url } from "./node.js";

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
  constructor(name, page) {
    this.name = name;
    this.page = page;
    // What a person with the console open would see: errors, warnings, policy violations.
    this.complaints = [];
    page.on("console", (message) => {
      if (!["error", "warning"].includes(message.type())) return;
      this.complaints.push(`${message.type()}: ${message.text()}`);
    });
    page.on("pageerror", (error) => this.complaints.push(`uncaught: ${error.stack}`));
    page.setDefaultTimeout(PATIENCE_MS);
  }

  static async arrive(browser, name, options = {}) {
    const context = await browser.newContext(options);
    return new Visitor(name, await context.newPage());
  }

  /** Through the door, into a conversation. */
  async enter(conversationId) {
    await this.page.goto(`${url}/#${encodeURIComponent(conversationId)}`);
    await this.page.getByLabel("Your name").fill(this.name);
    await this.page.getByRole("button", { name: "Enter" }).click();
    await this.isShown("connected");
  }

  /** Writes a message and presses Enter. */
  async say(text) {
    const field = this.page.getByLabel("Message", { exact: true });
    await field.fill(text);
    await field.press("Enter");
  }

  /** Waits until a message with this text is settled in its place. */
  sees(text, ms = PATIENCE_MS) {
    const settled = this.page.locator("#messages .message:not(.pending) .content");
    return settled.getByText(text, { exact: true }).first().waitFor({ timeout: ms });
  }

  /** Waits until the connection's state reads like this. */
  isShown(state, ms = PATIENCE_MS) {
    return this.page.locator(`#state[data-state="${state}"]`).waitFor({ timeout: ms });
  }

  /** Waits for a notice with this text, and returns it. */
  async isTold(text, ms = PATIENCE_MS) {
    const notice = this.page.locator("#notice").filter({ hasText: text, visible: true });
    await notice.waitFor({ timeout: ms });
    return notice.textContent();
  }

  /** The settled messages: `{text, place, isOwn}` in the order shown. */
  messages() {
    return this.page.locator("#messages .message:not(.pending)").evaluateAll((rows) =>
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

  /** How far the page is wider than the window. */
  overflow() {
    return this.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  }
}
