// Many conversations on the page: groups, members, unread counts, changes, presence, notifications.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { Company } from "../lib/browser.js";
import { unique } from "../lib/node.js";
import { eventually } from "../lib/peer.js";

const company = new Company();

before(() => company.open());
after(() => company.close());
afterEach(async () => assert.deepEqual(await company.leave(), []));

/** Ada and Bo are in, each in a room of their own; then Ada makes a group of both. */
async function group() {
  const [ada, bo] = [await company.arrive("ada"), await company.arrive("bo")];
  await Promise.all([ada.enter(unique("home")), bo.enter(unique("home"))]);
  const title = unique("Plans");
  const { page } = ada;
  await page.getByRole("button", { name: "New conversation" }).first().click();
  await page.getByLabel("With whom?").fill(bo.guestId);
  await page.keyboard.press("Enter");
  await page.getByLabel("Title").fill(title);
  await page.getByRole("button", { name: "Start", exact: true }).click();
  await page.getByRole("heading", { name: title }).waitFor();
  return { ada, bo, title };
}

test("a group appears at its members, with what is unread, until it is read", async () => {
  const { ada, bo, title } = await group();
  await bo.listed(title).waitFor();
  await ada.say("first");
  await ada.say("second");
  await bo.hasUnread(title, 2);
  await bo.listed(title).getByText("second").waitFor();
  assert.match(await bo.page.title(), /^\(2\) /);
  await bo.listed(title).click();
  await bo.sees("second");
  await bo.page.locator(".rule.fresh").waitFor();
  await bo.hasUnread(title, 0);
  // Ada sees that it was read.
  const seen = ada.rows("second").locator(".seen");
  await seen.waitFor();
  assert.equal(await seen.getAttribute("title"), `Seen by ${bo.name}`);
  await bo.say("answer");
  await ada.sees("answer");
  await seen.waitFor({ state: "detached" });
});

test("a message is edited, reacted to and deleted for everybody", async () => {
  const { ada, bo, conversationId } = await company.two();
  await ada.say("teh plan");
  await bo.sees("teh plan");
  await ada.use("Edit", "teh plan");
  await ada.page.keyboard.press("ControlOrMeta+a");
  await ada.page.keyboard.type("the plan");
  await ada.page.keyboard.press("Enter");
  await bo.sees("the plan");
  await bo.rows("the plan").getByText("edited").waitFor();

  await bo.use("React", "the plan");
  await bo.page.getByRole("button", { name: "React with 👍" }).click();
  const chip = (visitor) => visitor.rows("the plan").locator(".chip-button");
  await chip(ada).getByText("👍1").waitFor();
  assert.equal(await chip(ada).getAttribute("aria-label"), `👍 1 by ${bo.name}`);
  await chip(ada).click();
  await chip(bo).getByText("👍2").waitFor();
  await chip(ada).click();
  await chip(bo).getByText("👍1").waitFor();

  // Who comes later sees the same.
  const cleo = await company.arrive("cleo");
  await cleo.enter(conversationId);
  await cleo.rows("the plan").getByText("edited").waitFor();
  await chip(cleo).getByText("👍1").waitFor();

  await ada.use("Delete", "the plan");
  await ada.page.getByRole("button", { name: "Delete", exact: true }).last().click();
  for (const visitor of [ada, bo, cleo]) await visitor.sees("Message deleted");
  assert.equal(await bo.page.getByText("the plan").count(), 0);
  assert.equal(await bo.page.getByRole("button", { name: "Delete" }).count(), 0, "only one's own");
});

