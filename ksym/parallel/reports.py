"""Reports: short messages of ranks to the launcher, through the standard error of mpiexec.

A report is a line of JSON between two record separators, which no text of a program has.  It is a
line of its own, as Open MPI keeps what is none.  So ranks and launcher need no connection besides
those that mpiexec makes, on one machine or several.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import Any

PERIOD = 0.5
"""The seconds between two reports of a process."""

STARTING = 60.0
"""The seconds for which a process may be silent until it has started, if the timeout is less."""

_MARK = b"\x1e"
_REPORT = re.compile(_MARK + b"ksym ([^" + _MARK + b"]*)" + _MARK + b"\n")


class Reporter:
    """Writes the reports of a process.

    Args:
        rank: The rank of the process.
    """

    def __init__(self, rank: int):
        self._rank = rank
        self._file = os.dup(2)  # scripts may close theirs, or send it elsewhere
        os.set_inheritable(self._file, False)

    def send(self, kind: str, **items: Any) -> None:
        """Write a report; if the launcher is gone, nothing happens."""
        text = json.dumps({"kind": kind, "rank": self._rank, **items}).encode()
        # In one piece, as up to 4096 bytes are, so that ranks do not write into each other's.
        line = _MARK + b"ksym " + text[:4000] + _MARK + b"\n"
        with contextlib.suppress(OSError):
            os.write(self._file, line)


class Reader:
    """Takes reports out of what mpiexec writes to its standard error."""

    def __init__(self) -> None:
        self._pending = b""

    def read(self, data: bytes) -> tuple[bytes, list[dict[str, Any]]]:
        """Return what is no report, and the reports.

        Args:
            data: The next bytes.
        """
        data = self._pending + data
        found = []
        for match in _REPORT.finditer(data):
            with contextlib.suppress(ValueError):
                found.append(json.loads(match[1]))
        data = _REPORT.sub(b"", data)
        # A report may come in two pieces.
        start = data.find(_MARK)
        if start >= 0 and len(data) - start < 4096:
            self._pending = data[start:]
            return data[:start], found
        self._pending = b""
        return data, found
