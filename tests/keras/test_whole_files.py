"""A save that is cut off leaves the former file; files that cannot be read end in an error."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from ksym.errors import FileError
from ksym.keras import files

keras = pytest.importorskip("keras")
ROOT = Path(__file__).parents[2]
SAVES = ["save", "save_weights"]


def made(value):
    model = keras.Sequential([keras.layers.Dense(30, input_shape=(40,)), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    model.set_weights([np.full(w.shape, value) for w in model.get_weights()])
    return model


def value_in(path, save):
    """Return the number that all weights in a file are."""
    if save == "save":
        model = keras.models.load_model(str(path))
    else:
        model = made(0.0)
        model.load_weights(str(path))
    (value,) = {float(number) for w in model.get_weights() for number in np.unique(w)}
    return value


@pytest.mark.parametrize("save", SAVES)
def test_an_error_in_the_middle_leaves_the_former_file(save, tmp_path, monkeypatch):
    path = tmp_path / "model.h5"
    getattr(made(1.0), save)(str(path))
    create, count = h5py.Group.create_dataset, []

    def fails(self, *arguments, **options):
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return create(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(h5py.Group, "create_dataset", fails)
        with pytest.raises(KeyboardInterrupt):
            getattr(made(2.0), save)(str(path))
    assert value_in(path, save) == 1.0
    assert os.listdir(tmp_path) == ["model.h5"]
    getattr(made(3.0), save)(str(path))
    assert value_in(path, save) == 3.0


SAVING = """
import os, resource, signal, sys
os.environ["KERAS_BACKEND"] = "ksym.backend"
sys.path.insert(0, "tests/keras")
from test_whole_files import made
path, save, largest = sys.argv[1], sys.argv[2], int(sys.argv[3])
models = [made(float(number)) for number in (1, 2)]
getattr(models[0], save)(path)
if largest:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
print("saved", flush=True)
while True:
    for model in models:
        getattr(model, save)(path)
"""


def saving(path, save, largest=0):
    command = [sys.executable, "-W", "ignore", "-c", SAVING, str(path), save, str(largest)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)
    for line in process.stdout:
        if line == "saved\n":
            return process
    raise AssertionError(process.stderr.read())


@pytest.mark.parametrize("save", SAVES)
def test_a_process_that_is_killed_leaves_a_whole_file(save, tmp_path):
    path = tmp_path / "model.h5"
    for delay in (0.01, 0.07):
        process = saving(path, save)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert value_in(path, save) in (1.0, 2.0)


@pytest.mark.parametrize("save", SAVES)
def test_a_disk_that_is_full_leaves_the_former_file(save, tmp_path):
    path = tmp_path / "model.h5"
    process = saving(path, save, largest=3000)
    process.communicate(timeout=60)
    assert process.returncode  # an OSError, behind which HDF5 itself may fail at the exit
    assert value_in(path, save) == 1.0


def test_links_and_permissions_stay(tmp_path):
    target, link = tmp_path / "one.h5", tmp_path / "link.h5"
    made(1.0).save(str(target))
    target.chmod(0o640)
    link.symlink_to(target)
    made(2.0).save(link)
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert value_in(target, "save") == 2.0


@pytest.mark.parametrize("save", SAVES)
def test_where_nothing_can_be_written_beside_it_is_written_in_place(save, tmp_path, monkeypatch):
    path = tmp_path / "model.h5"
    getattr(made(1.0), save)(str(path))
    number = path.stat().st_ino
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    getattr(made(2.0), save)(str(path))
    assert path.stat().st_ino == number
    assert value_in(path, save) == 2.0


@pytest.mark.parametrize("save", SAVES)
def test_a_folder_that_is_not_there_is_named(save, tmp_path):
    with pytest.raises(OSError, match=r"nowhere/model.h5"):
        getattr(made(1.0), save)(str(tmp_path / "nowhere" / "model.h5"))


def test_files_that_cannot_be_read_end_in_an_error(tmp_path, monkeypatch):
    path = tmp_path / "model.h5"
    for missing in (path, tmp_path):
        with pytest.raises(FileError, match=r"is no file"):
            files.check_file(missing)
    made(1.0).save(str(path))
    files.check_file(path)
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:100] + whole[300:]):
        path.write_bytes(content)
        with pytest.raises(FileError, match=r"cannot be read as a file of HDF5"):
            files.check_file(path)
    monkeypatch.setattr(files, "READ", "while True: pass")
    with pytest.raises(FileError, match=r"not read within 0.5 seconds"):
        files.check_file(path, seconds=0.5)
