// The built-in catalogue as text, a block for each row; and the words of its page that have no row.

import { readFileSync } from "node:fs";
import { join } from "node:path";

const FILE = join(import.meta.dirname, "../../../src/events/catalogue.toml");

export const text = readFileSync(FILE, "utf8");

const PAGE = join(import.meta.dirname, "../../../docs/VOCABULARY.md");

/** The first column of the page's tables of what is handled and told by code. */
export const coded = readFileSync(PAGE, "utf8")
  .split(/^(?:Handled|Told) by code, without a row:$/m)
  .slice(1)
  .flatMap((part) => part.split(/^## /m)[0].match(/^\| `[^`]+`/gm))
  .map((cell) => cell.slice(3, -1));

const [head, ...blocks] = text.split(/^(?=\[\[event\]\]$)/m);

const value = (block, key) => new RegExp(`^${key} = "(.*)"$`, "m").exec(block)?.[1];

/** All rows: `{type, client?, who?, limiter?, block}`. */
export const catalogue = blocks.map((block) => ({
  type: value(block, "type"),
  client: value(block, "client"),
  who: value(block, "who"),
  limiter: value(block, "limiter"),
  block,
}));

/** A file in place of the built-in one: all of it but a row, and what other rows say of that. */
export function without(type) {
  const kept = catalogue.filter((row) => row.type !== type).map(({ block }) => {
    const [row, ...parts] = block.split(/^(?=\[\[event\.)/m);
    return row + parts.filter((part) => value(part, "type") !== type).join("");
  });
  return `replace = true\n${head}${kept.join("")}`;
}
