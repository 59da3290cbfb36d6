"""Each file of examples/ runs in a process of its own and prints what its comments say.

A comment ``# -> text`` in an example is a line of output, or the beginning of one.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NEEDS = ("flask", "keras", "matplotlib", "sklearn")


def expected(text):
    return re.findall(r"^ *# -> (.+)$", text, re.MULTILINE)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_what_it_says(path, tmp_path):
    text = path.read_text()
    for module in NEEDS:
        if re.search(rf"^(?:import|from) {module}\b", text, re.MULTILINE):
            pytest.importorskip(module)
    # It chooses its backend itself, as it must where a user starts it.
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    run = subprocess.run(
        [sys.executable, path],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert expected(text), "the example says nothing of what it prints"
    lines = iter(run.stdout.splitlines())
    for beginning in expected(text):
        # Each behind the one before it.
        assert any(line.startswith(beginning) for line in lines), f"{beginning}\n\n{run.stdout}"


def test_each_example_says_what_it_shows():
    for path in EXAMPLES:
        assert re.match(r'""".+\.\n', path.read_text()), path
