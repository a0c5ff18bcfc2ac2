// Prints a token signed with the secret in VESTIBULE_SECRET: `node lib/sign.js --user NAME [--rooms GLOB]`.

import { parseArgs } from "node:util";
import { signed } from "./claims.js";

const { values } = parseArgs({ options: { user: { type: "string" }, rooms: { type: "string" } } });
console.log(signed({ sub: values.user, rooms: [values.rooms ?? "*"] }));
