"""Writing files: as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ksym.errors import OutputError


def write_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file; if that fails, what was there before is still there.

    Args:
        path: The file.
        content: Its content.

    Raises:
        OutputError: It cannot be written.
    """
    target = Path(path)
    name = ""
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)  # as `open` would have made it
        os.replace(name, target)
    except BaseException as error:
        if name and os.path.exists(name):
            os.unlink(name)
        if isinstance(error, OSError):
            raise OutputError(
                f"{str(target)!r} cannot be written: {error.strerror}",
                remedy="give a file in a folder that exists and that you may write to",
            ) from error
        raise
