"""Keras on the ranks of a job: callbacks, files, random numbers, mistakes."""

import os
import re

import keras
import pytest
from jobs import alone, launch, needs_mpi, results


@needs_mpi
def test_callbacks_decide_alike_and_rank_0_writes(tmp_path):
    run = launch("callbacks.py", folder=tmp_path)
    assert run.returncode == 0, run.stderr
    first, second = both = [results(tmp_path, rank, 2) for rank in range(2)]
    assert first["stream"] != second["stream"]
    for name in first.keys() - {"stream"}:
        assert first[name] == second[name], name
    assert first["epochs"] == 3
    assert first["rate"] < 0.01
    assert first["stopped"] == 2
    assert sorted(os.listdir(tmp_path)) == [
        *("0-of-2.json", "1-of-2.json", "best.h5", "last.h5", "log.csv", "weights.h5")
    ]
    assert run.stdout.count("Epoch 1/9") == 1
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 4

    again = launch("callbacks.py", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert [results(tmp_path, rank, 2) for rank in range(2)] == both


@needs_mpi
@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("compiled before", "compiled before ksym.data_parallel()"),
        ("small batch", "a batch of 1 row(s) cannot be divided among 2 ranks"),
        ("small last batch", "the last batch of an epoch has 1 row(s)"),
        ("batches", "the ranks are given different batches"),
        ("models", "the ranks have different models or optimizers"),
        ("optimizers", "optimizer SGD"),
        ("settings", "batches: global on rank 0; local on rank 1"),
        ("epochs", "epochs: 1 on rank 0; 2 on rank 1"),
        ("one rank", "the ranks have come to different things"),
        ("evaluating on one rank", "an evaluation, which ranks share unless share_evaluation"),
        ("evaluating other rows", "rows: 8 on rank 0; 7 on rank 1"),
    ],
)
def test_mistakes_end_the_job(tmp_path, mistake, message):
    run = launch("mistakes.py", mistake, folder=tmp_path)
    assert run.returncode == 1
    assert message in run.stderr
    for rank in range(2):  # each of them says it
        assert re.search(f"ranks 0, 1 failed|rank {rank} \\(.*\\) failed", run.stderr)


@needs_mpi
def test_a_killed_training_is_resumed(tmp_path):
    alone("resumed.py", folder=tmp_path)
    whole = results(tmp_path, 0, 1)
    assert whole["first"] == 0
    (tmp_path / "last.h5").unlink()
    run = launch("resumed.py", "killed", folder=tmp_path)
    assert run.returncode != 0
    assert "rank 1 (process" in run.stderr
    assert "died" in run.stderr
    assert [path.name for path in tmp_path.glob("last.h5*")] == ["last.h5"]
    run = launch("resumed.py", folder=tmp_path)
    assert run.returncode == 0, run.stderr
    resumed = results(tmp_path, 1, 2)
    assert resumed["first"] == 2
    assert resumed["losses"] == pytest.approx(whole["losses"][2:], rel=1e-5)


@needs_mpi
@pytest.mark.parametrize("ranks", [2, 3])
def test_an_evaluation_is_shared_by_batches(tmp_path, ranks):
    alone("evaluating.py", folder=tmp_path)
    run = launch("evaluating.py", ranks=ranks, folder=tmp_path)
    assert run.returncode == 0, run.stderr
    expected, *found = [results(tmp_path, 0, 1)] + [
        results(tmp_path, rank, ranks) for rank in range(ranks)
    ]
    for rank in range(ranks):
        assert found[rank]["found"] == found[0]["found"]
    for name, values in expected["found"].items():
        assert found[0]["found"][name] == pytest.approx(values, rel=2e-6), name
    for name, batches in expected["counts"].items():
        own = [rank["counts"][name] for rank in found]
        assert sum(own) == (batches * ranks if name in ("largest", "watched") else batches), name


def test_multi_gpu_model_says_how_it_is_done_here():
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(2,))])
    with pytest.raises(ValueError, match=r"python -m ksym\.launch"):
        keras.utils.multi_gpu_model(model, 2)
