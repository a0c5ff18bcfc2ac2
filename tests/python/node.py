"""The node under test, and tokens for it.

VESTIBULE_URL            where clients connect, e.g. http://127.0.0.1:8080 (required)
VESTIBULE_TOKEN_COMMAND  a command that prints a token when `--user NAME [--scope TEXT]` is added,
                         e.g. `vestibule token --data DIR` (required)
"""

import json
import os
import secrets
import shlex
import subprocess
import urllib.error
import urllib.request
from functools import cache

URL = os.environ["VESTIBULE_URL"].rstrip("/")
TOKEN_COMMAND = os.environ["VESTIBULE_TOKEN_COMMAND"]


def unique(prefix):
    """A name that no other test uses."""
    return f"{prefix}-{secrets.token_hex(6)}"


@cache
def token(user, scope=""):
    """A token for a user who may be in every conversation."""
    options = ["--user", user, *(["--scope", scope] if scope else [])]
    command = f"{TOKEN_COMMAND} {shlex.join(options)}"
    done = subprocess.run(command, shell=True, check=True, capture_output=True, text=True)
    return done.stdout.split()[-1]


def rest(path, *, method="GET", bearer=None, body=None):
    """Status, headers and JSON of an answer."""
    request = urllib.request.Request(URL + path, method=method)
    if bearer:
        request.add_header("authorization", f"Bearer {bearer}")
    if body is not None:
        request.add_header("content-type", "application/json")
        request.data = json.dumps(body).encode()
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
            return answer.status, answer.headers, json.loads(text) if text else None
    except urllib.error.HTTPError as answer:
        text = answer.read()
        return answer.code, answer.headers, json.loads(text) if text else None
