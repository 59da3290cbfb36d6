"""The list of tests that do not pass, and its comparison with what came of a run.

The list is text: sections, each with a header that says what comes of its tests and why, and below
it their ids, one to a line.  An id stands for everything below it: a file for its tests, a test for
all its parameters.  A section may hold for some versions or machines only, and says for which:
``[failed with numpy>=1.24: why]``, ``[failed with python>=3.12: why]``, or ``[failed without dot:
why]`` for machines that have no such program.
"""

from __future__ import annotations

import platform
import re
import shutil
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

OUTCOMES = ("failed", "skipped", "not run")
HEADER = re.compile(rf"\[({'|'.join(OUTCOMES)})( with \w+>=[\d.]+| without \w+)?: (.+)\]")


class Entry(NamedTuple):
    """What is expected of a test that does not pass.

    Attributes:
        outcome: What comes of it.
        reason: Why.
        where: For which versions or machines, as in the header; everywhere if empty.
    """

    outcome: str
    reason: str
    where: str = ""

    def holds(self) -> bool:
        """Return whether this is expected here."""
        if self.where.startswith(" without "):
            return shutil.which(self.where.removeprefix(" without ")) is None
        name, _, least = self.where.removeprefix(" with ").partition(">=")
        here = {"": "", "numpy": np.__version__, "python": platform.python_version()}[name]
        return _numbers(here) >= _numbers(least)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


class Result(NamedTuple):
    """What came of a test."""

    outcome: str
    reason: str = ""


def read(path: Path) -> dict[str, Entry]:
    """Return the entries by id, in the order of the file.

    Raises:
        ValueError: A line is no header, and there is none above it, or an id comes twice.
    """
    entries: dict[str, Entry] = {}
    section: Entry | None = None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        header = HEADER.fullmatch(line)
        if header:
            section = Entry(header[1], header[3], header[2] or "")
        elif section is None or line.startswith("["):
            raise ValueError(f"{path}:{number}: no header like [failed: why]")
        elif line in entries:
            raise ValueError(f"{path}:{number}: {line} is there twice")
        else:
            entries[line] = section
    return entries


def above(identity: str) -> list[str]:
    """Return an id and all that stand for it, the narrowest first."""
    names = [identity]
    # Parameters may hold anything, so they are cut off first.
    path, bracket, _ = identity.partition("[")
    if bracket:
        names.append(path)
    while "::" in path:
        path = path.rpartition("::")[0]
        names.append(path)
    return names


def expected(entries: dict[str, Entry], identity: str) -> Entry | None:
    """Return what the list says of a test, None if it says nothing."""
    found = (entries[name] for name in above(identity) if name in entries)
    return next((entry for entry in found if entry.holds()), None)


def differences(
    entries: dict[str, Entry], results: dict[str, Result], files: set[str]
) -> list[str]:
    """Say where the list and the results of some files differ; empty if nowhere."""
    lines = []
    met = set()
    for identity, result in results.items():
        met.update(above(identity))
        entry = expected(entries, identity)
        wanted = "passed" if entry is None else entry.outcome
        if result.outcome != wanted:
            said = f" ({result.reason})" if result.reason else ""
            lines.append(f"{identity}: {result.outcome}{said}, listed as {wanted}")
    for identity, entry in entries.items():
        here = above(identity)[-1] in files
        if here and entry.outcome != "not run" and entry.holds() and identity not in met:
            lines.append(f"{identity}: listed as {entry.outcome}, but there is no such test")
    return lines


def updated(
    entries: dict[str, Entry], results: dict[str, Result], files: set[str]
) -> dict[str, Entry]:
    """Return the list that fits the results of some files, with the reasons known already."""
    fresh = {
        identity: entry
        for identity, entry in entries.items()
        if entry.outcome == "not run" or above(identity)[-1] not in files or not entry.holds()
    }
    sections: defaultdict[Entry, set[str]] = defaultdict(set)
    for identity, result in results.items():
        if result.outcome == "passed":
            continue
        known = expected(entries, identity)
        same = known is not None and known.outcome == result.outcome
        sections[known if same else Entry(result.outcome, result.reason)].add(identity)
    for section, identities in sections.items():
        for identity in _short(identities, set(results)):
            fresh[identity] = section
    return fresh


def _short(identities: set[str], everything: set[str]) -> set[str]:
    """Return the fewest ids that stand for these and for no others."""
    others = {name for identity in everything - identities for name in above(identity)}
    return {
        next(name for name in reversed(above(identity)) if name not in others)
        for identity in identities
    }


def write(path: Path, entries: dict[str, Entry]) -> None:
    """Write the list, sorted, under the comment that it had."""
    comment = [line for line in path.read_text().splitlines() if line.startswith("#")]
    sections: defaultdict[Entry, list[str]] = defaultdict(list)
    for identity, entry in entries.items():
        sections[entry].append(identity)
    lines = [*comment]
    for entry in sorted(sections, key=lambda e: (OUTCOMES.index(e.outcome), e.reason)):
        lines += ["", f"[{entry.outcome}{entry.where}: {entry.reason}]", *sorted(sections[entry])]
    path.write_text("\n".join(lines) + "\n")


def settled(
    path: Path,
    entries: dict[str, Entry],
    results: dict[str, Result],
    files: set[str],
    *,
    anew: bool,
) -> int:
    """Write a list anew, or print where it and the facts differ; return the exit status."""
    if anew:
        write(path, updated(entries, results, files))
        return 0
    different = differences(entries, results, files)
    for line in different:
        print(line)
    print(f"{len(different)} differences from {path.parent.name}/{path.name}")
    return 1 if different else 0
