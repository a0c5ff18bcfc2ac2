// Every row of the catalogue through the balancer: each connection and request comes to another node.

import { after, test } from "node:test";
import { rows } from "../vocabulary/rows.js";
import { words } from "../vocabulary/words.js";
import { anywhere, leave, withoutLog } from "./deployment.js";

after(leave);

for (const [type, does] of Object.entries(rows)) {
  test(type, { skip: withoutLog }, () => does(anywhere));
}
// Takes hold of an embedded node's file; what a cluster's servers do is tests/gateway/degraded.rs.
const { degraded: _ofOneFile, ...everywhere } = words;
for (const [word, does] of Object.entries(everywhere)) {
  test(word, { skip: withoutLog, todo: does.todo }, () => does(anywhere));
}
