"""Several ranks train as one process does."""

import numpy as np
import pytest
from jobs import alone, launch, needs_mpi, results

OPTIMIZERS = ("sgd", "rmsprop", "adagrad", "adadelta", "adam", "adamax", "nadam", "clipped")


def compare(folder, ranks, models, optimizers, *more, options=()):
    alone("training.py", models, optimizers, folder=folder)
    run = launch(
        "training.py", models, optimizers, *more, ranks=ranks, folder=folder, options=options
    )
    assert run.returncode == 0, run.stderr
    expected = results(folder, 0, 1)
    for rank in range(ranks):
        found = results(folder, rank, ranks)
        for name, one in expected.items():
            assert len(one["losses"]) == 52
            np.testing.assert_allclose(found[name]["losses"], one["losses"], 1e-5, err_msg=name)
            for log, values in one["logs"].items():
                np.testing.assert_allclose(found[name]["logs"][log], values, 1e-5, err_msg=name)
        assert found == results(folder, 0, ranks)


@needs_mpi
def test_every_optimizer(tmp_path):
    compare(tmp_path, 2, "dense", ",".join(OPTIMIZERS))


@needs_mpi
@pytest.mark.parametrize("ranks", [2, 4])
def test_kinds_of_models(tmp_path, ranks):
    compare(tmp_path, ranks, "regularised,convolutional,recurrent", "sgd")


@needs_mpi
def test_parameter_servers_add_up(tmp_path):
    options = ["--engine", "dist_sync", "--servers", "2"]
    compare(tmp_path, 3, "convolutional", "sgd,adam,clipped", options=options)


@needs_mpi
def test_synchronised_batch_normalisation_is_that_of_one_process(tmp_path):
    compare(tmp_path, 2, "normalised", "sgd", "sync")


@needs_mpi
def test_batch_normalisation_keeps_the_same_averages_on_all_ranks(tmp_path):
    run = launch("training.py", "normalised", "sgd", folder=tmp_path)
    assert run.returncode == 0, run.stderr
    assert results(tmp_path, 0, 2) == results(tmp_path, 1, 2)
