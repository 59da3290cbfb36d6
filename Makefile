# `make demo` runs ksym, `make test` tests it; both set up everything in .venv first.

PYTHON ?= python3.11
VENV ?= .venv
KERAS ?= 2.3.1
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-deep test-keras test-examples test-agreement test-h5py2 test-faults test-soak docs check format bench wheel clean

demo: $(READY)
	$(BIN)/python examples/digits.py

# Two processes with a thread each: the tests' graphs are too small for more threads to help.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2

test: $(READY)
	$(PYTEST)

# Thousands of drawn cases for each property instead of some tens.
test-deep: $(READY)
	HYPOTHESIS_PROFILE=deep $(PYTEST) tests/properties

# Calls that are interrupted at every point where Python looks for signals, instead of at a sample.
test-faults: $(READY)
	KSYM_FAULTS=all $(PYTEST) tests/runtime/test_interrupts.py tests/runtime/test_failures.py

# Half an hour of steps, functions, models and shapes, after which the process is no larger.
test-soak: $(READY)
	KSYM_SOAK=long OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s tests/test_soak.py

# The page of all operators is written from their declarations.
docs: $(READY)
	$(BIN)/python tools/reference.py > docs/operators.md

# Keras's own tests, compared with the list of those that do not pass.
# KERAS=2.2.4 takes that version and its tests, and the list for it.
test-keras: $(READY)
	$(BIN)/python tests/keras_suite/run.py --keras $(KERAS)

# Keras's own examples, on small generated data, compared with the list of those that do not pass.
# EXAMPLES="mnist_cnn imdb_lstm" runs these only.
test-examples: $(READY)
	$(BIN)/python tests/keras_examples/run.py $(EXAMPLES)

# Models, layers, functions and files compared with Keras on TensorFlow and on Theano, each in an
# environment of its own.
test-agreement: $(READY)
	$(BIN)/python tests/agreement/run.py

# Files under the last h5py of the kind that Keras was made for, built from source with HDF5_DIR.
test-h5py2: $(READY)
	VENV=$(abspath $(VENV)) PYTHON=$(PYTHON) sh tests/h5py2.sh

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
	$(BIN)/python benchmarks/peers.py --workloads all

# Builds the wheel, installs it into an empty environment, and uses it there.
wheel: $(READY)
	VENV=$(abspath $(VENV)) PYTHON=$(PYTHON) sh tests/wheel.sh

clean:
	rm -rf $(VENV) .bench build dist demo-output .mypy_cache .ruff_cache .hypothesis

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@