test("members are added, get a role, are removed, and leave", async () => {
  const { ada, bo, title } = await group();
  const cleo = await company.arrive("cleo");
  await cleo.enter(unique("home"));
  await ada.page.getByRole("button", { name: "Details and members" }).click();
  const details = ada.page.locator("#details");
  await details.getByLabel("Add somebody").fill(cleo.guestId);
  await details.getByRole("button", { name: "Add", exact: true }).click();
  const member = (visitor) => details.locator(".members li").filter({ hasText: visitor.name });
  await member(cleo).waitFor();
  await cleo.listed(title).waitFor();
  await member(bo).getByLabel(`Role of ${bo.name}`).selectOption("moderator");
  await member(bo).getByText("Moderator · online").waitFor();

  await member(cleo).getByRole("button", { name: `Remove ${cleo.name}` }).click();
  await ada.page.locator("#confirm-yes").click();
  await member(cleo).waitFor({ state: "detached" });
  await cleo.listed(title).waitFor({ state: "detached" });
  await cleo.isTold(`You are no longer in ${title}.`);

  await bo.listed(title).click();
  await bo.page.getByRole("button", { name: "Details and members" }).click();
  await bo.page.getByRole("button", { name: "Leave this conversation" }).click();
  await bo.page.locator("#confirm-yes").click();
  await bo.listed(title).waitFor({ state: "detached" });
});

test("people who know each other see who is here, and when somebody was last seen", async () => {
  const [ada, bo] = [await company.arrive("ada"), await company.arrive("bo")];
  await ada.enter(unique("home"));
  await bo.enter(`@${ada.guestId}`);
  await bo.page.locator("#subtitle").getByText("Online").waitFor();
  await ada.page.close();
  await bo.page.locator("#subtitle").getByText(/^Last seen/).waitFor({ timeout: 30_000 });
});

test("typing shows in the list too", async () => {
  const { ada, bo, title } = await group();
  await bo.listed(title).waitFor();
  await ada.page.getByLabel("Message", { exact: true }).pressSequentially("hm");
  await bo.listed(title).getByText(`${ada.name} is typing…`).waitFor();
});

test("a mention is a notification, which leads to the conversation and is read there", async () => {
  const { ada, bo, title } = await group();
  await bo.listed(title).waitFor();
  // The name is suggested: its first letters are enough.
  const field = ada.page.getByLabel("Message", { exact: true });
  await field.pressSequentially(`@${bo.name.slice(0, 2)}`);
  await ada.page.getByRole("option", { name: bo.name, selected: true }).waitFor();
  await ada.page.keyboard.press("Enter");
  await ada.page.keyboard.type("have a look");
  assert.equal(await field.inputValue(), `@${bo.guestId} have a look`);
  await ada.page.keyboard.press("Enter");
  const bell = bo.page.getByRole("button", { name: /^Notifications, 1 unread/ });
  await bell.waitFor();
  await bell.click();
  const notice = bo.page.locator("#notices li.unread").first();
  await notice.getByText(`mentioned you in ${title}`).waitFor();
  const isKept = bo.page.waitForResponse((one) => one.request().method() === "PATCH" && one.ok());
  await notice.getByRole("button").first().click();
  await bo.page.getByRole("heading", { name: title }).waitFor();
  await bo.page.getByRole("button", { name: "Notifications", exact: true }).waitFor();
  await isKept;
  await bo.page.reload();
  await bo.isShown("connected");
  await bo.page.getByRole("button", { name: "Notifications", exact: true }).waitFor();
});

test("a request to connect is asked and answered", async () => {
  const [ada, bo] = [await company.arrive("ada"), await company.arrive("bo")];
  await ada.enter(unique("home"));
  await bo.enter(`@${ada.guestId}`);
  await bo.page.getByRole("button", { name: "Details and members" }).click();
  await bo.page.getByRole("button", { name: "Ask to connect" }).click();
  await ada.page.getByRole("button", { name: /^Notifications, 1 unread/ }).click();
  await ada.page.locator("#notices").getByText("asks to connect").waitFor();
  await ada.page.getByRole("button", { name: "Accept" }).click();
  await ada.page.getByRole("button", { name: "Accept" }).waitFor({ state: "detached" });
  await bo.isTold(`${ada.name} is connected with you now.`);
});
