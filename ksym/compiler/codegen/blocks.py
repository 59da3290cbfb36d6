"""Code generation for matrix products: each block of the result is held in registers.

BLAS divides the work among threads first, which does not pay for a product of ten microseconds; and
it has to have been built for the processor.  Here a block of the result, some rows by two vectors
of columns, is summed up along the inner axis: each step reads two vectors of b and one element of a
for each row.  The part of b that all rows read is first copied into a panel that stays in the first
cache, and transposed in registers if need be.  A panel covers a part of the inner axis; the sums of
later parts are added to those of earlier ones (K. Goto and R. van de Geijn, Anatomy of
High-Performance Matrix Multiplication, 2008).

Sizes are read from the table, so one function serves all.  Rows past the last one repeat the last
row; columns past the last one are masked out.  The threads of a team take turns at the columns.
"""

from __future__ import annotations

VECTORS = 2
"""The number of vectors of columns of a block."""

DEPTH = 256
"""The length of the part of the inner axis that a panel covers."""

_FLOAT_TYPES = {"float32": ("float", 4), "float64": ("double", 8)}


class _Block:
    """The pieces of code for products of one dtype.

    Args:
        dtype: ``"float32"`` or ``"float64"``.
        width: The bytes of a vector: 64, or 32.
    """

    def __init__(self, dtype: str, width: int):
        self.kind, self.size = _FLOAT_TYPES[dtype]
        self.lanes = width // self.size
        self.rows = range(8 if width == 64 else 4)  # of 32 registers, or of 16
        self.vector = f"<{self.lanes} x {self.kind}>"
        self.mask = f"<{self.lanes} x i1>"
        self.suffix = f"v{self.lanes}f{8 * self.size}"
        self.columns = VECTORS * self.lanes

    def declarations(self) -> list[str]:
        """Return the declarations of the functions that the code calls."""
        return [
            f"declare {self.vector} @llvm.masked.load.{self.suffix}.p0"
            f"(ptr, i32, {self.mask}, {self.vector})",
            f"declare void @llvm.masked.store.{self.suffix}.p0"
            f"({self.vector}, ptr, i32, {self.mask})",
            f"declare {self.vector} @llvm.fmuladd.{self.suffix}"
            f"({self.vector}, {self.vector}, {self.vector})",
            "declare i64 @llvm.smin.i64(i64, i64)",
            "declare i32 @omp_get_thread_num()",
            "declare i32 @omp_get_num_threads()",
        ]

    def load(self, name: str, pointer: str, mask: str) -> str:
        """Return the line that loads a vector, with zeros where it is masked out."""
        return (
            f"  {name} = call {self.vector} @llvm.masked.load.{self.suffix}.p0(ptr {pointer}, "
            f"i32 {self.size}, {self.mask} {mask}, {self.vector} zeroinitializer)"
        )

    def splat(self, name: str, value: str, element: str) -> list[str]:
        """Return the lines that make a vector of equal elements."""
        whole = f"<{self.lanes} x {element}>"
        return [
            f"  {name}.one = insertelement {whole} poison, {element} {value}, i64 0",
            f"  {name} = shufflevector {whole} {name}.one, {whole} poison, "
            f"<{self.lanes} x i32> zeroinitializer",
        ]

    def below(self, name: str, limit: str, start: str) -> list[str]:
        """Return the lines that make the mask of elements, counted from a start, below a limit."""
        counts = ", ".join(f"i64 {lane}" for lane in range(self.lanes))
        return [
            f"  {name}.left = sub i64 {limit}, {start}",
            *self.splat(f"{name}.all", f"{name}.left", "i64"),
            f"  {name} = icmp sgt <{self.lanes} x i64> {name}.all, <{counts}>",
        ]

    def copied(self) -> list[str]:
        """Return the lines that copy rows of b, as wide as a block, into the panel."""
        lines = [
            "  br label %copy.head",
            "copy.head:",
            "  %c = phi i64 [ 0, %depth.in ], [ %c.up, %copy.head ]",
            "  %c.in = add i64 %d, %c",
            "  %c.row = mul i64 %c.in, %ldb",
            f"  %c.to = mul i64 %c, {self.columns}",
        ]
        for j in range(VECTORS):
            lines += [
                f"  %c{j}.at = add i64 %c.row, %n{j}",
                f"  %c{j}.p = getelementptr {self.kind}, ptr %b, i64 %c{j}.at",
                self.load(f"%c{j}", f"%c{j}.p", f"%mask{j}"),
                f"  %c{j}.to = add i64 %c.to, {j * self.lanes}",
                f"  %c{j}.q = getelementptr {self.kind}, ptr %panel, i64 %c{j}.to",
                f"  store {self.vector} %c{j}, ptr %c{j}.q",
            ]
        return [
            *lines,
            "  %c.up = add nsw i64 %c, 1",
            "  %c.more = icmp slt i64 %c.up, %depth",
            "  br i1 %c.more, label %copy.head, label %filled",
        ]

    def transposed(self) -> list[str]:
        """Return the lines that transpose rows of b, columns of a block, into the panel."""
        lanes = range(self.lanes)
        lines = [
            "  br label %turn.head",
            "turn.head:",
            "  %t = phi i64 [ 0, %depth.in ], [ %t.up, %turn.head ]",
            *self.below("%t.mask", "%depth", "%t"),
            "  %t.in = add i64 %d, %t",
        ]
        for j in range(VECTORS):
            for lane in lanes:
                name = f"%t{j}.{lane}"
                lines += [
                    f"  {name}.n = add i64 %n{j}, {lane}",
                    f"  {name}.row = call i64 @llvm.smin.i64(i64 {name}.n, i64 %last.column)",
                    f"  {name}.from = mul i64 {name}.row, %ldb",
                    f"  {name}.at = add i64 {name}.from, %t.in",
                    f"  {name}.p = getelementptr {self.kind}, ptr %b, i64 {name}.at",
                    self.load(f"{name}.0", f"{name}.p", "%t.mask"),
                ]
            names = {lane: f"%t{j}.{lane}.0" for lane in lanes}
            half = self.lanes // 2
            while half:
                # Of each square of four blocks of this side, two change places.
                for one in (lane for lane in lanes if not lane & half):
                    other = one + half
                    a, b = names[one], names[other]
                    picks = [
                        [k if not k & half else self.lanes + k - half for k in lanes],
                        [k + half if not k & half else self.lanes + k for k in lanes],
                    ]
                    for lane, pick in zip((one, other), picks, strict=True):
                        names[lane] = f"%t{j}.{lane}.{half}"
                        chosen = ", ".join(f"i32 {k}" for k in pick)
                        lines.append(
                            f"  {names[lane]} = shufflevector {self.vector} {a}, "
                            f"{self.vector} {b}, <{self.lanes} x i32> <{chosen}>"
                        )
                half //= 2
            for lane in lanes:
                name = f"%t{j}.{lane}.to"
                lines += [
                    f"  {name}.k = add i64 %t, {lane}",
                    f"  {name}.row = mul i64 {name}.k, {self.columns}",
                    f"  {name}.at = add i64 {name}.row, {j * self.lanes}",
                    f"  {name} = getelementptr {self.kind}, ptr %panel, i64 {name}.at",
                    f"  store {self.vector} {names[lane]}, ptr {name}",
                ]
        return [
            *lines,
            f"  %t.up = add nsw i64 %t, {self.lanes}",
            "  %t.more = icmp slt i64 %t.up, %depth",
            "  br i1 %t.more, label %turn.head, label %filled",
        ]


