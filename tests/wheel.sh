# Builds a wheel from the tree, installs it into an empty environment, and uses it there: without
# MXNet it must say what to install, with it Keras must train.  The lines for pip are those of
# README.md, with the wheel for the folder.  Run by `make wheel`.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$VENV/bin/python" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$work" "$here"
wheel=$(ls "$work"/ksym-*.whl)
"$PYTHON" -m venv "$work/empty"
pip() { "$work/empty/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$here/requirements/$PAIR.txt" "$@"; }

cd "$work" # away from the tree, so that only the installed package is found
pip "$wheel"
"$work/empty/bin/python" - <<'CODE'
import ksym

x = ksym.placeholder((2,))
ksym.gradients(ksym.sum(x * x), x)  # graphs need no MXNet
ksym.draw(x * x, "graph.html")  # nor do pages of them, whose parts are in the wheel
try:
    ksym.evaluate(ksym.constant(1.0))
except ksym.MissingMXNetError as error:
    assert "pip install ./libmxnet" in str(error), error
else:
    raise SystemExit("a missing MXNet went unnoticed")
CODE

pip "$here/libmxnet" "$wheel[cpu,keras]"
"$work/empty/bin/python" -m pip check
"$work/empty/bin/python" -m ksym
KERAS_BACKEND=ksym.backend KERAS_HOME="$work" "$work/empty/bin/python" - <<'CODE'
import pathlib

import keras
import numpy as np

import ksym

assert pathlib.Path.cwd() in pathlib.Path(ksym.__file__).parents, ksym.__file__
assert (pathlib.Path(ksym.__file__).parent / "py.typed").is_file()
model = keras.Sequential([keras.layers.Dense(1, input_shape=(2,))])
model.compile("adam", "mse")
losses = [model.train_on_batch(np.ones((8, 2)), np.full(8, 3.0)) for _ in range(50)]
assert losses[-1] < losses[0], losses
model.save("model.h5")
again = keras.models.load_model("model.h5")
assert np.array_equal(model.predict(np.ones((1, 2))), again.predict(np.ones((1, 2))))
CODE
echo "the wheel installs into an empty environment and works there"
