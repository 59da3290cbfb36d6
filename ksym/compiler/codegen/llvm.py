"""Code generation for kernels: write a `Kernel` as LLVM's code.

The code depends on which axes are contiguous or broadcast, but not on sizes, so kernels of equal
structure share it.  Nor does it depend on constants, except where knowing them makes better code
(`_is_written`).  It is one function of one argument, a table of 64-bit words: the size of each
axis, the strides that occur, the constants, then the address of each array.  Several threads of an
OpenMP team may run it at once, and share the work.  A reduction combines its elements with those in
the result's array, which has to be filled before.
"""

from __future__ import annotations

import math
import struct
from typing import NamedTuple

import numpy as np

from ksym.compiler.fusion import formulas
from ksym.compiler.fusion.kernel import Kernel, View, collapsed, is_number
from ksym.operator.machine import Register

ENTRY = "run"
"""The name of the function."""

_TINY = float(np.finfo("float32").tiny)
_TYPES = {"float32": "float", "float64": "double", "int32": "i32", "int64": "i64", "bool": "i1"}
_STORED = {**_TYPES, "bool": "i8"}
_SUFFIX = {"float32": "f32", "float64": "f64"}


class _Layout(NamedTuple):
    """The bits of a float: an integer type as wide, the fraction's bits, the exponent's bias."""

    integer: str
    fraction: int
    bias: int
    root_half: int
    """The bits of sqrt(1/2)."""


_LAYOUTS = {
    "float32": _Layout("i32", 23, 127, 0x3F3504F3),
    "float64": _Layout("i64", 52, 1023, 0x3FE6A09E667F3BCD),
}


class KernelCode(NamedTuple):
    """The code of a kernel, and the contents of its table.

    Attributes:
        text: The code.
        numbers: The first words of the table: sizes, strides, and the bits of constants.
        arrays: The views whose first elements' addresses are the other words.
    """

    text: str
    numbers: list[int]
    arrays: list[View]


