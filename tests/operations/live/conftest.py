import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from cluster import Cluster  # noqa: E402
from tools import run  # noqa: E402


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("cluster"), limits__enabled="false") as running:
        yield running


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """Files of a pair for this machine's loopback address: certificate, key, both."""
    folder = tmp_path_factory.mktemp("certificate")
    cert, key, pem = folder / "cert.pem", folder / "key.pem", folder / "pair.pem"
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    pem.write_text(cert.read_text() + key.read_text())
    return cert, key, pem
