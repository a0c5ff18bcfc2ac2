"""Where everything is that the checks use, and how programs are run."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tests/operations/tools/bin"
CHART = ROOT / "helm/vestibule"


def target() -> Path:
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target")


def program() -> Path:
    """The node: VESTIBULE_PROGRAM, or what was built last."""
    if named := os.environ.get("VESTIBULE_PROGRAM"):
        return Path(named)
    built = [path for path in (target() / "debug/vestibule", target() / "release/vestibule") if path.exists()]
    assert built, "no node to check with: run cargo build, or set VESTIBULE_PROGRAM"
    return max(built, key=lambda path: path.stat().st_mtime)


def run(*command, status=0, **options) -> str:
    """Runs a program to its end; fails with its output unless it ends as expected. Gives what it printed."""
    command = [str(part) for part in command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, **options)
    both = done.stdout + done.stderr
    wanted = done.returncode == 0 if status == 0 else done.returncode != 0
    assert wanted, f"{' '.join(command)} ended with {done.returncode}:\n{both}"
    return done.stdout if status == 0 else both


def tool(name: str, *arguments, **options) -> str:
    assert (TOOLS / name).exists(), f"{name} is not there: run scripts/operations-tools.sh"
    return run(TOOLS / name, *arguments, **options)
