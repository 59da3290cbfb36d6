"""Large products as inner products."""

import numpy as np
import pytest

import ksym
from ksym import ops
from ksym.compiler.inner import inner_products
from ksym.graph import topological_order


def names(tensor):
    return [node.operator.name for node in topological_order([tensor]) if node.inputs]


@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("transpose_a", [False, True])
def test_large_products_are_arranged(transpose_a, transpose_b, rng):
    shapes = [(300, 400), (400, 350)]
    turned = [s[::-1] if t else s for s, t in zip(shapes, (transpose_a, transpose_b), strict=True)]
    a, b = (ksym.placeholder(shape, "float32") for shape in turned)
    product = ksym.matmul(a, b, transpose_a, transpose_b)
    (arranged,) = inner_products([product])
    transposed = ["transpose"] * (transpose_a + (not transpose_b))
    assert names(arranged) == [*transposed, "inner_product"]
    values = [rng.normal(size=shape).astype("float32") for shape in turned]
    found, expected = ksym.function([a, b], [arranged, product], mode="interpret")(*values)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        ksym.function([a, b], product)(*values), expected, rtol=1e-4, atol=1e-4
    )


def test_a_weight_is_not_transposed_for_a_few_rows():
    x, w = ksym.placeholder((32, 1000), "float32"), ksym.placeholder((1000, 1000), "float32")
    assert names(inner_products([x @ w])[0]) == ["matmul"]
    assert names(inner_products([ksym.matmul(x, w, transpose_b=True)])[0]) == ["inner_product"]


def test_matrices_with_many_rows_are_not_transposed():
    x, w = ksym.placeholder((1000, 5000), "float32"), ksym.placeholder((5000, 500), "float32")
    assert names(inner_products([x @ w])[0]) == ["matmul"]


def test_small_and_double_products_and_stacks_are_left():
    for shape, dtype in (((8, 8), "float32"), ((500, 500), "float64"), ((2, 500, 500), "float32")):
        x = ksym.placeholder(shape, dtype)
        assert inner_products([ops.matmul(x, x)])[0].node.operator is ops.matmul