class _Machine(formulas.Mathematics):
    """The machine that generates the instructions for one element."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.declarations: dict[str, None] = {}
        self.constants: dict[tuple[str, int], str] = {}
        """The register of each constant in the table, by its dtype and bits."""
        self._count = 0

    def put(self, code: str, dtype: str) -> Register:
        """Add an instruction and return its result."""
        name = f"%v{self._count}"
        self._count += 1
        self.lines.append(f"  {name} = {code}")
        return Register(name, dtype)

    def number(self, value: float, dtype: str) -> Register:
        if dtype == "bool":
            return Register("true" if value else "false", dtype)
        if dtype in formulas.COMPILED_INTEGERS:
            return Register(str(int(value)), dtype, int(value))
        if dtype == "float32":
            (value,) = struct.unpack("f", struct.pack("f", value))
        # Floats of both widths are written as the bits of a double.
        (bits,) = struct.unpack("Q", struct.pack("d", value))
        return Register(f"0x{bits:016X}", dtype)

    def constant(self, value: float, dtype: str) -> Register:
        """Return a constant of the graph, which is read from the table unless `_is_written`."""
        if dtype not in formulas.COMPILED_FLOATS or _is_written(value):
            return self.number(value, dtype)
        kind = {"float32": "fi", "float64": "dq"}[dtype]
        (bits,) = struct.unpack(kind[1], struct.pack(kind[0], value))
        name = self.constants.setdefault((dtype, bits), f"%c{len(self.constants)}")
        return Register(name, dtype)

    def arithmetic(self, operation: str, x: Register, y: Register) -> Register:
        # Each result is rounded, so a kernel equals its operators one by one to the last bit.
        code = f"f{operation}" if x.dtype in formulas.COMPILED_FLOATS else operation
        return self.put(f"{code} {_TYPES[x.dtype]} {x.text}, {y.text}", x.dtype)

    def added(self, total: Register, x: Register) -> Register:
        # LLVM may reorder the sum, to add several summands at once.
        return self.put(f"fadd reassoc {_TYPES[x.dtype]} {total.text}, {x.text}", x.dtype)

    def compare(self, relation: str, x: Register, y: Register) -> Register:
        if x.dtype in formulas.COMPILED_FLOATS:
            code = f"fcmp {'u' if relation == 'ne' else 'o'}{relation}"
        else:
            signed = "u" if x.dtype == "bool" else "s"
            code = f"icmp {relation if relation in ('eq', 'ne') else f'{signed}{relation}'}"
        return self.put(f"{code} {_TYPES[x.dtype]} {x.text}, {y.text}", "bool")

    def choose(self, condition: Register, x: Register, y: Register) -> Register:
        kind = _TYPES[x.dtype]
        return self.put(f"select i1 {condition.text}, {kind} {x.text}, {kind} {y.text}", x.dtype)

    def _call(self, name: str, *operands: Register) -> Register:
        dtype = operands[0].dtype
        kind = _TYPES[dtype]
        self.declarations[f"declare {kind} @{name}({', '.join([kind] * len(operands))})"] = None
        given = ", ".join(f"{kind} {x.text}" for x in operands)
        return self.put(f"call {kind} @{name}({given})", dtype)

    def _intrinsic(self, function: str, *operands: Register) -> Register:
        """Call a function that LLVM itself has: an intrinsic."""
        return self._call(f"llvm.{function}.{_SUFFIX[operands[0].dtype]}", *operands)

    def multiply_add(self, x: Register, y: Register, z: Register) -> Register:
        return self._intrinsic("fmuladd", x, y, z)

    def root(self, x: Register) -> Register:
        return self._intrinsic("sqrt", x)

    def power(self, x: Register, y: Register) -> Register:
        return self._intrinsic("pow", x, y)

    def call(self, function: str, *operands: Register) -> Register:
        single = "f" if operands[0].dtype == "float32" else ""
        return self._call(f"{function}{single}", *operands)

    def magnitude(self, x: Register) -> Register:
        return self._intrinsic("fabs", x)

    def with_sign(self, x: Register, y: Register) -> Register:
        return self._intrinsic("copysign", x, y)

    def whole(self, direction: str, x: Register) -> Register:
        return self._intrinsic(direction, x)

    def rounded(self, x: Register) -> tuple[Register, Register]:
        # Near this number the unit in the last place is one: addition rounds, and the bits count.
        layout = _LAYOUTS[x.dtype]
        anchor = self.number(1.5 * 2.0**layout.fraction, x.dtype)
        moved = self.arithmetic("add", x, anchor)
        whole = self.arithmetic("sub", moved, anchor)
        bits = self._bits(moved)
        first = self._bits(anchor)
        return whole, self.put(f"sub {layout.integer} {bits.text}, {first.text}", x.dtype)

    def power_of_two(self, exponent: Register) -> tuple[Register, Register]:
        layout = _LAYOUTS[exponent.dtype]
        kind, dtype = layout.integer, exponent.dtype
        half = self.put(f"ashr {kind} {exponent.text}, 1", dtype)
        rest = self.put(f"sub {kind} {exponent.text}, {half.text}", dtype)
        return self._power(half), self._power(rest)

    def _power(self, exponent: Register) -> Register:
        layout = _LAYOUTS[exponent.dtype]
        biased = self.put(f"add {layout.integer} {exponent.text}, {layout.bias}", exponent.dtype)
        bits = self.put(f"shl {layout.integer} {biased.text}, {layout.fraction}", exponent.dtype)
        return self._from_bits(bits)

    def parts(self, x: Register) -> tuple[Register, Register]:
        layout = _LAYOUTS[x.dtype]
        kind = layout.integer
        # Subnormal numbers are scaled first.
        small = self.compare("lt", x, self.number(2.0 ** (1 - layout.bias), x.dtype))
        shift = layout.fraction + 1
        scaled = self.arithmetic("mul", x, self.number(2.0**shift, x.dtype))
        bits = self._bits(self.choose(small, scaled, x))
        moved = self.put(f"sub {kind} {bits.text}, {layout.root_half}", x.dtype)
        exponent = self.put(f"ashr {kind} {moved.text}, {layout.fraction}", x.dtype)
        back = self.put(f"shl {kind} {exponent.text}, {layout.fraction}", x.dtype)
        mantissa = self._from_bits(self.put(f"sub {kind} {bits.text}, {back.text}", x.dtype))
        whole = self.put(f"sitofp {kind} {exponent.text} to {_TYPES[x.dtype]}", x.dtype)
        less = self.arithmetic("sub", whole, self.number(float(shift), x.dtype))
        return mantissa, self.choose(small, less, whole)

    def _bits(self, x: Register) -> Register:
        integer = _LAYOUTS[x.dtype].integer
        return self.put(f"bitcast {_TYPES[x.dtype]} {x.text} to {integer}", x.dtype)

    def _from_bits(self, bits: Register) -> Register:
        integer = _LAYOUTS[bits.dtype].integer
        return self.put(f"bitcast {integer} {bits.text} to {_TYPES[bits.dtype]}", bits.dtype)

    def cast(self, x: Register, dtype: str) -> Register:
        source, target = _TYPES[x.dtype], _TYPES[dtype]
        if x.dtype == dtype:
            return x
        if dtype == "bool":
            return self.compare("ne", x, self.number(0.0, x.dtype))
        before, after = x.dtype in formulas.COMPILED_FLOATS, dtype in formulas.COMPILED_FLOATS
        wider = _itemsize(dtype) > _itemsize(x.dtype)
        if before and after:
            code = "fpext" if wider else "fptrunc"
        elif before:
            code = "fptosi"
        elif after:
            code = "uitofp" if x.dtype == "bool" else "sitofp"
        else:
            code = "zext" if x.dtype == "bool" else "sext" if wider else "trunc"
        return self.put(f"{code} {source} {x.text} to {target}", dtype)

    def load(self, address: str, dtype: str) -> Register:
        """Read an element."""
        found = self.put(f"load {_STORED[dtype]}, ptr {address}, align {_itemsize(dtype)}", dtype)
        return self.put(f"icmp ne i8 {found.text}, 0", dtype) if dtype == "bool" else found

    def store(self, value: Register, address: str) -> None:
        """Write an element."""
        text = value.text
        if value.dtype == "bool":
            text = self.put(f"zext i1 {text} to i8", "bool").text
        kind = _STORED[value.dtype]
        self.lines.append(f"  store {kind} {text}, ptr {address}, align {_itemsize(value.dtype)}")


def _is_written(value: float) -> bool:
    """Return whether a constant of the graph is written into the code.

    LLVM makes use of the value of some: multiplies by 0.5 instead of dividing by 2, negates instead
    of multiplying by -1, and knows the powers 0.5, 2 and -1, and those of 2 and 10.  A subnormal
    number stays one where LLVM computes with it; read from the table it is flushed to zero.  With
    any other constant only the number differs.
    """
    if not math.isfinite(value) or math.frexp(abs(value))[0] == 0.5:
        return True
    return abs(value) <= _TINY or (abs(value) <= 16 and (2 * value).is_integer())


def _itemsize(dtype: str) -> int:
    return np.dtype(dtype).itemsize


def emit(kernel: Kernel) -> KernelCode:
    """Return the code of a kernel."""
    sizes, views = collapsed(kernel)
    if not sizes:  # a single element
        sizes, views = [1], [view._replace(strides=(0,)) for view in views]
    # A view that is both read and written is one array of the function.
    arrays = list(dict.fromkeys(views))
    read, written = views[: len(kernel.arrays)], views[len(kernel.arrays) :]
    strides: list[int] = []
    patterns: list[Pattern] = []
    for view in arrays:
        pattern: list[int | str] = []
        for axis, stride in enumerate(view.strides):
            if stride == 0 or (stride == 1 and axis == len(sizes) - 1):
                pattern.append(stride)  # known to the code, so that it can be vectorised
                continue
            if stride not in strides:
                strides.append(stride)
            pattern.append(f"%stride{strides.index(stride)}")
        patterns.append(tuple(pattern))
    machine = _Machine()
    kinds = list(dict.fromkeys(patterns))
    dtypes = [view.tensor.dtype for view in arrays]
    addresses = {}
    for number, (view, kind) in enumerate(zip(arrays, patterns, strict=True)):
        offset = f"%offset{kinds.index(kind)}.{len(sizes) - 1}"
        element = _STORED[view.tensor.dtype]
        code = f"getelementptr inbounds {element}, ptr %a{number}, i64 {offset}"
        addresses[view] = machine.put(code, "").text
    _element(machine, kernel, [addresses[v] for v in read], [addresses[v] for v in written])
    words = [
        *(("i64", f"%n{axis}") for axis in range(len(sizes))),
        *(("i64", f"%stride{number}") for number in range(len(strides))),
        *((_TYPES[dtype], name) for (dtype, _), name in machine.constants.items()),
        *(("ptr", f"%a{number}") for number in range(len(dtypes))),
    ]
    parameters = ", ".join(
        f"{kind} noalias nocapture {name}" if kind == "ptr" else f"{kind} {name}"
        for kind, name in words
    )
    lines = [
        f"define internal void @body(i64 %begin, i64 %end, {parameters}) {{",
        "entry:",
        "  br label %head0",
        *_nest(kinds, len(sizes), machine.lines),
        "done:",
        "  ret void",
        "}",
        *_entry(words),
        "declare i32 @omp_get_thread_num()",
        "declare i32 @omp_get_num_threads()",
        *machine.declarations,
    ]
    bits = [bits for _, bits in machine.constants]
    return KernelCode("\n".join(lines) + "\n", [*sizes, *strides, *bits], arrays)


Pattern = tuple[int | str, ...]
"""The stride along each axis: a number that the code knows, or the register that holds it."""


def _element(machine: _Machine, kernel: Kernel, read: list[str], written: list[str]) -> None:
    """Generate the code that reads, computes and writes one element.

    Args:
        machine: The machine, which collects the code.
        kernel: The kernel.
        read: The register with the address of each element that is read.
        written: Likewise for each that is written.
    """
    values: list[Register] = []
    at = iter(read)
    for view in kernel.reads:
        if is_number(view.tensor):
            assert view.tensor.value is not None
            values.append(machine.constant(view.tensor.value.item(), view.tensor.dtype))
        else:
            values.append(machine.load(next(at), view.tensor.dtype))
    for step in kernel.instructions:
        operands = [values[register] for register in step.operands]
        assert step.operator.formula is not None
        values.append(step.operator.formula(machine, *operands, **step.attributes))
    for write, address in zip(kernel.writes, written, strict=True):
        value = values[write.register]
        if write.reduction is not None:
            before = machine.load(address, value.dtype)
            value = write.reduction.formula(machine, before, value)
        machine.store(value, address)


def _nest(kinds: list[Pattern], rank: int, element: list[str]) -> list[str]:
    """Return the lines of the nested loops over the axes; the first runs from %begin to %end."""
    lines = []
    for axis in range(rank):
        before = "entry" if axis == 0 else f"head{axis - 1}.in"
        first, last = ("%begin", "%end") if axis == 0 else ("0", f"%n{axis}")
        after = "done" if axis == 0 else f"head{axis - 1}.next"
        index = f"%i{axis}"
        lines += [
            f"head{axis}:",
            f"  {index} = phi i64 [ {first}, %{before} ], [ {index}.up, %head{axis}.next ]",
            f"  {index}.more = icmp slt i64 {index}, {last}",
            f"  br i1 {index}.more, label %head{axis}.in, label %{after}",
            f"head{axis}.in:",
        ]
        for kind, pattern in enumerate(kinds):
            outer = f"%offset{kind}.{axis - 1}" if axis else "0"
            lines += [
                f"  %step{kind}.{axis} = mul i64 {index}, {pattern[axis]}",
                f"  %offset{kind}.{axis} = add i64 {outer}, %step{kind}.{axis}",
            ]
        if axis < rank - 1:
            lines.append(f"  br label %head{axis + 1}")
    lines += [*element, f"  br label %head{rank - 1}.next"]
    for axis in reversed(range(rank)):
        lines += [
            f"head{axis}.next:",
            f"  %i{axis}.up = add nuw nsw i64 %i{axis}, 1",
            f"  br label %head{axis}",
        ]
    return lines


def _entry(words: list[tuple[str, str]]) -> list[str]:
    """Return the lines of the function that reads the table and takes a thread's share."""
    lines = [f"define void @{ENTRY}(ptr %table) {{"]
    for position, (kind, name) in enumerate(words):
        lines += [
            f"  {name}.at = getelementptr i64, ptr %table, i64 {position}",
            f"  {name} = load {kind}, ptr {name}.at",
        ]
    given = ", ".join(f"{kind} {name}" for kind, name in words)
    return [
        *lines,
        "  %thread = call i32 @omp_get_thread_num()",
        "  %threads = call i32 @omp_get_num_threads()",
        "  %k = sext i32 %thread to i64",
        "  %count = sext i32 %threads to i64",
        "  %before = mul i64 %n0, %k",
        "  %begin = sdiv i64 %before, %count",
        "  %next = add i64 %k, 1",
        "  %after = mul i64 %n0, %next",
        "  %end = sdiv i64 %after, %count",
        f"  call void @body(i64 %begin, i64 %end, {given})",
        "  ret void",
        "}",
    ]
