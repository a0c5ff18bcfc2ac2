"""Dockerfile, compose, and the balancers' files, as far as they can be judged without running them."""

import fnmatch
import os
import re
import shutil
import subprocess

import pytest
import yaml

from tools import CHART, ROOT, TOOLS, program, run, tool

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
NODES = ("node-1", "node-2", "node-3")


@pytest.fixture
def certificate(tmp_path):
    cert, key, pem = tmp_path / "c.pem", tmp_path / "k.pem", tmp_path / "p.pem"
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost")
    pem.write_text(cert.read_text() + key.read_text())
    return cert, key, pem


def test_hadolint_has_nothing_to_say():
    assert tool("hadolint", ROOT / "Dockerfile") == ""


def test_the_image_is_small_not_root_and_knows_its_health():
    text = (ROOT / "Dockerfile").read_text()
    runtime = text.split("AS runtime")[1]
    assert re.search(r"^USER 65532:65532$", runtime, re.M) and re.search(r'^HEALTHCHECK .*CMD \["vestibule", "health"\]$', runtime, re.M)
    assert 'ENTRYPOINT ["vestibule"]' in runtime and "STOPSIGNAL SIGTERM" in runtime
    for label in ("title", "description", "licenses", "version", "revision", "created"):
        assert f"org.opencontainers.image.{label}=" in runtime
    rust = re.search(r'rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text())[1]
    assert f"ARG RUST_VERSION={rust}\n" in text


def context(folder):
    """The files that .dockerignore lets through, as the builder sees them."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    fits = lambda path, pattern: any(fnmatch.fnmatch(part, pattern.replace("**/", "")) for part in (path, *map(str, _parents(path))))
    for path in run("git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        kept = True
        for line in lines:
            if fits(path, line.lstrip("!")):
                kept = line.startswith("!")
        if kept and (ROOT / path).is_file():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, folder / path)


def _parents(path):
    parts = path.split("/")
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


def test_the_build_gets_what_it_needs_and_little_else(tmp_path):
    context(tmp_path)
    # Fails when a target that Cargo.toml names is not there.
    run("cargo", "metadata", "--offline", "--no-deps", "--format-version", "1", "--manifest-path", tmp_path / "Cargo.toml")
    for path in (ROOT / "src").rglob("*.rs"):
        for kind, name in re.findall(r'(include_str|include_bytes)!\("([^"]+)"\)', path.read_text()):
            file = (tmp_path / path.relative_to(ROOT).parent / name).resolve()
            assert file.exists(), f"{path} includes {name}, which .dockerignore keeps out"
    assert not (tmp_path / "helm").exists() and not (tmp_path / "grafana").exists()


def test_the_program_needs_no_library_that_the_image_lacks():
    listed = run("ldd", program())
    packages = {"libc6": ("libc.so", "libm.so", "ld-linux", "libpthread", "libdl", "linux-vdso"), "libgcc-s1": ("libgcc_s",), "libssl3": ("libssl.so.3", "libcrypto.so.3"), "zlib1g": ("libz.so",)}
    known = [name for names in packages.values() for name in names]
    for line in listed.splitlines():
        assert any(name in line for name in known), f"the image has no {line.strip()}"


def test_compose_takes_the_file():
    tool("docker-compose", "--file", ROOT / "docker-compose.yml", "config", "--quiet")


def test_compose_starts_things_in_order_and_when_they_are_well():
    for name, service in SERVICES.items():
        assert ":" in service["image"] and not service["image"].endswith(":latest"), name
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_healthy" and "healthcheck" in SERVICES[other], f"{name} needs {other}"
    for node in NODES:
        assert set(SERVICES[node]["depends_on"]) == {"redis-1", "redis-2", "kafka", "postgres"}
    assert set(SERVICES["haproxy"]["depends_on"]) == set(NODES)


def test_compose_publishes_what_it_says_and_only_on_this_machine():
    published = {port.rsplit(":", 1)[0]: name for name, service in SERVICES.items() for port in service.get("ports", [])}
    assert all(address.startswith("127.0.0.1:") for address in published)
    wanted = {"8080": "haproxy", "8081": "node-1", "8090": "kafka-ui", "8091": "redis-ui", "3000": "grafana", "9090": "prometheus", "9093": "alertmanager", "9092": "kafka"}
    assert {address.split(":")[1]: name for address, name in published.items()} == wanted


def test_shards_keep_what_they_hold():
    for shard in ("redis-1", "redis-2"):
        command = SERVICES[shard]["command"]
        assert "--maxmemory-policy noeviction" in command and "--appendonly yes" in command and "--maxmemory 256mb" in command
        assert f"{shard}:/data" in SERVICES[shard]["volumes"]


def test_the_nodes_of_compose_have_a_configuration_that_holds(tmp_path):
    for node in NODES:
        lines = tool("docker-compose", "--file", ROOT / "docker-compose.yml", "config", "--format", "json")
        given = yaml.safe_load(lines)["services"][node]["environment"]
        env = {key: value for key, value in os.environ.items() if not key.startswith("VESTIBULE__")}
        image = dict(re.findall(r"(VESTIBULE__\w+)=(\S+)", (ROOT / "Dockerfile").read_text()))
        run(program(), "check-config", env={**env, **image, **given})


def test_a_drain_has_the_time_it_needs():
    spans = {"UNREADY": 0, "PARTING": 10, "FLUSHING": 10}
    for name in spans:
        given = SERVICES["node-1"]["environment"].get(f"VESTIBULE__DRAIN__{name}")
        spans[name] = int(given.rstrip("s")) if given else spans[name]
    assert int(SERVICES["node-1"]["stop_grace_period"].rstrip("s")) >= sum(spans.values()) + 2 + 5


def test_chart_and_compose_run_the_same_servers():
    chart = yaml.safe_load((CHART / "values.yaml").read_text())["evaluation"]
    for name, service in (("redis", "redis-1"), ("kafka", "kafka"), ("postgres", "postgres")):
        assert chart[name]["image"] == SERVICES[service]["image"]


@pytest.mark.parametrize("files", [("haproxy.cfg",), ("haproxy.cfg", "tls.cfg"), ("passthrough.cfg",)], ids="+".join)
def test_haproxy_takes_its_configuration(files, certificate):
    addresses = {f"NODE_{n}": f"127.0.0.1:{8080 + n}" for n in (1, 2, 3)}
    command = ["haproxy", "-c", "-q", *(word for file in files for word in ("-f", ROOT / "deploy/haproxy" / file))]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60,
                          env={**os.environ, **addresses, "VESTIBULE_PEM": str(certificate[2]), "VESTIBULE_MAXCONN": "2000"})
    assert done.returncode == 0 and "WARNING" not in done.stderr and "ALERT" not in done.stderr, done.stderr


def test_nginx_takes_its_configuration(tmp_path, certificate):
    text = (ROOT / "deploy/nginx/nginx.conf").read_text()
    text = re.sub(r"node-(\d):8080", r"127.0.0.1:808\1", text)
    text = text.replace("/etc/nginx/vestibule.crt", str(certificate[0])).replace("/etc/nginx/vestibule.key", str(certificate[1]))
    for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        text = text.replace("http {", f"http {{\n  {kind}_temp_path {tmp_path}/{kind};", 1)
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid;\n{text}")
    run(TOOLS / "nginx", "-t", "-e", "stderr", "-c", tmp_path / "nginx.conf")
