"""Run an example of Keras as it is, but let it train for a short time only.

    python shorten.py OPTIONS REPORT SCRIPT [ARGUMENT ...]

What a model is trained on is cut to some batches and its epochs to some, unless OPTIONS, a JSON
object, says otherwise; so are the steps of SciPy's L-BFGS.  A script with a loop of its own over
batches is ended where OPTIONS says.  The losses of all trainings go to REPORT as JSON.  Nothing of
the script is edited.
"""

import functools
import inspect
import json
import math
import os
import random
import runpy
import shutil
import sys

import keras
import numpy as np
import scipy.optimize
from keras.engine.training import Model
from keras.utils import data_utils, vis_utils

LOSSES = {}  # of each model, by its place in time
INSIDE = []
OWN_BATCHES = []


def first(data, count):
    """Return the first samples of an array, or of each in a list or dict."""
    if isinstance(data, dict):
        return {name: first(part, count) for name, part in data.items()}
    if isinstance(data, list | tuple) and not np.isscalar(data[0]):
        return type(data)(first(part, count) for part in data)
    return data if data is None else data[:count]


def losses_of(model):
    """Return the list of the losses of a model."""
    return LOSSES.setdefault(id(model), (model, []))[1]


def training(change):
    """Replace a way to train by one with other arguments, whose losses are kept."""

    def decorate(original):
        signature = inspect.signature(original)

        @functools.wraps(original)
        def train(*args, **kwargs):
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            given = bound.arguments
            change(given)
            model, others = given.pop("self"), given.pop("kwargs", {})
            INSIDE.append(original)
            try:
                # By name: Keras counts what is given by position.
                result = original(model, **given, **others)
            finally:
                INSIDE.pop()
            if not INSIDE:
                history = getattr(result, "history", None)
                values = history["loss"] if history else [np.ravel(result)[0]]
                losses_of(model).extend(map(float, values))
            return result

        return train

    return decorate


def cut(given):
    """Cut the epochs."""
    last = options.get("until", math.inf)
    given["epochs"] = min(given["epochs"], given["initial_epoch"] + EPOCHS, last)


def cut_fit(given):
    """Cut the samples and the epochs."""
    batch = given["batch_size"] or 32
    count = max(BATCHES * batch, 64)
    if given["validation_data"] is not None:
        given["validation_data"] = first(given["validation_data"], 2 * batch)
    elif given["validation_split"]:
        count = int(count / (1 - given["validation_split"]))
    for name in ("x", "y", "sample_weight"):
        given[name] = first(given[name], count)
    cut(given)


def cut_generator(given):
    """Cut the steps and the epochs."""
    for name, steps in (("steps_per_epoch", BATCHES), ("validation_steps", 2)):
        known = given[name]
        if name == "steps_per_epoch" or known or hasattr(given["validation_data"], "__len__"):
            given[name] = min(known or steps, steps)
    if isinstance(given["validation_data"], tuple):
        given["validation_data"], given["validation_steps"] = (
            first(given["validation_data"], 64),
            None,
        )
    cut(given)


def count_batch(given):
    """End the script after so many batches of its own loop."""
    if not INSIDE:
        OWN_BATCHES.append(given["self"])
        if len(OWN_BATCHES) > options.get("own_batches", math.inf):
            sys.exit()


def minimize(original):
    """Let L-BFGS take few steps."""

    def few(*args, **kwargs):
        return original(*args, **{**kwargs, "maxfun": 2, "maxls": 2})

    return few


def weights_of(name):
    """Save an untrained network where Keras looks for the trained one."""
    maker, file = {
        "VGG19": ("vgg19.VGG19", "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"),
        "InceptionV3": (
            "inception_v3.InceptionV3",
            "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
        ),
        "ResNet50": ("resnet50.ResNet50", "resnet50_weights_tf_dim_ordering_tf_kernels.h5"),
    }[name]
    module, _, function = maker.partition(".")
    network = getattr(getattr(keras.applications, module), function)
    folder = os.path.join(os.environ["KERAS_HOME"], "models")
    os.makedirs(folder, exist_ok=True)
    model = network(weights=None, include_top="notop" not in file)
    model.save_weights(os.path.join(folder, file))
    keras.backend.reset_uids()


options, report, script, *arguments = sys.argv[1:]
options = json.loads(options)
BATCHES, EPOCHS = options.get("batches", 8), options.get("epochs", 3)
np.random.seed(0)
random.seed(0)
Model.fit = training(cut_fit)(Model.fit)
Model.fit_generator = training(cut_generator)(Model.fit_generator)
Model.train_on_batch = training(count_batch)(Model.train_on_batch)
scipy.optimize.fmin_l_bfgs_b = minimize(scipy.optimize.fmin_l_bfgs_b)
# The generated files have other check sums than the true ones.
data_utils.validate_file = lambda *args, **kwargs: True
if shutil.which("dot") is None:
    # One example draws its network before it trains it, which needs GraphViz.
    keras.utils.plot_model = vis_utils.plot_model = lambda *args, **kwargs: None
if "weights" in options:
    weights_of(options["weights"])
sys.argv = [script, *arguments]
try:
    runpy.run_path(script, run_name="__main__")
finally:
    with open(report, "w") as stream:
        json.dump([values for _, values in LOSSES.values()], stream)
