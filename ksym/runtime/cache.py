"""Compiled code on disk, for later processes.

An entry is an object file, as LLVM writes it, behind a checksum.  Its name is the hash of all that
it depends on: LLVM's version, the processor and its features, how it was optimised, and the code.

Whoever could write an entry could have the process run anything.  So the folder is made with mode
0700; it and the entries must belong to this user, nobody else may write them, and none may be a
link; otherwise there is no cache.  Entries are written beside and renamed, so that nobody sees half
of one.  What is damaged is ignored, and written anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ENVIRONMENT = "KSYM_CACHE"

LIMIT = 64 << 20
"""The bytes of all entries beyond which those used longest ago are removed; one has some 4 KiB."""

_MARK = b"ksym object 1\n"

# Opening a pipe would wait for its writer.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_NAME = re.compile(r"[0-9a-f]{64}\.o|new-\w+")
"""The names of entries, and of those that are being written; nothing else is ever removed."""


def folder() -> Path | None:
    """Return the folder that KSYM_CACHE names, or ksym's in the user's caches; None for none.

    Of KSYM_CACHE ``0`` and the empty text turn the cache off.
    """
    named = os.environ.get(ENVIRONMENT)
    if named in ("", "0"):
        return None
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        if named is not None:
            return Path(named).expanduser().absolute()
        return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "ksym"
    except (RuntimeError, OSError):  # there is no home, or no current folder
        return None


class DiskCache:
    """The entries in a folder, which is made when the first one is written.

    No method raises an error: a cache that cannot be used does nothing.

    Args:
        place: The folder.
        basis: What all entries depend on.
    """

    def __init__(self, place: Path, basis: str):
        self._place = place
        self._basis = basis
        self._room: int | None = None
        """The bytes that may be written before entries are removed; None before any is."""

    def _path(self, text: str, hastily: bool) -> Path:
        content = f"{self._basis}\0{hastily:d}\0{text}"
        return self._place / f"{hashlib.sha256(content.encode()).hexdigest()}.o"

    def read(self, text: str, hastily: bool) -> bytes | None:
        """Return the object file of code, None if there is none that can be trusted."""
        path = self._path(text, hastily)
        try:
            if not _is_ours(os.lstat(self._place), stat.S_ISDIR):
                return None
            number = os.open(path, _READ)
            with open(number, "rb") as file:
                if not _is_ours(os.fstat(number), stat.S_ISREG):
                    return None
                content = file.read()
            head = len(_MARK) + hashlib.sha256().digest_size
            found = content[head:]
            if content[:head] != _MARK + hashlib.sha256(found).digest():
                return None
            if time.time() - os.stat(path).st_mtime > 3600:
                os.utime(path)  # it was used
        except OSError:
            return None
        return found

    def write(self, text: str, hastily: bool, code: bytes) -> None:
        """Keep the object file of code."""
        with contextlib.suppress(OSError):
            self._place.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_ours(os.lstat(self._place), stat.S_ISDIR):
                return
            content = _MARK + hashlib.sha256(code).digest() + code
            self._make_room(len(content))
            number, beside = tempfile.mkstemp(dir=self._place, prefix="new-")  # of mode 0600
            try:
                with open(number, "wb") as file:
                    file.write(content)
                os.replace(beside, self._path(text, hastily))
            except BaseException:
                os.unlink(beside)
                raise

    def _make_room(self, size: int) -> None:
        """Remove the older half of the entries if there is no room for another one."""
        if self._room is None or self._room < size:
            with os.scandir(self._place) as found:
                names = [entry for entry in found if _NAME.fullmatch(entry.name)]
                entries = [(entry.stat(follow_symlinks=False), entry.path) for entry in names]
            entries.sort(key=lambda entry: entry[0].st_mtime)
            total = sum(status.st_size for status, _ in entries)
            if total + size > LIMIT:
                for status, path in entries:
                    if total <= LIMIT // 2:
                        break
                    os.unlink(path)
                    total -= status.st_size
            self._room = LIMIT - total
        self._room -= size


def _is_ours(status: os.stat_result, kind: Callable[[int], bool]) -> bool:
    """Return whether something is of a kind, belongs to this user, and nobody else may write it."""
    return (
        kind(status.st_mode)
        and status.st_uid == os.geteuid()
        and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )
