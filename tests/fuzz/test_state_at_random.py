"""Programs of variables, functions and files do what the same programs do in NumPy.

A state machine draws what users do with variables; a model of arrays does the same.  After each
step all variables are compared.  `make test-fuzz` draws for an hour.
"""

import copy
import functools
import pathlib
import pickle
import tempfile

import counting
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

import ksym
from ksym.compiler.mode import names
from ksym.errors import DeviceError, KsymError

SHAPES = st.sampled_from([(), (1,), (3,), (0,)])
FLOATS = ("float64", "float32", "float16")
BOUND = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-2}
UNARY, BINARY = ("tanh", "sin", "negative", "sum", "stop"), ("add", "multiply", "maximum", "where")


def recipes():
    """Draw expressions of variables and an input, as nested tuples."""
    leaves = st.tuples(st.sampled_from(("variable", "input", "number")), st.integers(0, 3))
    return st.recursive(
        leaves,
        lambda inner: (
            st.tuples(st.sampled_from(UNARY), inner)
            | st.tuples(st.sampled_from(BINARY), inner, inner)
        ),
        max_leaves=5,
    )


def computed(m, recipe, variables, value):
    """Compute an expression by NumPy or by ksym, in float64."""
    kind, *rest = recipe
    if kind == "number":
        return m.add(np.float64(rest[0]) / 4, 0.0 * value)
    if kind == "input":
        return value
    if kind == "variable":
        return as_float(m, variables[rest[0] % len(variables)])
    operands = [computed(m, part, variables, value) for part in rest]
    if kind == "where":
        return m.where(operands[0] > 0.25, operands[1], operands[1] * 0.5)
    if kind == "stop":
        return operands[0] if m is np else ksym.stop_gradient(operands[0])
    return getattr(m, kind)(*operands)


def as_float(m, tensor):
    return tensor.astype("float64") if m is np else ksym.cast(tensor, "float64")


def new_value(m, recipe, variable, variables, value):
    """Compute the new value of a variable: small numbers of its shape and dtype."""
    shape, dtype = variable.shape, str(variable.dtype)
    if dtype not in FLOATS:
        # A number takes the variable's dtype; NumPy 1 has it so for arrays with axes only.
        number = functools.partial(np.array, dtype=dtype) if m is np else int
        factor, summand = (3, recipe[-1]) if isinstance(recipe[-1], int) else (1, 1)
        return (variable * number(factor) + number(summand)) % number(101)
    result = m.tanh(m.sum(computed(m, recipe, variables, value))) + 0.5 * as_float(m, variable)
    result = m.broadcast_to(result, shape)
    return result.astype(dtype) if m is np else ksym.cast(result, dtype)


class Made:
    """A function, and what it was made of: expressions, and which variables."""

    def __init__(self, function, outputs, updates, read, given):
        self.function, self.outputs, self.updates = function, outputs, updates
        self.read, self.given = read, given

    def in_numpy(self, arrays, value):
        """Return the outputs, and the new values of the variables that are updated."""
        values = [arrays[i] for i in self.read]
        value = np.float64(value if self.given is None else value * self.given)
        with np.errstate(all="ignore"):
            outputs = [computed(np, recipe, values, value) for recipe in self.outputs]
            new = {
                i: np.asarray(new_value(np, recipe, arrays[i], values, value), arrays[i].dtype)
                for i, recipe in self.updates.items()
            }
        return outputs, new


def close(found, expected, dtype):
    """Compare what ksym and NumPy computed."""
    assert found.shape == np.shape(expected)
    bound = BOUND.get(dtype, 0)
    np.testing.assert_allclose(found, expected, rtol=bound, atol=4 * bound)


