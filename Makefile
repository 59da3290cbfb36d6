# `make demo` runs ksym, `make test` tests it; both set up everything in .venv first.

# PYTHON=python3.11 takes that one instead of the newest that is there and tested; NUMPY=1.23 takes that
# one instead of the newest that is tested with it.  Each pair has a file in requirements, and an
# environment of its own.
FOUND := $(shell sh tools/find_python.sh)
PYTHON ?= $(FOUND)
NUMPY ?=
pair = $(shell sh tools/pair.sh "$(1)" $(2))
PAIR := $(call pair,$(PYTHON),$(NUMPY))
# With KSYM_DEVICE=gpu:0 the tests run on that GPU, in an environment with the CUDA build of MXNet.
GPU := $(findstring gpu,$(KSYM_DEVICE))
VENV ?= $(if $(GPU),.venvs/$(PAIR)-cu112,$(if $(filter $(PAIR),$(call pair,$(FOUND))),.venv,.venvs/$(PAIR)))
KERAS ?= 2.3.1
BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(PAIR)

.PHONY: demo test test-part test-threaded test-versions test-deep test-keras test-keras3 test-keras3-sample test-keras-ksym test-examples test-agreement test-agreement3 test-h5py2 test-browser test-faults test-fuzz test-soak docs docs-version check format bench wheel clean

demo: $(READY)
	$(BIN)/python examples/digits.py

# Two processes with a thread each: the tests' graphs are too small for more threads to help.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2

test: $(READY)
	$(PYTEST)

# The part that tells versions of Python and NumPy apart, in three minutes.
PART := $(addprefix tests/,test_results.py test_versions.py test_dtypes.py test_numbers.py test_protocols.py \
    test_numpy_names.py test_variables.py test_function.py test_dynamic.py test_libmxnet.py runtime \
    ops/linalg ops/test_semantics.py ops/test_integers.py ops/test_python_functions.py keras/test_shims.py \
    keras/test_files.py keras/test_environment.py keras/test_dtypes_of_values.py export/test_mxnet.py)

test-part: $(READY)
	$(PYTEST) $(PART)

# The way that calls take on a GPU, as far as a machine without one can show it: MXNet's engine is
# asynchronous, and the host does not access arrays.
THREADED := $(addprefix tests/,test_function.py test_dynamic.py loops compiler/loops \
    runtime/test_asynchronous.py runtime/test_failures.py runtime/test_guard.py keras/test_models.py \
    properties/test_operators.py)

test-threaded: $(READY)
	MXNET_ENGINE_TYPE=ThreadedEnginePerDevice KSYM_DEVICE=cpu HYPOTHESIS_PROFILE=brief $(PYTEST) $(THREADED)

# All pairs of Python and NumPy, each in its environment, and a table of what passed; TARGET=test-part
# runs that part.
TARGET ?= test
test-versions:
	$(PYTHON) tests/versions.py $(TARGET)

# Thousands of drawn cases for each property instead of some tens.
test-deep: $(READY)
	HYPOTHESIS_PROFILE=deep $(PYTEST) tests/properties

# Calls that are interrupted at every point where Python looks for signals, instead of at a sample.
test-faults: $(READY)
	KSYM_FAULTS=all $(PYTEST) tests/runtime/test_interrupts.py tests/runtime/test_failures.py

# An hour of random graphs, programs of variables, and Keras models; MINUTES=5 takes that long.
# Models are trained on TensorFlow too, where `make test-agreement` has installed it.
MINUTES ?= 60
test-fuzz: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/run.py --minutes $(MINUTES)

# Half an hour of steps, functions, models and shapes, after which the process is no larger.
test-soak: $(READY)
	KSYM_SOAK=long OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s tests/test_soak.py

# The page of all operators is written from their declarations; build/site has all pages as a site.
docs: $(READY)
	$(BIN)/python tools/reference.py > docs/operators.md
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

# The site of this version, beside those of others, in the branch gh-pages of this repository: mike commits
# there and pushes nothing.  `mike set-default latest`, once, leads to the newest.
docs-version: docs
	PATH="$(abspath $(BIN)):$$PATH" NO_MKDOCS_2_WARNING=1 mike deploy --update-aliases \
	    $$($(BIN)/python -c "import ksym; print(ksym.__version__)") latest

# Keras's own tests, compared with the list of those that do not pass.
# KERAS=2.2.4 takes that version and its tests, and the list for it; FILES="keras/losses_test.py" some.
test-keras: $(READY)
	$(BIN)/python tests/keras_suite/run.py --keras $(KERAS) $(FILES)

