"""The description at /api/openapi.json: valid, and what the node does is what it says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from node import URL, rest, token, unique
from openapi_spec_validator import OpenAPIV31SpecValidator

# Everything that a service may be allowed.
SCOPES = (
    "events:write records:read records:write users:act users:ban members:write notifications:write"
)
# Both runs together stay under a minute.
SECONDS = int(os.environ.get("SCHEMATHESIS_SECONDS", "25"))
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance,negative_data_rejection,"
    "missing_required_header,unsupported_method,allow_header_conformance"
)
# What would take the run's own token away.
ENDS_THE_RUN = ("logOut", "endSession", "ban")
METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def document():
    status, headers, document = rest("/api/openapi.json")
    assert status == 200
    assert headers["content-type"] == "application/json"
    return document


def test_the_description_is_openapi_3_1(document):
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_every_operation_has_its_own_id_and_says_how_it_refuses(document):
    operations = [
        (f"{method} {path}", operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]
    ids = [operation["operationId"] for _, operation in operations]
    assert len(set(ids)) == len(ids) > 30
    for name, operation in operations:
        assert "429" in operation["responses"], name
        if operation.get("security") != []:
            assert "401" in operation["responses"], name


def test_who_has_no_token_is_told_so_everywhere(document):
    for path, item in document["paths"].items():
        for method in METHODS & item.keys():
            if item[method].get("security") == []:
                continue
            filled = path
            for name in ("id", "userId", "kind"):
                filled = filled.replace(f"{{{name}}}", "x")
            body = {} if "requestBody" in item[method] else None
            status, headers, answer = rest(filled, method=method.upper(), body=body)
            assert status == 401, f"{method} {path}: {status} {answer}"
            assert headers["content-type"] == "application/problem+json"
            assert answer["code"] == "unauthenticated"


def test_other_methods_are_told_which_there_are(document):
    for path, item in document["paths"].items():
        filled = path.replace("{", "").replace("}", "")
        for method in METHODS - item.keys():
            status, headers, _ = rest(filled, method=method.upper(), bearer=token("ada"))
            assert status == 405, f"{method} {path}: {status}"
            allowed = {one.strip().lower() for one in headers["allow"].split(",")}
            assert allowed == METHODS & item.keys(), path


def conforms(bearer, folder):
    """Requests made from the description, right ones and wrong ones."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{URL}/api/openapi.json"]
    command += ["--url", URL, "--header", f"Authorization: Bearer {bearer}", "--checks", CHECKS]
    command += ["--max-time", str(SECONDS), "--max-examples", "20", "--workers", "1"]
    command += ["--phases", "examples,coverage,fuzzing", "--continue-on-failure", "--no-color"]
    command += ["--request-timeout", "10", "--suppress-health-check", "all"]
    command += [word for one in ENDS_THE_RUN for word in ("--exclude-operation-id", one)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_a_user_is_answered_as_described(tmp_path):
    account = {"email": f"{unique('ada')}@example.com", "password": "correct horse", "name": "Ada"}
    status, _, login = rest("/api/signup", method="POST", body=account)
    assert status == 201, login
    conforms(login["token"], tmp_path)


def test_a_service_is_answered_as_described(tmp_path):
    conforms(token(unique("service"), SCOPES), tmp_path)
