#!/usr/bin/env bash
# Runs the two official protocol test suites against examples/conformance.
#
#   scripts/official-suites.sh ENGINE_IO_PROTOCOL_DIR SOCKET_IO_PROTOCOL_DIR
#
# The arguments are checkouts of the repositories engine.io-protocol and socket.io-protocol of the
# Socket.IO project; their folder test-suite/ is copied to a temporary place, nothing is written into
# the checkouts. Port 3000 must be free: the suites name it. Our own tests of the same cases, which
# need no checkout and no fixed port, are in tests/conformance.
#
# The suites read one frame per `await`, so two frames in one TCP read lose the second, on any server.
# The Socket.IO suite therefore runs with a WebSocket that queues frames until somebody listens. The
# Engine.IO suite can not (two of its cases rely on a frame being lost) and is retried instead.
#
# CONFORMANCE_COMMAND  what to start in place of the example; gets [--engine-only] --port 3000

set -euo pipefail

readonly port=3000
readonly tries_max=3

if [[ $# -ne 2 ]]; then
  sed -n '4p' "$0" | cut -c3- >&2
  exit 64
fi
for dir in "$1" "$2"; do
  if [[ ! -f $dir/test-suite/test-suite.js ]]; then
    echo "official-suites: $dir holds no test-suite/test-suite.js" >&2
    exit 64
  fi
done
engine_dir=$(cd "$1" && pwd)
socket_dir=$(cd "$2" && pwd)
cd "$(dirname "$0")/.."

work=$(mktemp -d)
server=

stop_server() {
  if [[ -n $server ]]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
  fi
}

clean_up() {
  stop_server
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

if [[ -z ${CONFORMANCE_COMMAND:-} ]]; then
  cargo build --quiet --release --example conformance
  CONFORMANCE_COMMAND=${CARGO_TARGET_DIR:-target}/release/examples/conformance
fi

start_server() {
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    echo "official-suites: something listens on port $port already" >&2
    exit 1
  fi
  # shellcheck disable=SC2086 # a command line, split on purpose
  $CONFORMANCE_COMMAND "$@" --port "$port" >"$work/server.log" 2>&1 &
  server=$!
  local tries
  for ((tries = 0; tries < 100; tries++)); do
    if grep -q listening "$work/server.log"; then
      return
    fi
    if ! kill -0 "$server" 2>/dev/null; then
      break
    fi
    sleep 0.1
  done
  echo "official-suites: the server did not start:" >&2
  cat "$work/server.log" >&2
  exit 1
}

install_suite() {
  local name=$1 dir=$2
  cp -r "$dir/test-suite" "$work/$name"
  (cd "$work/$name" && npm ci --no-audit --no-fund --loglevel=error >"$work/$name.npm.log" 2>&1) || {
    cat "$work/$name.npm.log" >&2
    exit 1
  }
}

write_shim() {
  cat >"$1" <<'SHIM'
import fetch from "node-fetch";
import { WebSocket as Bare } from "ws";
import chai from "chai";
import chaiString from "chai-string";

// Frames wait until somebody listens, and are told one per macrotask.
class WebSocket extends Bare {
  #frames = [];
  #isDue = false;

  emit(event, ...args) {
    if (event !== "message") return super.emit(event, ...args);
    this.#frames.push(args);
    this.#later();
    return true;
  }

  addEventListener(...args) {
    super.addEventListener(...args);
    this.#later();
  }

  #later() {
    if (this.#isDue) return;
    this.#isDue = true;
    setImmediate(() => {
      this.#isDue = false;
      if (this.#frames.length === 0 || this.listenerCount("message") === 0) return;
      super.emit("message", ...this.#frames.shift());
      this.#later();
    });
  }
}

chai.use(chaiString);
Object.assign(globalThis, { fetch, WebSocket, chai });
SHIM
}

run_suite() {
  local title=$1 name=$2
  shift 2
  start_server "$@"
  local attempt
  for ((attempt = 1; attempt <= tries_max; attempt++)); do
    echo "$title suite, attempt $attempt of $tries_max"
    if (cd "$work/$name" && npm test --silent); then
      stop_server
      return 0
    fi
  done
  stop_server
  return 1
}

install_suite engine "$engine_dir"
install_suite socket "$socket_dir"
write_shim "$work/socket/node-imports.js"

failed=()
run_suite Engine.IO engine --engine-only || failed+=(Engine.IO)
run_suite Socket.IO socket || failed+=(Socket.IO)
if ((${#failed[@]} > 0)); then
  echo "official-suites: failed: ${failed[*]}" >&2
  exit 1
fi
echo "official-suites: both pass"
