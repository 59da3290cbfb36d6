"""Paths of files, and writing files: as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ksym.errors import ArgumentError, FileError


def path_text(path: Any) -> str:
    """Return the path of a file as text.

    Raises:
        ArgumentError: It is neither a text, nor bytes, nor an `os.PathLike`; or it is empty, or has
            a zero in it.
    """
    try:
        text = os.fsdecode(path)
    except TypeError:
        text = ""
    if not text or "\0" in text:
        raise ArgumentError(
            f"{path!r} is no path", remedy="give the name of a file: a text, or a pathlib.Path"
        )
    return text


def write_file(path: Any, content: bytes) -> None:
    """Write a file; if that fails, what was there before is still there.

    Raises:
        ArgumentError: The path is none.
        FileError: It cannot be written.
    """
    with replacing(path) as file:
        file.write(content)


@contextlib.contextmanager
def replacing(path: Any) -> Iterator[IO[bytes]]:
    """Open a new file that takes the place of another one when all is written, and only then.

    Raises:
        ArgumentError: The path is none.
        FileError: It cannot be written.
    """
    text = path_text(path)
    try:
        with replacement(text) as beside, open(beside, "xb") as file:
            yield file
    except OSError as error:
        raise FileError(
            f"{text!r} cannot be written: {error.strerror or error}",
            remedy="give the name of a file in a folder that exists, may be written to, and has "
            "room; nothing was changed",
        ) from error


@contextlib.contextmanager
def replacement(path: Any) -> Iterator[Path]:
    """Give the name of a file to write beside another one, whose place it takes at the end.

    If the block raises an error, the new file is removed.

    Raises:
        OSError: The old file is a folder, or the new one cannot take its place.
    """
    # Through links to the file that is meant, which stay.
    target = Path(os.path.realpath(os.fspath(path)))
    beside = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}.part")
    try:
        if target.is_dir():
            raise IsADirectoryError(f"{target} is a folder")
        yield beside
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(target, beside)
        os.replace(beside, target)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()
