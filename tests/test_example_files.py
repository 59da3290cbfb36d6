"""Each file of examples/ runs in a process of its own and prints what its comments say."""

import re
from pathlib import Path

import pytest
from scripts import expected, run_script

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_what_it_says(path, tmp_path):
    assert expected(path.read_text()), "the example says nothing of what it prints"
    run_script(path, tmp_path)


def test_each_example_says_what_it_shows():
    for path in EXAMPLES:
        assert re.match(r'""".+\.\n', path.read_text()), path
