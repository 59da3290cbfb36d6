"""The list of tests that do not pass is compared with the facts in both directions."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import listing
from listing import Entry, Result

RESULTS = {
    "a.py::test_one": Result("passed"),
    "a.py::test_two[x::y]": Result("failed", "assert 1"),
    "a.py::test_two[z]": Result("failed", "assert 2"),
    "a.py::TestC::test_three": Result("skipped", "needs more"),
    "b.py::test_four": Result("failed", "assert 3"),
}
FILES = {"a.py", "b.py"}


def test_a_list_is_made_kept_and_read_again(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("# why\n\n[failed: known]\na.py::test_two\n\n[not run: slow]\nc.py\n")
    entries = listing.read(path)
    fresh = listing.updated(entries, RESULTS, FILES)
    assert fresh == {
        "a.py::test_two": Entry("failed", "known"),
        "a.py::TestC": Entry("skipped", "needs more"),
        "b.py": Entry("failed", "assert 3"),
        "c.py": Entry("not run", "slow"),
    }
    listing.write(path, fresh)
    assert path.read_text().startswith("# why\n\n[failed: assert 3]\nb.py\n")
    assert listing.read(path) == fresh
    assert not listing.differences(fresh, RESULTS, FILES)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"a.py::test_one": Result("failed", "oh")}, "test_one: failed (oh), listed as passed"),
        ({"b.py::test_four": Result("passed")}, "test_four: passed, listed as failed"),
        ({"b.py::test_four": Result("skipped", "no")}, "skipped (no), listed as failed"),
    ],
    ids=["fails", "passes", "is skipped"],
)
def test_every_difference_is_said(changed, said):
    entries = listing.updated({}, RESULTS, FILES)
    (line,) = listing.differences(entries, {**RESULTS, **changed}, FILES)
    assert said in line


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        ("", True),
        (" with numpy>=1.9", True),
        (" with numpy>=99.1", False),
        (" with python>=3.2", True),
        (" with python>=4.0", False),
        (" without sh", False),
        (" without a_program_that_nobody_has", True),
    ],
)
def test_a_section_may_hold_for_some_versions_or_machines_only(where, holds, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(f"# why\n\n[failed{where}: known]\nb.py::test_four\n")
    entries = listing.read(path)
    results = {"b.py::test_four": RESULTS["b.py::test_four"]}
    assert bool(listing.differences(entries, results, {"b.py"})) != holds
    passed = {"b.py::test_four": Result("passed")}
    assert bool(listing.differences(entries, passed, {"b.py"})) == holds
    # Elsewhere it is kept as it is.
    fresh = listing.updated(entries, passed, {"b.py"})
    assert fresh == ({} if holds else entries)
    listing.write(path, entries)
    assert listing.read(path) == entries


def test_tests_that_are_gone_are_said():
    entries = {**listing.updated({}, RESULTS, FILES), "a.py::test_old": Entry("failed", "?")}
    (line,) = listing.differences(entries, RESULTS, FILES)
    assert "no such test" in line
    assert not listing.differences(entries, {}, set())


def test_lines_that_mean_nothing_are_refused(tmp_path):
    path = tmp_path / "list.txt"
    for text in ("a.py\n", "[broken: x]\n", "[failed: x]\na.py\na.py\n"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"list\.txt:"):
            listing.read(path)
