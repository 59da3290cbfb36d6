"""A PEP 517 backend that repacks the shared libraries of another wheel, without its Python code.

``[tool.repack]`` in ``pyproject.toml`` names that wheel, the SHA-256 of its file for each platform,
and the package that the libraries are put into.  pip fetches the wheel, as the user has
configured it.
"""

import sys

# pip compares requires-python only with metadata that this backend has written.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(
        "ksym and its library of MXNet need Python 3.11 or newer, and this is Python "
        f"{sys.version_info[0]}.{sys.version_info[1]}.  Install them into an environment of a "
        "newer one: python3.13 -m venv env && env/bin/pip install ..."
    )

import base64
import csv
import hashlib
import io
import os
import platform
import shutil
import subprocess
import sysconfig
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

HERE = Path.cwd()  # the folder with pyproject.toml, as PEP 517 has it
SETTINGS = tomllib.loads((HERE / "pyproject.toml").read_text())
PROJECT: dict[str, Any] = SETTINGS["project"]
REPACK: dict[str, Any] = SETTINGS["tool"]["repack"]
STEM = f"{PROJECT['name'].replace('-', '_')}-{PROJECT['version']}"

Config = dict[str, Any] | None


def get_requires_for_build_wheel(config_settings: Config = None) -> list[str]:
    """Return no further requirements, after a look at the platform."""
    _platform()
    return []


def prepare_metadata_for_build_wheel(folder: str, config_settings: Config = None) -> str:
    """Write the metadata, for which nothing is fetched, and return the name of their folder."""
    for name, content in _metadata().items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return f"{STEM}.dist-info"


def build_wheel(
    folder: str, config_settings: Config = None, metadata_directory: str | None = None
) -> str:
    """Fetch the wheel, check it, repack its libraries, and return the name of the new wheel."""
    tag = _platform()
    name = f"{STEM}-py3-none-{tag}.whl"
    with tempfile.TemporaryDirectory() as fetched:
        source = _fetch(tag, fetched)
        _check(source, REPACK["sha256"][tag])
        with zipfile.ZipFile(source) as old, _NewWheel(Path(folder, name)) as new:
            for item in old.infolist():
                if ".so" in Path(item.filename).suffixes:
                    with old.open(item) as library:
                        new.add(f"{REPACK['package']}/{Path(item.filename).name}", library)
            new.add(f"{REPACK['package']}/__init__.py", io.BytesIO(_module().encode()))
            for path, content in _metadata().items():
                new.add(path, io.BytesIO(content))
    return name


# There is no code to edit.
get_requires_for_build_editable = get_requires_for_build_wheel
prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel
build_editable = build_wheel


def build_sdist(folder: str, config_settings: Config = None) -> str:
    """Write an archive of this folder: the backend and its settings."""
    with tempfile.TemporaryDirectory() as unpacked:
        root = Path(unpacked, STEM)
        root.mkdir()
        for name in ("pyproject.toml", Path(__file__).name, PROJECT["readme"], *_licences()):
            shutil.copy(HERE / name, root)
        (root / "PKG-INFO").write_bytes(_metadata()[f"{STEM}.dist-info/METADATA"])
        return Path(shutil.make_archive(str(Path(folder, STEM)), "gztar", unpacked, STEM)).name


def _platform() -> str:
    """Return the platform whose wheel fits this interpreter.

    Raises:
        SystemExit: There is none.
    """
    here = sysconfig.get_platform()  # linux-x86_64
    system, _, machine = here.partition("-")
    known = REPACK["sha256"]
    lacks = []
    if system == "linux" and platform.libc_ver()[0] != "glibc":
        lacks.append("glibc")
    if sys.maxsize < 2**32:  # the machine may well be said to have 64
        lacks.append("64 bits")
    for tag in known:
        if system == "linux" and tag.endswith(f"_{machine}") and not lacks:
            return str(tag)
    without = f" without {' and '.join(lacks)}" if lacks else ""
    raise SystemExit(
        f"{PROJECT['name']}: there is no library for {here}{without}; PyPI has wheels of "
        f"{REPACK['wheel']} for {' and '.join(known)}"
    )


