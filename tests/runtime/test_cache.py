"""Compiled code on disk: found by later processes, and never anybody else's."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ksym.runtime import cache, jit
from ksym.runtime.cache import DiskCache, folder

PROGRAM = """
import numpy as np, ksym
from ksym.runtime import jit
compiled, optimise = [], jit._optimise
def counted(module):
    compiled.append(module)
    optimise(module)
jit._optimise = counted
x = ksym.placeholder((100,))
print(ksym.function([x], ksym.tanh(x * 3.3) + 1.0)(np.linspace(-1, 1, 100)).tobytes().hex())
print(len(compiled))
"""


@pytest.fixture
def place(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def kept(place):
    """A cache with one entry."""
    made = DiskCache(place, "basis")
    made.write("text", False, b"object")
    assert made.read("text", False) == b"object"
    return made


def entry(place):
    (path,) = place.iterdir()
    return path


def run(place):
    environment = {**os.environ, "KSYM_CACHE": str(place)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    values, compiled = done.stdout.split()
    return values, int(compiled)


def test_a_second_process_compiles_nothing(place):
    values, compiled = run(place)
    assert compiled > 0
    assert run(place) == (values, 0)
    for path in place.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert run(place) == (values, compiled)
    assert run(place) == (values, 0)
    assert run("0") == (values, compiled)


def test_an_entry_is_found_by_all_that_it_depends_on(kept, place):
    assert kept.read("text", True) is None
    assert kept.read("other", False) is None
    assert DiskCache(place, "another processor").read("text", False) is None
    assert DiskCache(place, "basis").read("text", False) == b"object"


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: content[:-1] + b"x",
        lambda content: b"x" + content[1:],
    ],
)
def test_a_damaged_entry_is_ignored_and_written_anew(kept, place, damage):
    entry(place).write_bytes(damage(entry(place).read_bytes()))
    assert kept.read("text", False) is None
    kept.write("text", False, b"object")
    assert kept.read("text", False) == b"object"


def test_folders_and_entries_are_the_users_alone(kept, place):
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE(entry(place).stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
@pytest.mark.parametrize("whose", ["folder", "entry"])
def test_what_others_may_write_is_not_run(kept, place, mode, whose):
    (place if whose == "folder" else entry(place)).chmod(mode)
    assert kept.read("text", False) is None


def test_what_belongs_to_others_is_not_run(kept, place, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert kept.read("text", False) is None
    kept.write("more", False, b"object")
    assert len(list(place.iterdir())) == 1


def test_links_are_not_followed(kept, place, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(place)
    assert DiskCache(link, "basis").read("text", False) is None
    DiskCache(link, "basis").write("more", False, b"object")
    path = entry(place)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert kept.read("text", False) is None


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_ignored(kept, place, make):
    path = entry(place)
    path.unlink()
    make(path)
    assert kept.read("text", False) is None
    kept.write("text", False, b"object")


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    unusable = DiskCache(tmp_path / "file" / "cache", "basis")
    unusable.write("text", False, b"object")
    assert unusable.read("text", False) is None


def test_its_size_is_bounded_and_other_files_stay(kept, place, monkeypatch):
    (place / "letter.txt").write_text("dear")
    monkeypatch.setattr(cache, "LIMIT", 4000)
    kept = DiskCache(place, "basis")
    for number in range(100):
        kept.write(f"text {number}", False, b"x" * 100)
        assert kept.read(f"text {number}", False) is not None
        assert sum(path.stat().st_size for path in place.glob("*.o")) <= 4000
    assert (place / "letter.txt").read_text() == "dear"
    assert not list(place.glob("new-*"))


def test_an_interrupted_write_leaves_nothing(kept, place, monkeypatch):
    def interrupted(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kept.write("more", False, b"object")
    monkeypatch.undo()
    assert len(list(place.iterdir())) == 1


def test_threads_that_write_the_same_entry(place):
    made, wrong = DiskCache(place, "basis"), []

    def working():
        for _ in range(50):
            made.write("text", False, b"object" * 1000)
            if DiskCache(place, "basis").read("text", False) != b"object" * 1000:
                wrong.append(1)

    threads = [threading.Thread(target=working) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_where_it_is(monkeypatch, tmp_path):
    for off in ("0", ""):
        monkeypatch.setenv("KSYM_CACHE", off)
        assert folder() is None
    monkeypatch.setenv("KSYM_CACHE", str(tmp_path / "named"))
    assert folder() == tmp_path / "named"
    monkeypatch.setenv("KSYM_CACHE", "~nobody-of-this-name/x")
    assert folder() is None
    monkeypatch.delenv("KSYM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert folder() == tmp_path / "xdg" / "ksym"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder() == tmp_path / ".cache" / "ksym"


def test_the_basis_has_all_that_code_depends_on():
    made = jit._disk()
    assert made is not None
    for part in (jit._compiler().binding.get_host_cpu_name(), str(jit.OPTIONS), "avx"):
        assert part in made._basis
