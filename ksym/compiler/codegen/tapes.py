"""Code generation for tapes: functions that are compiled once, and call other compiled code.

Like the code of a kernel, each is a function of one argument, a table of 64-bit words.  A *tape* is
an array of pairs, the address of a function and that of its table; `play` calls each function in
turn.  `repeat` plays a tape several times, and after each time advances addresses in tables, such
as that of an element of a sequence.  `team` runs a function on several threads.  `flushed` is the
outermost call: it makes the processor take subnormal numbers as zeros (`runtime/subnormal.py`).
"""

from __future__ import annotations

import functools

from ksym.compiler.codegen.blocks import block_declarations, block_lines

_BLOCK = ("a", "b", "out", "rows", "columns", "inner", "across", "along", "ldb", "ldc")

_WORDS = {
    "play": ("tape", "count"),
    "repeat": ("tape", "count", "steps", "moves", "number"),
    "team": ("code", "data", "threads"),
    "flushed": ("code", "data"),
    "copy": ("to", "source", "bytes"),
    "fill": ("to", "count", "bits"),
    "product": ("a", "b", "out", "rows", "columns", "inner", "ta", "tb", "lda", "ldb", "ldc"),
    "block": _BLOCK,
    "turned": _BLOCK,
}
"""The words of each function's table; a product's matrices are stored row by row.

In the matrix a of a block, the distance between neighbouring rows is `across` elements, and that
between neighbouring columns `along`.
"""

_ELEMENTS = ("to", "source", "a", "b", "out")
"""The words that are addresses of elements of arrays."""

_POINTERS = (*_ELEMENTS, "tape", "moves", "code", "data")

FUNCTIONS = (
    *("play", "repeat", "team", "flushed", "copy", "fill_float32", "fill_float64"),
    *("product_float32", "product_float64"),
)
"""The names of the functions."""

SYMBOLS = ("GOMP_parallel", "cblas_sgemm", "cblas_dgemm")
"""The functions of MXNet's library that they call."""


def _words(function: str) -> tuple[str, ...]:
    return _WORDS[function.partition("_")[0]]


def addresses_in(function: str) -> tuple[int, ...]:
    """Return the positions of the words of a function's table that are addresses of elements."""
    return tuple(k for k, word in enumerate(_words(function)) if word in _ELEMENTS)


def _begin(function: str) -> list[str]:
    """Return the first lines of a function, which read its table."""
    lines = [f"define void @{function}(ptr %table) {{", "entry:"]
    for position, word in enumerate(_words(function)):
        kind = "ptr" if word in _POINTERS else "i64"
        lines += [
            f"  %{word}.at = getelementptr i64, ptr %table, i64 {position}",
            f"  %{word} = load {kind}, ptr %{word}.at",
        ]
    return lines


def _counted(name: str, limit: str, inside: list[str]) -> list[str]:
    """Return the lines of a loop that runs other lines for each number below a limit.

    Args:
        name: The name of the register of the number, and of the labels.
        limit: The register of the limit.
        inside: The lines to run.
    """
    return [
        f"  br label %{name}.before",
        f"{name}.before:",
        f"  br label %{name}.head",
        f"{name}.head:",
        f"  %{name} = phi i64 [ 0, %{name}.before ], [ %{name}.up, %{name}.last ]",
        f"  %{name}.more = icmp slt i64 %{name}, {limit}",
        f"  br i1 %{name}.more, label %{name}.in, label %{name}.done",
        f"{name}.in:",
        *inside,
        f"  br label %{name}.last",
        f"{name}.last:",
        f"  %{name}.up = add nsw i64 %{name}, 1",
        f"  br label %{name}.head",
        f"{name}.done:",
    ]


def _play() -> list[str]:
    call = [
        "  %entry.at = getelementptr { ptr, ptr }, ptr %tape, i64 %i",
        "  %code = load ptr, ptr %entry.at",
        "  %data.at = getelementptr ptr, ptr %entry.at, i64 1",
        "  %data = load ptr, ptr %data.at",
        "  call void %code(ptr %data)",
    ]
    return [*_begin("play"), *_counted("i", "%count", call), "  ret void", "}"]


def _moved(name: str, by: list[str]) -> list[str]:
    """Return the lines of a loop that changes each word that `moves` names."""
    change = [
        f"  %{name}.pair = getelementptr {{ ptr, i64 }}, ptr %moves, i64 %{name}",
        f"  %{name}.word = load ptr, ptr %{name}.pair",
        f"  %{name}.by.at = getelementptr i64, ptr %{name}.pair, i64 1",
        f"  %{name}.by = load i64, ptr %{name}.by.at",
        f"  %{name}.old = load i64, ptr %{name}.word",
        *by,
        f"  store i64 %{name}.new, ptr %{name}.word",
    ]
    return _counted(name, "%number", change)


