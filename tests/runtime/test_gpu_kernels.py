"""Every native operator that can be emitted has a kernel for GPUs in MXNet 1.9.1."""

import ast
import itertools
from pathlib import Path

import operator_examples
import pytest
import reference

import ksym
from ksym.compiler.codegen.nnvm import NativeGraph
from ksym.compiler.compile import compile_graph
from ksym.compiler.mode import Mode
from ksym.compiler.plan import CondWork, FrozenGraph, Plan, ScanWork, Target, WhileWork
from ksym.errors import KsymError
from ksym.graph import OPERATORS

ROOT = Path(__file__).parents[2]
TABLE = (Path(__file__).parent / "gpu_kernels.txt").read_text()
KERNELS = {line.split()[0] for line in TABLE.splitlines() if not line.startswith("#")}


def plans_in(plan: Plan):
    yield plan
    for part in plan.parts:
        work, inner = part.work, []
        if isinstance(work, ScanWork):
            inner = [work.body] if work.body else []
        elif isinstance(work, WhileWork):
            inner = [work.test, work.body()]
        elif isinstance(work, CondWork):
            inner = [work.branch(True), work.branch(False)]
        for each in inner:
            yield from plans_in(each)


def emitted(*tensors):
    """The names of the native operators that compute tensors where no kernels are compiled."""
    plan = compile_graph(FrozenGraph(tensors, (), Mode(), Target(kernels=False)), {})
    works = [part.work for each in plans_in(plan) for part in each.parts]
    graphs = [work for work in works if isinstance(work, NativeGraph)]
    return {node["op"] for graph in graphs for node in graph.nodes} - {"null"}


def squared(tensor):
    return ksym.sum(ksym.square(tensor))


@pytest.mark.parametrize("name", sorted(set(OPERATORS) - set(reference.LEAVES)))
def test_an_operator_and_its_gradients_run_on_a_gpu(name):
    inputs, _, outputs = operator_examples.applied(name)
    found = emitted(*outputs)
    floats = [t for t in inputs if t.dtype.startswith("float")]
    for y in (t for t in outputs if t.dtype.startswith("float")):
        try:
            first = ksym.gradients(squared(y), floats, disconnected="zero")
            second = ksym.gradients(sum(map(squared, first)), floats, disconnected="zero")
        except KsymError:  # there is none
            continue
        if all(None not in t.shape for t in (*first, *second)):
            found |= emitted(*first, *second)
    assert found <= KERNELS


def literals(path):
    """The names of native operators that a file's text gives to an emitter, or to MXNet."""
    tree = ast.parse(path.read_text())
    for node in itertools.chain(tree.body, *(c.body for c in tree.body if hasattr(c, "body"))):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("onnx"):
            for call in ast.walk(node):
                if isinstance(call, ast.Call) and call.args:
                    named = ast.unparse(call.func) in ("emit", "emit.backward", "invoke")
                    first = call.args[0]
                    if named and isinstance(first, ast.Constant) and isinstance(first.value, str):
                        yield first.value


def test_what_is_emitted_by_name_runs_on_a_gpu():
    rooms = ("ops", "operator", "loops", "compiler", "runtime")
    files = [path for room in rooms for path in (ROOT / "ksym" / room).rglob("*.py")]
    found = {name for path in files for name in literals(path)}
    assert {"_npi_cholesky", "Convolution", "_backward_gather_nd", "_copyto"} <= found
    assert found <= KERNELS


def test_the_table_knows_what_has_no_kernel():
    assert len(KERNELS) > 1000
    # Those of oneDNN, of OpenCV, and one of MXNet's own that only sparse matrices on a CPU have.
    assert not KERNELS & {"_sg_mkldnn_conv", "_cvimresize", "_contrib_getnnz"}
