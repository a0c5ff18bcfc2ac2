// Accounts on the page: in, out, devices, who is who.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { Company } from "../lib/browser.js";
import { unique, url } from "../lib/node.js";
import { eventually } from "../lib/peer.js";

const company = new Company();

before(() => company.open());
after(() => company.close());
afterEach(async () => assert.deepEqual(await company.leave(), []));

// A refused login is reported by the browser itself.
const REFUSED = /status of 4\d\d/;

test("a newcomer signs up, is somebody, and chats with whoever opens their link", async () => {
  const [ada, bo] = [await company.arrive("Ada"), await company.arrive("bo")];
  const started = Date.now();
  const { id } = await ada.signUp(unique("ada"));
  await ada.page.getByText("Choose a conversation").waitFor();
  await bo.enter(`@${id}`);
  await bo.page.getByRole("heading", { name: ada.name }).waitFor();
  await bo.say("found you");
  await ada.hasUnread(bo.name, 1);
  await ada.listed(bo.name).click();
  await ada.sees("found you");
  await ada.say("welcome");
  await bo.sees("welcome");
  await ada.hasUnread(bo.name, 0);
  assert.ok(Date.now() - started < 60_000, "a minute is enough");
});

test("an account's devices are listed, one ends another at once, and logging out ends this one", async () => {
  const [ada, phone] = [await company.arrive("Ada"), await company.arrive("Ada")];
  ada.allows(REFUSED);
  phone.allows(REFUSED);
  const account = await ada.signUp(unique("ada"));
  await phone.page.goto(`${url}/`);
  await phone.logIn({ ...account, password: "something else" });
  await phone.page.getByRole("alert").getByText(/wrong/).waitFor();
  await phone.logIn(account);
  await phone.isShown("connected");
  await phone.page.reload();
  await phone.isShown("connected");

  const settings = ada.page.getByRole("button", { name: "Account and settings" });
  await settings.click();
  await ada.page.getByText("This one").waitFor();
  const devices = ada.page.locator("#devices li");
  await eventually("two devices", async () => (await devices.count()) === 2);
  await devices.filter({ hasNot: ada.page.getByText("This one") }).getByRole("button").click();
  const ended = Date.now();
  await ada.page.getByRole("button", { name: "End it" }).click();
  await phone.page.getByText("You have been signed out. Come in again.").waitFor();
  assert.ok(Date.now() - ended < 3000, "within two seconds, and a moment to draw it");

  await ada.page.getByRole("textbox", { name: "Name", exact: true }).fill("Ada Byron");
  await ada.page.getByRole("button", { name: "Save" }).click();
  await ada.page.locator("#me-name").getByText("Ada Byron").waitFor();
  await ada.page.getByRole("button", { name: "Log out on this device" }).click();
  await ada.page.getByRole("tab", { name: "Log in", selected: true }).waitFor();
  assert.equal((await ada.page.context().cookies()).filter((one) => one.value !== "").length, 0);
  await ada.page.reload();
  await ada.page.getByRole("tab", { name: "Guest", selected: true }).waitFor();
});

test("an account is the browser's, a guest is the tab's", async () => {
  const ada = await company.arrive("Ada");
  const { id } = await ada.signUp(unique("ada"));
  const again = await company.alsoAt(ada);
  await again.page.goto(`${url}/`);
  await again.isShown("connected");
  await again.page.locator("#me-name").getByText(ada.name).waitFor();

  const guest = await company.alsoAt(ada);
  await guest.page.goto(`${url}/?guest#@${id}`);
  await guest.page.getByLabel("Your name").fill("Somebody Else");
  await guest.page.getByRole("button", { name: "Start chatting" }).click();
  await guest.page.getByRole("heading", { name: ada.name }).waitFor();
  await guest.say("from the tab beside");
  await ada.hasUnread("Somebody Else", 1);
  await again.hasUnread("Somebody Else", 1);
  await guest.page.reload();
  await guest.sees("from the tab beside");
  // What is read in one tab is read in the other.
  await ada.listed("Somebody Else").click();
  await ada.sees("from the tab beside");
  await again.hasUnread("Somebody Else", 0);
});

test("the door says which field is wrong", async () => {
  const ada = await company.arrive("Ada");
  ada.allows(REFUSED);
  await ada.page.route("**/api/signup", (route) => route.fulfill({
    status: 409,
    contentType: "application/problem+json",
    body: JSON.stringify({ code: "conflict", field: "email", detail: "there is such an email already" }),
  }));
  await ada.page.goto(`${url}/`);
  await ada.page.getByRole("tab", { name: "Sign up" }).click();
  const form = ada.page.locator("#signup-form");
  await form.getByLabel("Name", { exact: true }).fill("Ada Lovelace");
  assert.equal(await form.getByLabel("User name").inputValue(), "ada.lovelace");
  await form.getByLabel("E-mail").fill("ada@example.org");
  await form.getByLabel("Password").fill("correct horse battery");
  await form.getByRole("button", { name: "Create account" }).click();
  await form.getByRole("alert").getByText("there is such an email already").waitFor();
  assert.equal(await form.getByLabel("E-mail").getAttribute("aria-invalid"), "true");
  assert.equal(await form.getByLabel("E-mail").evaluate((field) => field === document.activeElement), true);
});

test("who logs in too often is told how long to wait", async () => {
  const ada = await company.arrive("Ada");
  ada.allows(REFUSED);
  await ada.page.route("**/api/login", (route) => route.fulfill({
    status: 429,
    headers: { "content-type": "application/problem+json", "retry-after": "2" },
    body: JSON.stringify({ code: "rate_limited", detail: "too many logins", retryAfterMs: 2000 }),
  }));
  await ada.page.goto(`${url}/`);
  await ada.logIn({ email: "ada@example.org", password: "whatever it is" });
  await ada.page.getByRole("alert").getByText("Too many attempts. Try again in 2 s.").waitFor();
  assert.equal(await ada.page.getByRole("button", { name: /Log in \(/ }).isDisabled(), true);
  await ada.page.locator("#login-form").getByRole("button", { name: "Log in", exact: true }).waitFor();
  assert.equal(await ada.page.locator("#login-form [type=submit]").isDisabled(), false);
});