def _repeat() -> list[str]:
    step = [
        # Its first two words are those of `play`.
        "  call void @play(ptr %table)",
        *_moved("m", ["  %m.new = add i64 %m.old, %m.by"]),
    ]
    back = ["  %r.all = mul i64 %r.by, %steps", "  %r.new = sub i64 %r.old, %r.all"]
    return [
        *_begin("repeat"),
        *_counted("s", "%steps", step),
        *_moved("r", back),
        "  ret void",
        "}",
    ]


def _team() -> list[str]:
    return [
        *_begin("team"),
        "  %n = trunc i64 %threads to i32",
        "  call void @GOMP_parallel(ptr %code, ptr %data, i32 %n, i32 0)",
        "  ret void",
        "}",
    ]


def _flushed(control: int) -> list[str]:
    """Return the function that calls code with bits of the SSE control word set, if any are."""
    call = "  call void %code(ptr %data)"
    if control:
        call = "\n".join(
            [
                "  %kept = alloca i32",
                "  %inside = alloca i32",
                "  call void @llvm.x86.sse.stmxcsr(ptr %kept)",
                "  %before = load i32, ptr %kept",
                f"  %set = or i32 %before, {control}",
                "  store i32 %set, ptr %inside",
                "  call void @llvm.x86.sse.ldmxcsr(ptr %inside)",
                call,
                "  call void @llvm.x86.sse.ldmxcsr(ptr %kept)",
            ]
        )
    return [*_begin("flushed"), call, "  ret void", "}"]


def _copy() -> list[str]:
    return [
        *_begin("copy"),
        "  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %source, i64 %bytes, i1 false)",
        "  ret void",
        "}",
    ]


def _fill(dtype: str) -> list[str]:
    kind = {"float32": "i32", "float64": "i64"}[dtype]
    narrow = f"trunc i64 %bits to {kind}" if kind == "i32" else "add i64 %bits, 0"
    store = [
        f"  %at = getelementptr {kind}, ptr %to, i64 %i",
        f"  store {kind} %value, ptr %at",
    ]
    return [
        *_begin(f"fill_{dtype}"),
        f"  %value = {narrow}",
        *_counted("i", "%count", store),
        "  ret void",
        "}",
    ]


_ROW_MAJOR, _AS_IT_IS = 101, 111
"""CBLAS's numbers of a layout, and of a matrix that is not transposed; the next one is."""


def _blas_product(dtype: str) -> list[str]:
    kind, routine = {"float32": ("float", "sgemm"), "float64": ("double", "dgemm")}[dtype]
    numbers = ("rows", "columns", "inner", "ta", "tb", "lda", "ldb", "ldc")
    given = (
        f"i32 {_ROW_MAJOR}, i32 %ta.flag, i32 %tb.flag, i32 %rows.i, i32 %columns.i, i32 %inner.i, "
        f"{kind} 1.0, ptr %a, i32 %lda.i, ptr %b, i32 %ldb.i, {kind} 0.0, ptr %out, i32 %ldc.i"
    )
    return [
        *_begin(f"product_{dtype}"),
        *(f"  %{word}.i = trunc i64 %{word} to i32" for word in numbers),
        *(f"  %{word}.flag = add i32 %{word}.i, {_AS_IT_IS}" for word in ("ta", "tb")),
        f"  call void @cblas_{routine}({given})",
        "  ret void",
        "}",
    ]


def emit_block(dtype: str, turn: bool, width: int) -> tuple[str, str]:
    """Return the name and the code of the function that computes a product by blocks.

    Args:
        dtype: ``"float32"`` or ``"float64"``.
        turn: Whether the right matrix is transposed.
        width: The bytes of the processor's vectors.
    """
    name = f"{'turned' if turn else 'block'}_{dtype}_{width}"
    lines = [
        *block_declarations(dtype, width),
        *_begin(name),
        *block_lines(dtype, width, turn),
    ]
    return name, "\n".join(lines) + "\n"


@functools.cache
def emit_tapes(control: int = 0) -> str:
    """Return the code of all `FUNCTIONS`.

    Args:
        control: The bits of the SSE control word that `flushed` sets; 0 on other processors.
    """
    parameters = "i32, i32, i32, i32, i32, i32, {0}, ptr, i32, ptr, i32, {0}, ptr, i32"
    lines = [
        "declare void @GOMP_parallel(ptr, ptr, i32, i32)",
        "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)",
        *(f"declare void @llvm.x86.sse.{name}mxcsr(ptr)" for name in ("ld", "st") if control),
        f"declare void @cblas_sgemm({parameters.format('float')})",
        f"declare void @cblas_dgemm({parameters.format('double')})",
        *_play(),
        *_repeat(),
        *_team(),
        *_flushed(control),
        *_copy(),
    ]
    for dtype in ("float32", "float64"):
        lines += [*_fill(dtype), *_blas_product(dtype)]
    return "\n".join(lines) + "\n"
