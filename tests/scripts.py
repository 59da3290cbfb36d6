"""Runs examples and the code of pages as a user does: each as a script in a process of its own.

A comment ``# -> text`` is a line of what it prints, or the beginning of one.
"""

import os
import re
import subprocess
import sys

import pytest

NEEDS = ("flask", "keras", "matplotlib", "onnxruntime", "sklearn")


def expected(text):
    return re.findall(r"^ *# -> (.+)$", text, re.MULTILINE)


def run_script(path, folder):
    """Run a script in a folder, and compare what it prints with what it says."""
    text = path.read_text()
    for module in NEEDS:
        if re.search(rf"^ *(?:import|from) {module}\b", text, re.MULTILINE):
            pytest.importorskip(module)
    # It chooses its backend itself, as it must where a user starts it.
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    run = subprocess.run(
        [sys.executable, path],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    lines = iter(run.stdout.splitlines())
    for beginning in expected(text):
        # Each behind the one before it.
        assert any(line.startswith(beginning) for line in lines), f"{beginning}\n\n{run.stdout}"
