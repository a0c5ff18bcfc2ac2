#!/usr/bin/env bash
# Installs what building and testing need and this machine lacks; says nothing when all is there.
#
#   scripts/setup.sh            everything
#   scripts/setup.sh --build    only what building needs
#
# As root, or with sudo for the Debian packages. Rust and Node.js are not installed here, only asked
# for: a machine's owner has chosen them; Python is, where there is none. Safe to run twice, also at the same time.

set -euo pipefail

readonly rust_min=1.95
readonly node_min=20
readonly python_min=3.10

cd "$(dirname "$0")/.."

# One at a time in this checkout; apt has a lock of its own.
exec 9<"scripts/setup.sh"
flock 9

fail() {
  echo "setup: $*" >&2
  exit 1
}

is_at_least() { # is_at_least MINIMUM FOUND
  [[ $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]
}

require_rust() {
  command -v cargo >/dev/null || fail "needs Rust $rust_min or later: https://rustup.rs"
  local found
  found=$(rustc --version | cut -d' ' -f2)
  is_at_least "$rust_min" "$found" || fail "needs Rust $rust_min or later, found $found"
  local part
  for part in fmt clippy; do
    cargo "$part" --version >/dev/null 2>&1 || fail "needs cargo $part: rustup component add rustfmt clippy"
  done
}

require_node() {
  local tool found
  for tool in node npm; do
    command -v "$tool" >/dev/null ||
      fail "needs Node.js $node_min or later with npm, for the client tests: https://nodejs.org"
  done
  found=$(node --version | tr -d v)
  is_at_least "$node_min" "$found" || fail "needs Node.js $node_min or later, found $found"
}

require_python() {
  local found
  found=$(python3 -c 'import platform; print(platform.python_version())')
  is_at_least "$python_min" "$found" || fail "needs Python $python_min or later, found $found: https://www.python.org"
}

as_root() {
  if [[ $(id -u) -eq 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    fail "needs root or sudo for: $*"
  fi
}

apt() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@"
}

# What the compiler needs; the log's client library is compiled from C.
build_packages() {
  packages=()
  command -v cc >/dev/null || packages+=(build-essential)
  command -v pkg-config >/dev/null || packages+=(pkg-config)
  [[ -e /usr/include/openssl/ssl.h ]] || packages+=(libssl-dev)
  [[ -e /usr/include/zlib.h ]] || packages+=(zlib1g-dev)
}

test_packages() {
  [[ -x ${VESTIBULE_CHROMIUM:-/usr/bin/chromium} ]] || packages+=(chromium)
  command -v python3 >/dev/null || packages+=(python3)
  command -v redis-server >/dev/null || packages+=(redis-server)
  command -v haproxy >/dev/null || packages+=(haproxy)
  # Only the programs: the tests start servers of their own.
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || packages+=(postgresql)
  command -v java >/dev/null || packages+=(default-jre-headless)
  command -v mvn >/dev/null || packages+=(maven)
  command -v psql >/dev/null || packages+=(postgresql-client)
  # For a node whose clock is wrong.
  command -v faketime >/dev/null || packages+=(faketime)
  # Debian ships Python without the part that makes environments.
  python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
}

install_packages() {
  ((${#packages[@]} > 0)) || return 0
  command -v apt-get >/dev/null || fail "please install: ${packages[*]} (VESTIBULE_CHROMIUM names another Chromium)"
  echo "setup: installing ${packages[*]}" >&2
  apt update >&2
  apt install -y --no-install-recommends "${packages[@]}" >&2
}

# The stamp holds the lock file that was installed, so that a changed one is installed anew.
install_node_packages() {
  local stamp=tests/clients/node_modules/.installed
  ! cmp --silent tests/clients/package-lock.json "$stamp" || return 0
  echo "setup: installing the packages of tests/clients" >&2
  (cd tests/clients && npm ci --no-audit --no-fund --loglevel=error >&2)
  cp tests/clients/package-lock.json "$stamp"
}

# As above. An environment that was moved or lost its Python is made anew.
install_python_packages() {
  local folder=tests/python/.venv requirements=tests/python/requirements.txt
  ! { cmp --silent "$requirements" "$folder/.installed" && "$folder/bin/python" -c '' 2>/dev/null; } || return 0
  echo "setup: installing the packages of tests/python" >&2
  python3 -m venv --clear "$folder"
  "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements" >&2
  cp "$requirements" "$folder/.installed"
}

# The broker's jars, from Maven Central. The stamp holds the list that was fetched.
fetch_kafka() {
  local folder=tests/servers/kafka
  ! cmp --silent "$folder/pom.xml" "$folder/jars/.installed" || return 0
  echo "setup: fetching the jars of Kafka" >&2
  mvn --quiet --batch-mode --file "$folder/pom.xml" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory=jars >&2
  cp "$folder/pom.xml" "$folder/jars/.installed"
}

require_rust
build_packages
if [[ ${1:-} == --build ]]; then
  install_packages
  exit
fi
require_node
test_packages
install_packages
require_python
install_node_packages
install_python_packages
fetch_kafka
scripts/operations-tools.sh
