// The official client. Its package is installed with the client tests', so that there is one lock file.

import { createRequire } from "node:module";

const require = createRequire(new URL("../clients/package.json", import.meta.url));

export const { io } = require("socket.io-client");
