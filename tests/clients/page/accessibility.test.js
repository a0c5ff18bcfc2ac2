// Every main state of the page: nothing for axe to complain of, nothing wider than the window; light
// and dark, on a wide window and on a phone.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, afterEach, before, test } from "node:test";
import { Company, PHONE } from "../lib/browser.js";
import { unique, url } from "../lib/node.js";

const company = new Company();
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const WIDE = { viewport: { width: 1280, height: 800 } };
const SIZES = { "a wide window": WIDE, "a phone": PHONE };

before(() => company.open());
after(() => company.close());
afterEach(async () => assert.deepEqual(await company.leave(), []));

/** Fails if axe finds something in this state, light or dark, or the page is wider than the window. */
async function isFine(visitor, state, looks = ["light", "dark"]) {
  const { page } = visitor;
  // Evaluated, not added as a script: the page's policy would not allow that.
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axe);
  for (const colorScheme of looks) {
    await page.emulateMedia({ colorScheme });
    const violations = await page.evaluate(async () => {
      const { violations: found } = await window.axe.run(document, { resultTypes: ["violations"] });
      return found.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.target.join(" ")).join(", ")}`);
    });
    assert.deepEqual(violations, [], `${state}, ${colorScheme}`);
  }
  assert.ok((await visitor.overflow()) <= 0, `${state}: the page scrolls sideways`);
}

for (const [size, options] of Object.entries(SIZES)) {
  // Colours in motion are judged where they come to rest.
  const settings = { ...options, reducedMotion: "reduce" };
  const isPhone = options === PHONE;

  test(`the door is accessible on ${size}`, async () => {
    const ada = await company.arrive("ada", settings);
    await ada.page.goto(`${url}/`);
    for (const way of ["Guest", "Sign up", "Log in", "Token"]) {
      await ada.page.getByRole("tab", { name: way }).click();
      await isFine(ada, way);
    }
    await ada.page.getByRole("textbox", { name: "Your token" }).fill("nonsense");
    await ada.page.getByRole("button", { name: "Enter" }).click();
    await ada.page.getByRole("alert").getByText("not a token").waitFor();
    await isFine(ada, "a refusal");
    await ada.page.getByRole("tab", { name: "Token" }).focus();
    await ada.page.keyboard.press("ArrowRight");
    await ada.page.getByRole("tab", { name: "Guest", selected: true }).waitFor();
  });

  test(`the chat is accessible on ${size}`, async () => {
    const { ada, bo } = await company.two(settings);
    const { page } = ada;
    await isFine(ada, "an empty conversation");
    await ada.say("hello");
    await ada.say(`https://example.org/${"long/".repeat(60)}`);
    await bo.say("x".repeat(300));
    await bo.say(`@${ada.guestId} 🎉`);
    await bo.sees("hello");
    await bo.use("React", "hello");
    await bo.page.getByRole("button", { name: "React with ❤️" }).click();
    await ada.page.locator(".chip-button").waitFor();
    await bo.page.getByLabel("Message", { exact: true }).pressSequentially("and");
    await page.locator("#typing:not(:empty)").waitFor();
    await isFine(ada, "messages");
    await ada.page.getByLabel("Message", { exact: true }).pressSequentially("@");
    await page.getByRole("option").waitFor();
    await isFine(ada, "who is meant");
    await page.keyboard.press("Escape");

    await ada.use("React", "hello");
    await isFine(ada, "choosing a reaction");
    await page.keyboard.press("Escape");
    await ada.use("Edit", "hello");
    await isFine(ada, "editing");
    await page.keyboard.press("Escape");
    await ada.use("Delete", "hello");
    await isFine(ada, "a question");
    await page.locator("#confirm-yes").click();
    await ada.sees("Message deleted");

    await page.getByRole("button", { name: "Details and members" }).click();
    await isFine(ada, "details");
    await page.keyboard.press("Escape");
    if (isPhone) await page.getByRole("button", { name: "All conversations" }).click();
    await isFine(ada, "the list");
    await page.getByRole("button", { name: /^Notifications/ }).click();
    await isFine(ada, "notifications");
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "New conversation" }).first().click();
    await page.getByLabel("With whom?").fill(bo.guestId);
    await page.keyboard.press("Enter");
    await isFine(ada, "a new conversation");
    await page.getByLabel("Title").fill(unique("Plans"));
    await page.getByRole("button", { name: "Start", exact: true }).click();
    await page.locator("#empty").waitFor();
    await page.getByRole("button", { name: "Details and members" }).click();
    await page.getByLabel(`Role of ${bo.name}`).waitFor();
    await isFine(ada, "members");
    await page.keyboard.press("Escape");
    if (isPhone) await page.getByRole("button", { name: "All conversations" }).click();
    await page.getByRole("button", { name: "Account and settings" }).click();
    await page.locator("#devices-note, #devices li").first().waitFor();
    await isFine(ada, "the account");
  });
}

test("light and dark can be chosen, and the choice stays", async () => {
  const { ada } = await company.two({ colorScheme: "light" });
  const paper = () => ada.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await paper();
  await ada.page.getByRole("button", { name: "Account and settings" }).click();
  await ada.page.getByRole("radio", { name: "Dark" }).check();
  assert.notEqual(await paper(), light);
  const dark = await paper();
  await ada.page.reload();
  await ada.isShown("connected");
  assert.equal(await paper(), dark);
  await isFine(ada, "chosen dark", ["light"]);
});

test("every field and button has a name, and each message one way in by keyboard", async () => {
  const { ada } = await company.two();
  for (const text of ["one", "two", "three"]) await ada.say(text);
  await ada.sees("three");
  const found = await ada.page.evaluate(() => ({
    nameless: [...document.querySelectorAll("button, input, textarea, select, section")]
      .filter((one) => one.offsetParent && !one.labels?.length && !one.getAttribute("aria-label")
        && !one.getAttribute("aria-labelledby") && !one.textContent.trim())
      .map((one) => one.id || one.outerHTML.slice(0, 60)),
    reachable: document.querySelectorAll("li.message[tabindex='0']").length,
  }));
  assert.deepEqual(found, { nameless: [], reachable: 1 });
});

test("nothing on the page moves while it comes up", async () => {
  const conversationId = unique("lobby");
  const ada = await company.arrive("ada");
  await ada.enter(conversationId);
  for (let i = 0; i < 20; i += 1) await ada.say(`line ${i}`);
  await ada.sees("line 19");
  await ada.page.addInitScript(() => {
    window.shifted = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
    }).observe({ type: "layout-shift", buffered: true });
  });
  await ada.page.reload();
  await ada.sees("line 19");
  await ada.isShown("connected");
  assert.ok((await ada.page.evaluate(() => window.shifted)) < 0.02, "layout shift");
});