class Programs(RuleBasedStateMachine):
    """Variables and functions of ksym, and arrays that stand for them."""

    def __init__(self):
        super().__init__()
        counting.add(programs=1)
        self.variables, self.arrays, self.functions = [], [], []

    def _step(self, **counts):
        counting.add(calls=1, **counts)

    @rule(
        shape=SHAPES, dtype=st.sampled_from((*FLOATS, "int32", "uint8")), number=st.integers(0, 9)
    )
    def make_variable(self, shape, dtype, number):
        if len(self.variables) < 6:
            self.arrays.append(np.full(shape, number, dtype) / np.array(2, dtype))
            self.arrays[-1] = self.arrays[-1].astype(dtype)
            self.variables.append(ksym.Variable(self.arrays[-1], dtype=dtype))

    @precondition(lambda self: self.variables)
    @rule(
        data=st.data(),
        outputs=st.lists(recipes(), max_size=2),
        mode=st.sampled_from(("native", "native", "interpret")),
        off=st.sets(st.sampled_from(names()), max_size=3),
        given=st.sampled_from((None, None, 2.0, -0.5)),
    )
    def make_function(self, data, outputs, mode, off, given):
        places = st.integers(0, len(self.variables) - 1)
        read = data.draw(st.lists(places, min_size=1, max_size=2, unique=True))
        updates = data.draw(st.dictionaries(places, recipes(), max_size=2))
        try:
            Made(None, outputs, updates, read, given).in_numpy(self.arrays, 0.5)
        except ValueError:  # shapes that do not broadcast
            with pytest.raises(KsymError):
                self._function(outputs, updates, read, given)
            self._step(refused=1)
            return
        flags = dict.fromkeys(off, False)
        function = self._function(outputs, updates, read, given, mode=mode, flags=flags)
        self.functions.append(Made(function, outputs, updates, read, given))

    def _function(self, outputs, updates, read, given, **options):
        x = ksym.placeholder((), "float64")
        inner = x if given is None else ksym.placeholder((), "float64")
        values = [self.variables[i] for i in read]
        tensors = [computed(ksym, recipe, values, inner) for recipe in outputs]
        new = [
            (self.variables[i], new_value(ksym, recipe, self.variables[i], values, inner))
            for i, recipe in updates.items()
        ]
        givens = None if given is None else {inner: x * given}
        return ksym.function([x], tensors, new, givens, on_unused_input="ignore", **options)

    @precondition(lambda self: self.functions)
    @rule(data=st.data(), value=st.sampled_from((0.0, 0.5, -1.25)))
    def call(self, data, value):
        made = data.draw(st.sampled_from(self.functions))
        self._called(made, value)

    def _called(self, made, value):
        found = made.function(value)
        outputs, new = made.in_numpy(self.arrays, value)
        for mine, theirs in zip(found, outputs, strict=True):
            close(mine, theirs, "float16" if self._has_half(made) else "float32")
        for i, array in new.items():
            mine = self.variables[i].get_value()
            close(mine, array, str(array.dtype))
            self.arrays[i] = mine  # so that errors do not add up
        self._step()

    def _has_half(self, made):
        return any(self.arrays[i].dtype == "float16" for i in made.read)

    @precondition(lambda self: self.functions)
    @rule(data=st.data(), value=st.sampled_from(([1.0, 2.0], "x", [[1.0]], 1j, None)))
    def call_with_what_is_no_number(self, data, value):
        made = data.draw(st.sampled_from(self.functions))
        with pytest.raises(KsymError):
            made.function(value)
        self._step(refused=1)

    @precondition(lambda self: self.variables)
    @rule(data=st.data(), size=st.integers(0, 4))
    def update_by_a_value_whose_shape_only_the_call_knows(self, data, size):
        place = data.draw(st.integers(0, len(self.variables) - 1))
        variable = self.variables[place]
        if variable.rank != 1 or str(variable.dtype) not in FLOATS:
            return
        x = ksym.placeholder((None,), "float64")
        others = [(v, v * 0) for i, v in enumerate(self.variables) if i != place]
        function = ksym.function([x], None, [(variable, ksym.cast(x, variable.dtype)), *others])
        if size == variable.shape[0]:
            function(np.ones(size))
            self.arrays = [np.zeros_like(a) for a in self.arrays]
            self.arrays[place] = np.ones_like(self.arrays[place])
        else:
            with pytest.raises(KsymError):
                function(np.ones(size))
        self._step()

    @precondition(lambda self: self.variables)
    @rule(data=st.data(), number=st.integers(0, 5))
    def set_values(self, data, number):
        places = data.draw(st.sets(st.integers(0, len(self.variables) - 1), min_size=1))
        new = {i: np.full_like(self.arrays[i], number) for i in sorted(places)}
        ksym.set_values([(self.variables[i], array) for i, array in new.items()])
        for i, array in new.items():
            self.arrays[i] = array
        self._step()

    @precondition(lambda self: self.variables)
    @rule(data=st.data())
    def set_values_of_which_one_does_not_fit(self, data):
        wrong = data.draw(st.sampled_from(self.variables))
        new = [(v, np.zeros(v.shape if v is not wrong else (2, 2))) for v in self.variables]
        with pytest.raises(KsymError):
            ksym.set_values(new)
        self._step(refused=1)

    @precondition(lambda self: self.variables)
    @rule(data=st.data())
    def carry_out_an_update(self, data):
        place = data.draw(st.integers(0, len(self.variables) - 1))
        variable = self.variables[place]
        result = ksym.evaluate(variable.assign_add(np.ones((), variable.dtype)))
        self.arrays[place] = self.arrays[place] + np.ones((), self.arrays[place].dtype)
        np.testing.assert_array_equal(result, self.arrays[place])
        self._step()

    @rule(way=st.sampled_from(("pickle", "copy")))
    def move_everything(self, way):
        world = ([made.function for made in self.functions], self.variables)
        if way == "pickle":
            functions, self.variables = pickle.loads(pickle.dumps(world))
        else:
            functions, self.variables = copy.deepcopy(world)
        for made, function in zip(self.functions, functions, strict=True):
            made.function = function
        self._step()

    @precondition(lambda self: self.functions)
    @rule(data=st.data(), way=st.sampled_from(("pickle", "copy", "file")))
    def call_a_copy_of_a_function(self, data, way):
        """A copy has variables of its own, so nothing changes here."""
        made = data.draw(st.sampled_from(self.functions))
        if way == "file":
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "function.ksym"
                ksym.save(made.function, path)
                again = ksym.load(path)
        else:
            again = (
                copy.deepcopy(made.function)
                if way == "copy"
                else pickle.loads(pickle.dumps(made.function))
            )
        outputs, _ = made.in_numpy(self.arrays, 0.5)
        for mine, theirs in zip(again(0.5), outputs, strict=True):
            close(mine, theirs, "float16" if self._has_half(made) else "float32")
        self._step()

    @rule(device=st.sampled_from(("cpu", "gpu:7", "tpu")))
    def choose_a_device(self, device):
        if device == "cpu":
            ksym.evaluate(ksym.constant(1.0) + 1.0)
            ksym.set_device(str(ksym.get_device()))
        else:
            with pytest.raises(DeviceError):
                ksym.set_device(device)

    @invariant()
    def variables_are_what_the_model_says(self):
        found = ksym.get_values(self.variables) if self.variables else []
        for mine, theirs, variable in zip(found, self.arrays, self.variables, strict=True):
            assert mine.dtype == theirs.dtype == variable.dtype
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.filterwarnings("ignore:the given for:ksym.KsymWarning")
def test_variables_do_what_arrays_do():
    run_machine(Programs, settings=settings(stateful_step_count=25))


FUZZED = test_variables_do_what_arrays_do
