// Times and names as the page writes them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { pageModule } from "./modules.js";

const format = await pageModule("format.js");

test("times are told as a person would", () => {
  const now = new Date(2026, 10, 3, 12, 0);
  const before = (ms) => new Date(now - ms).toISOString();
  const told = [10_000, 5 * 60_000, 3 * 3_600_000, 24 * 3_600_000].map((ms) => format.ago(before(ms), now));
  assert.deepEqual(told, ["just now", "5 minutes ago", "3 hours ago", "yesterday"]);
  assert.equal(format.dayLabel(new Date(2026, 10, 3), now), "Today");
  assert.equal(format.dayLabel(new Date(2026, 10, 2, 23, 59), now), "Yesterday");
  assert.equal(format.wait(200), "1 s");
  assert.equal(format.wait(3 * 3_600_000), "3 hours");
});

test("names become initials, lists, user names and guests", () => {
  const initials = ["Ada Lovelace", "bo", "Jean-Luc P.", "😀", "", "ödön"].map(format.initials);
  assert.deepEqual(initials, ["AL", "B", "JP", "?", "?", "Ö"]);
  assert.equal(format.listing(["Ada", "Bo", "Cleo", "Dan", "Eve"]), "Ada, Bo and 3 others");
  assert.equal(format.listing(["Ada", "Bo"]), "Ada and Bo");
  assert.equal(format.userNameOf("  Ödön von Horváth "), "odon.von.horvath");
  assert.equal(format.nameInId(format.guestId("Quiet Otter")), "Quiet Otter");
  assert.equal(format.isGuest("ada"), false);
  const told = format.withNames("Hey @ada.l, @guest-Bo. me@x", (id) => `<${id}>`);
  assert.equal(told, "Hey @<ada.l>, @<guest-Bo>. me@x");
});
