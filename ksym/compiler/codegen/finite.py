"""Code generation for the guard: a function that looks for elements that are not finite."""

from __future__ import annotations

WORDS = ("source", "count", "found")
"""The words of the function's table: the address of the elements, their number, and the address of
the word that becomes 1 if one of them is not finite."""

_EXPONENTS = {"float16": (16, 0x7C00), "float32": (32, 0x7F800000), "float64": (64, 0x7FF << 52)}
"""For each dtype its bits, and those that are all set in NaN and infinity, and in nothing else."""


def emit_finite(dtype: str) -> tuple[str, str]:
    """Return the name and the code of the function for elements of a dtype.

    It compares bits: what is added up over the elements is an integer, which LLVM computes in
    vectors, in the time that the memory needs.
    """
    bits, exponent = _EXPONENTS[dtype]
    name, kind = f"finite_{dtype}", f"i{bits}"
    lines = [f"define void @{name}(ptr %table) {{", "entry:"]
    for position, word in enumerate(WORDS):
        lines += [
            f"  %{word}.at = getelementptr i64, ptr %table, i64 {position}",
            f"  %{word} = load {'i64' if word == 'count' else 'ptr'}, ptr %{word}.at",
        ]
    lines += [
        "  %empty = icmp eq i64 %count, 0",
        "  br i1 %empty, label %done, label %loop",
        "loop:",
        "  %i = phi i64 [ 0, %entry ], [ %up, %loop ]",
        f"  %before = phi {kind} [ 0, %entry ], [ %all, %loop ]",
        f"  %at = getelementptr {kind}, ptr %source, i64 %i",
        f"  %value = load {kind}, ptr %at",
        f"  %set = and {kind} %value, {exponent}",
        f"  %bad = icmp eq {kind} %set, {exponent}",
        f"  %one = zext i1 %bad to {kind}",
        f"  %all = or {kind} %before, %one",
        "  %up = add nuw nsw i64 %i, 1",
        "  %end = icmp eq i64 %up, %count",
        "  br i1 %end, label %told, label %loop",
        "told:",
        f"  %any = icmp ne {kind} %all, 0",
        "  %word = zext i1 %any to i64",
        "  %old = load i64, ptr %found",
        "  %new = or i64 %old, %word",
        "  store i64 %new, ptr %found",
        "  br label %done",
        "done:",
        "  ret void",
        "}",
    ]
    return name, "\n".join(lines) + "\n"