def block_lines(dtype: str, width: int, turn: bool) -> list[str]:
    """Return the body of the function, after the lines that read its table.

    Args:
        dtype: ``"float32"`` or ``"float64"``.
        width: The bytes of a vector: 64, or 32.
        turn: Whether b is transposed.
    """
    block = _Block(dtype, width)
    kind, vector = block.kind, block.vector
    rows, parts = block.rows, range(VECTORS)
    cells = [(i, j) for i in rows for j in parts]
    lines = [
        "  %last = sub i64 %rows, 1",
        "  %last.column = sub i64 %columns, 1",
        f"  %panel = alloca [{DEPTH * block.columns} x {kind}], align {width}",
        "  %thread.i = call i32 @omp_get_thread_num()",
        "  %threads.i = call i32 @omp_get_num_threads()",
        "  %thread = sext i32 %thread.i to i64",
        "  %threads = sext i32 %threads.i to i64",
        f"  %n.first = mul i64 %thread, {block.columns}",
        f"  %n.step = mul i64 %threads, {block.columns}",
        "  br label %columns.head",
        "columns.head:",
        "  %n = phi i64 [ %n.first, %entry ], [ %n.up, %depth.done ]",
        "  %n.more = icmp slt i64 %n, %columns",
        "  br i1 %n.more, label %columns.in, label %done",
        "columns.in:",
    ]
    for j in parts:
        lines.append(f"  %n{j} = add i64 %n, {j * block.lanes}")
        lines += block.below(f"%mask{j}", "%columns", f"%n{j}")
    lines += [
        "  br label %depth.head",
        "depth.head:",
        "  %d = phi i64 [ 0, %columns.in ], [ %d.up, %rows.done ]",
        "  %d.more = icmp slt i64 %d, %inner",
        "  br i1 %d.more, label %depth.in, label %depth.done",
        "depth.in:",
        "  %d.left = sub i64 %inner, %d",
        f"  %depth = call i64 @llvm.smin.i64(i64 %d.left, i64 {DEPTH})",
        "  %again = icmp sgt i64 %d, 0",
        *block.splat("%agains", "%again", "i1"),
        *(f"  %there{j} = and {block.mask} %mask{j}, %agains" for j in parts),
    ]
    lines += block.transposed() if turn else block.copied()
    lines += [
        "filled:",
        "  br label %rows.head",
        "rows.head:",
        "  %m = phi i64 [ 0, %filled ], [ %m.up, %inner.done ]",
        "  %m.more = icmp slt i64 %m, %rows",
        "  br i1 %m.more, label %rows.in, label %rows.done",
        "rows.in:",
    ]
    for i in rows:
        lines += [
            f"  %m{i} = add i64 %m, {i}",
            f"  %row{i} = call i64 @llvm.smin.i64(i64 %m{i}, i64 %last)",
            f"  %from{i} = mul i64 %row{i}, %across",
            f"  %to{i} = mul i64 %row{i}, %ldc",
        ]
    for i, j in cells:
        lines += [
            f"  %to{i}.{j} = add i64 %to{i}, %n{j}",
            f"  %to{i}.{j}.p = getelementptr {kind}, ptr %out, i64 %to{i}.{j}",
            block.load(f"%start{i}.{j}", f"%to{i}.{j}.p", f"%there{j}"),
        ]
    lines += [
        "  br label %inner.head",
        "inner.head:",
        "  %k = phi i64 [ 0, %rows.in ], [ %k.up, %inner.head ]",
    ]
    for i, j in cells:
        lines.append(
            f"  %sum{i}.{j} = phi {vector} [ %start{i}.{j}, %rows.in ], "
            f"[ %new{i}.{j}, %inner.head ]"
        )
    lines += ["  %k.in = add i64 %d, %k", "  %a.step = mul i64 %k.in, %along"]
    lines.append(f"  %b.row = mul i64 %k, {block.columns}")
    for j in parts:
        lines += [
            f"  %b{j}.at = add i64 %b.row, {j * block.lanes}",
            f"  %b{j}.p = getelementptr {kind}, ptr %panel, i64 %b{j}.at",
            f"  %b{j} = load {vector}, ptr %b{j}.p",
        ]
    for i in rows:
        lines += [
            f"  %x{i}.at = add i64 %from{i}, %a.step",
            f"  %x{i}.p = getelementptr {kind}, ptr %a, i64 %x{i}.at",
            f"  %x{i}.s = load {kind}, ptr %x{i}.p",
            *block.splat(f"%x{i}", f"%x{i}.s", kind),
        ]
    for i, j in cells:
        lines.append(
            f"  %new{i}.{j} = call {vector} @llvm.fmuladd.{block.suffix}({vector} %x{i}, "
            f"{vector} %b{j}, {vector} %sum{i}.{j})"
        )
    lines += [
        "  %k.up = add nsw i64 %k, 1",
        "  %k.more = icmp slt i64 %k.up, %depth",
        "  br i1 %k.more, label %inner.head, label %inner.done",
        "inner.done:",
    ]
    for i, j in cells:
        lines.append(
            f"  call void @llvm.masked.store.{block.suffix}.p0({vector} %new{i}.{j}, "
            f"ptr %to{i}.{j}.p, i32 {block.size}, {block.mask} %mask{j})"
        )
    return [
        *lines,
        f"  %m.up = add nsw i64 %m, {len(rows)}",
        "  br label %rows.head",
        "rows.done:",
        f"  %d.up = add nsw i64 %d, {DEPTH}",
        "  br label %depth.head",
        "depth.done:",
        "  %n.up = add nsw i64 %n, %n.step",
        "  br label %columns.head",
        "done:",
        "  ret void",
        "}",
    ]


def block_declarations(dtype: str, width: int) -> list[str]:
    """Return the declarations of the functions that a product of a dtype calls."""
    return _Block(dtype, width).declarations()


def block_work(rows: int, columns: int, inner: int, dtype: str, width: int) -> tuple[int, int]:
    """Return the multiplications of a product in whole blocks, and the number of blocks across."""
    block = _Block(dtype, width)
    down, across = -(-rows // len(block.rows)), -(-columns // block.columns)
    return down * len(block.rows) * across * block.columns * inner, across
