#!/usr/bin/env python3
"""Writes what in helm/vestibule follows from other files; with --check it only says what is out of date.

README.md             the table of values, from the comments in values.yaml
values.schema.json    the sections of `config`, from docs/config.example.toml
"""

import json
import re
import sys
from pathlib import Path

import yaml

try:
    import tomllib
except ImportError:  # before Python 3.11
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "helm/vestibule"
BEGIN, END = "<!-- values: begin -->", "<!-- values: end -->"


def described(text):
    """The keys of values.yaml with their comments and defaults, in order."""
    values, path, comment = yaml.safe_load(text), [], []
    for line in text.splitlines():
        if found := re.match(r"\s*# -- (.*)", line):
            comment = [found[1]]
        elif comment and (found := re.match(r"\s*# (.*)", line)):
            comment.append(found[1])
        elif found := re.match(r"( *)([A-Za-z]\w*):", line):
            path[len(found[1]) // 2:] = [found[2]]
            if comment:
                value = values
                for key in path:
                    value = value[key]
                yield ".".join(path), json.dumps(value, ensure_ascii=False), " ".join(comment)
            comment = []


def table(text):
    cell = lambda words: words.replace("|", "\\|")
    rows = [f"| `{key}` | `{cell(default)}` | {cell(says)} |" for key, default, says in described(text)]
    return "\n".join(["| key | default | what it does |", "|---|---|---|", *rows])


def readme():
    text = (CHART / "README.md").read_text()
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table((CHART / 'values.yaml').read_text())}\n{END}{rest.split(END)[1]}"


def kind(value, comment):
    """A schema for one key of the configuration."""
    if isinstance(value, bool):
        return {"type": "boolean"}
    if isinstance(value, int):
        schema = {"type": "integer"}
        if found := re.search(r"Allowed: (\d+) to (\d+)\.", comment):
            schema |= {"minimum": int(found[1]), "maximum": int(found[2])}
        return schema
    if isinstance(value, list):
        return {"type": "array", "items": {"type": "string"}}
    return {"type": "string"}


def config_schema():
    """The sections and keys there are; nothing else is allowed."""
    text = (ROOT / "docs/config.example.toml").read_text()
    values, root, path, comment = tomllib.loads(text), {"type": "object", "additionalProperties": False, "properties": {}}, [], ""
    at = lambda keys: values if not keys else at(keys[:-1])[keys[-1]]
    for line in text.splitlines():
        if found := re.match(r"\[([\w.]+)\]", line):
            path, comment = found[1].split("."), ""
        elif found := re.match(r"# ?(.*)", line):
            comment += " " + found[1]
        elif found := re.match(r"(\w+) = ", line):
            place = root["properties"]
            for name in path:
                place = place.setdefault(name, {"type": "object", "additionalProperties": False, "properties": {}})["properties"]
            place[found[1]] = kind(at(path)[found[1]], comment)
            comment = ""
    return root


def schema():
    text = json.loads((CHART / "values.schema.json").read_text())
    text["properties"]["config"] = config_schema()
    return json.dumps(text, indent=2) + "\n"


def main():
    late = []
    for name, make in (("README.md", readme), ("values.schema.json", schema)):
        wanted = make()
        if (CHART / name).read_text() != wanted:
            late.append(name)
            if "--check" not in sys.argv:
                (CHART / name).write_text(wanted)
    if late and "--check" in sys.argv:
        sys.exit(f"out of date: {', '.join(late)} of helm/vestibule; run scripts/chart.py")


if __name__ == "__main__":
    main()