# The tests of keras_ksym, Keras 3's backend, beside Keras 3: ARGUMENTS="-k seeds" are pytest's.
test-keras-ksym: $(READY)
	$(BIN)/python tests/keras3/run.py $(ARGUMENTS)

# Keras's own tests for Keras 3.
KERAS3 ?= 3.15.1
test-keras3: $(READY)
	$(BIN)/python tests/keras_suite/run.py --keras $(KERAS3) $(FILES)

# A fair sample of them, of which no test imports TensorFlow or JAX: two minutes.
SAMPLE := $(patsubst %,keras/src/%_test.py,activations/activations callbacks/early_stopping \
    $(addprefix dtype_policies/,dtype_policy dtype_policy_map) initializers/random_initializers \
    layers/layer $(addprefix layers/,activations/leaky_relu attention/attention \
    attention/grouped_query_attention convolutional/conv convolutional/separable_conv \
    core/lambda_layer normalization/batch_normalization normalization/layer_normalization \
    pooling/average_pooling pooling/max_pooling regularization/dropout reshaping/up_sampling2d \
    rnn/conv_lstm rnn/lstm rnn/rnn rnn/time_distributed) losses/losses \
    $(addprefix metrics/,accuracy_metrics reduction_metrics regression_metrics) \
    $(addprefix models/,cloning functional sequential) ops/linalg \
    $(addprefix optimizers/,adam lion loss_scale_optimizer schedules/learning_rate_schedule) \
    regularizers/regularizers $(addprefix saving/,saving_api serialization_lib) trainers/compile_utils)

test-keras3-sample: $(READY)
	$(BIN)/python tests/keras_suite/run.py --keras $(KERAS3) --alone $(SAMPLE)

# Keras's own examples, on small generated data, compared with the list of those that do not pass.
# EXAMPLES="mnist_cnn imdb_lstm" runs these only.
test-examples: $(READY)
	$(BIN)/python tests/keras_examples/run.py $(EXAMPLES)

# Models, layers, functions and files compared with Keras on TensorFlow and on Theano, each in an
# environment of its own.
test-agreement: $(READY)
	$(BIN)/python tests/agreement/run.py

# Losses, weights and outputs of twenty models of Keras 3, compared with those on JAX.
test-agreement3: $(READY)
	$(BIN)/python tests/keras3/agreement.py

# Files under the last h5py of the kind that Keras was made for, built from source with HDF5_DIR.
test-h5py2: $(READY)
	VENV=$(abspath $(VENV)) PYTHON=$(PYTHON) sh tests/h5py2.sh

# The pages of graphs in headless Chromium: Debian's packages chromium and chromium-driver.
test-browser: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check selenium
	$(BIN)/python -m pytest -s tests/browser/page.py

check: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Builds an environment for each peer in .bench; benchmarks/README.md says how to take parts.
bench: $(READY)
	$(BIN)/python benchmarks/agreement.py
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/chains.py
	$(BIN)/python benchmarks/passes.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/costs.py
	$(BIN)/python benchmarks/operators.py
	$(BIN)/python benchmarks/round_trips.py
	$(BIN)/python benchmarks/peers.py --workloads six,recurrent
	$(BIN)/python benchmarks/breadth.py

# Builds the wheel, installs it into an empty environment, and uses it there.
wheel: $(READY)
	VENV=$(abspath $(VENV)) PYTHON=$(PYTHON) PAIR=$(PAIR) sh tests/wheel.sh

clean:
	rm -rf .venv .venvs .bench build dist demo-output .mypy_cache .ruff_cache .hypothesis

PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

$(READY): requirements/$(PAIR).txt pyproject.toml $(filter-out %__pycache__,$(wildcard libmxnet/*))
	[ -e $@ ] || rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --requirement requirements/$(PAIR).txt
	$(PIP) install --no-deps --no-build-isolation ./libmxnet$(if $(GPU),-cu112)
	$(PIP) install $(if $(GPU),,--no-deps) --no-build-isolation --editable '.$(if $(GPU),[cu112])'
	touch $@

# What is said where there is no such pair.
requirements/.txt:
	@echo 'There is no Python here that ksym is tested with, or not with that NumPy: PYTHON=... names' >&2
	@echo 'an interpreter, NUMPY=... a NumPy, of' $(patsubst requirements/%.txt,%,$(wildcard requirements/*.txt)) >&2
	@exit 1
