// Loads a module of the page into Node. The page's folder is no Node package, so a module is loaded
// from its text, with the modules that it imports.

import { readFile } from "node:fs/promises";

const folder = new URL("../../../src/web/assets/", import.meta.url);
/** Served beside the page's own, and kept where everybody finds it. */
const helper = new URL("../../../client/vestibule.js", import.meta.url);
const loaded = new Map();

async function address(file) {
  if (!loaded.has(file.href)) loaded.set(file.href, read(file));
  return loaded.get(file.href);
}

async function read(file) {
  let text = await readFile(file, "utf8");
  for (const [, path] of text.matchAll(/ from "(\.[^"]+)"/g)) {
    const from = path === "./vestibule.js" ? helper : new URL(path, file);
    text = text.replace(`"${path}"`, `"${await address(from)}"`);
  }
  return `data:text/javascript,${encodeURIComponent(text)}`;
}

export async function pageModule(path) {
  return import(await address(new URL(path, folder)));
}