def _fetch(tag: str, folder: str) -> Path:
    """Have pip download the wheel for a platform into a folder, and return its path.

    Raises:
        SystemExit: pip cannot; its own messages are printed before.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--platform", tag, "--dest", folder]
    # The hash is checked here; pip takes one from files of requirements only.
    environment = {**os.environ, "PIP_REQUIRE_HASHES": "0"}
    if subprocess.run([*command, REPACK["wheel"]], env=environment).returncode:
        raise SystemExit(
            f"{PROJECT['name']}: pip cannot download {REPACK['wheel']} for {tag}, which has the "
            "library, for the reason above; an index, a proxy or a folder of wheels is named by "
            "pip's configuration or the variables PIP_INDEX_URL, PIP_PROXY and PIP_FIND_LINKS "
            "(options of the command line do not reach this build)"
        )
    (wheel,) = Path(folder).glob("*.whl")
    return wheel


def _check(wheel: Path, expected: str) -> None:
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise SystemExit(
            f"{PROJECT['name']}: {wheel.name} is not PyPI's file: its SHA-256 is {found} instead "
            f"of {expected}; look which index pip uses (`pip config list`), and try "
            "`pip cache purge`"
        )


class _NewWheel:
    """A wheel that is being written, with the record of what is in it."""

    def __init__(self, path: Path):
        self._archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
        self._record = io.StringIO()
        self._rows = csv.writer(self._record, lineterminator="\n")

    def add(self, name: str, content: Any) -> None:
        """Add a file from a binary stream."""
        digest, size = hashlib.sha256(), 0
        with self._archive.open(self._entry(name), "w", force_zip64=True) as target:
            while block := content.read(1 << 20):
                target.write(block)
                digest.update(block)
                size += len(block)
        text = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
        self._rows.writerow((name, f"sha256={text}", size))

    @staticmethod
    def _entry(name: str) -> zipfile.ZipInfo:
        # Always the same date and permissions, so that the same wheel comes out each time.
        entry = zipfile.ZipInfo(name, (2022, 5, 17, 0, 0, 0))
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = (0o100755 if ".so" in name else 0o100644) << 16
        return entry

    def __enter__(self) -> "_NewWheel":
        return self

    def __exit__(self, kind: Any, *others: Any) -> None:
        if kind is None:
            record = f"{STEM}.dist-info/RECORD"
            self._rows.writerow((record, "", ""))
            self._archive.writestr(self._entry(record), self._record.getvalue())
        self._archive.close()


def _module() -> str:
    return (
        f'"""{PROJECT["description"]}."""\n\n'
        "from pathlib import Path\n\n"
        f'__version__ = "{PROJECT["version"]}"\n'
        'LIBRARY = Path(__file__).with_name("libmxnet.so")\n'
    )


def _licences() -> list[str]:
    return list(PROJECT["license-files"])


def _metadata() -> dict[str, bytes]:
    """Return the files of the new wheel's metadata, less the record."""
    folder = f"{STEM}.dist-info"
    fields = [
        ("Metadata-Version", "2.4"),
        ("Name", PROJECT["name"]),
        ("Version", PROJECT["version"]),
        ("Summary", PROJECT["description"]),
        ("Requires-Python", PROJECT["requires-python"]),
        ("License-Expression", PROJECT["license"]),
        *(("License-File", name) for name in _licences()),
        *(("Classifier", classifier) for classifier in PROJECT["classifiers"]),
        ("Description-Content-Type", "text/markdown"),
    ]
    header = "".join(f"{name}: {value}\n" for name, value in fields)
    tag = f"Root-Is-Purelib: false\nTag: py3-none-{_platform()}\n"
    wheel = f"Wheel-Version: 1.0\nGenerator: repack\n{tag}"
    readme = (HERE / PROJECT["readme"]).read_text()
    return {
        f"{folder}/METADATA": f"{header}\n{readme}".encode(),
        f"{folder}/WHEEL": wheel.encode(),
        **{f"{folder}/licenses/{name}": (HERE / name).read_bytes() for name in _licences()},
    }
