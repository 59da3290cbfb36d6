"""The table of MXNet's operators that have a kernel for GPUs, read from MXNet's sources.

Run once for a version of MXNet, whose sources lie in a folder:

    git clone --branch 1.9.1 --depth 1 https://github.com/apache/mxnet
    python tools/gpu_kernels.py mxnet > tests/runtime/gpu_kernels.txt

An operator has a kernel if one of its registrations sets an attribute ``FCompute<gpu>`` or one of
its kin (NNVM's interface), or if its file has a ``CreateOp<gpu>`` (the older interface).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

_HEAD = """\
# The operators of MXNet 1.9.1 that have a kernel for GPUs, and the file that registers it.
# Written by tools/gpu_kernels.py from https://github.com/apache/mxnet, tag 1.9.1
# (commit 3f8f3be9987e259491ddc5a78aa9c6903e0b21e3), Apache License 2.0."""

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_TVM_ONLY = re.compile(r"#if MXNET_USE_TVM_OP\b(?! *== *0).*?#e(?:lse|ndif)", re.DOTALL)
_MACRO = re.compile(r"^#define (\w+)\(([\w$, ]*)\)(.*)$", re.MULTILINE)
_REGISTRATION = re.compile(r"^\s*\w*REGISTER\w*\(\s*(\w+)", re.MULTILINE)
_ON_GPU = re.compile(r"Compute(?:Ex)?<gpu>\"")
_ALIAS = re.compile(r"\.add_alias\(\"(\w+)\"\)")
_SPARSE_ALIAS = re.compile(r"MXNET_ADD_SPARSE_OP_ALIAS\((\w+)\)")
_OLD = re.compile(r"MXNET_REGISTER_OP_PROPERTY\((\w+),")


def _expanded(text: str) -> str:
    """Return the text of a file with its own macros that register operators expanded."""
    for name, parameters, body in _MACRO.findall(text):
        if "NNVM_REGISTER_OP" not in body:
            continue
        names = [parameter.strip() for parameter in parameters.split(",")]

        def one(match: re.Match[str], names: list[str] = names, body: str = body) -> str:
            given = [argument.strip() for argument in match[1].split(",")]
            made = body
            for parameter, argument in zip(names, given, strict=False):
                made = re.sub(rf"(?<!\w){re.escape(parameter)}(?!\w)", argument, made)
            return made.replace("##", "").replace("NNVM_REGISTER_OP", "\nNNVM_REGISTER_OP") + ";"

        text = re.sub(rf"^{name}\(([^)]*)\)", one, text, flags=re.MULTILINE)
    return text


def _read(path: Path) -> str:
    text = path.read_text(errors="replace").replace("\\\n", " ")
    return _expanded(_TVM_ONLY.sub("", _COMMENT.sub("", text)))


def _registrations(text: str) -> Iterator[tuple[str, str]]:
    """Yield the name that each registration in a text is for, and the whole registration."""
    for match in _REGISTRATION.finditer(text):
        depth, end = 0, match.start()
        for end in range(match.start(), len(text)):
            depth += (text[end] in "({") - (text[end] in ")}")
            if depth < 0 or (depth == 0 and text[end] == ";"):
                break  # the semicolons of functions that it gives are within braces
        yield match[1], text[match.start() : end]


def kernels(source: Path) -> Iterator[tuple[str, str]]:
    """Yield the name of each operator with a kernel for GPUs, and the file that registers it."""
    texts = {p: _read(p) for p in sorted(source.rglob("*")) if p.suffix in (".cc", ".cu")}
    found: dict[str, str] = {}
    aliases: dict[str, list[str]] = {}
    for path, text in texts.items():
        place = str(path.relative_to(source))
        for name, made in _registrations(text):
            others = [*_ALIAS.findall(made), *(f"_sparse_{n}" for n in _SPARSE_ALIAS.findall(made))]
            aliases.setdefault(name, []).extend(others)
            if _ON_GPU.search(made):
                found.setdefault(name, place)
        if "CreateOp<gpu>" in text and path.suffix == ".cu":
            for name in _OLD.findall(texts.get(path.with_suffix(".cc"), "")):
                found.setdefault(name, place)
                found.setdefault(f"_backward_{name}", place)
    for name, place in list(found.items()):
        for alias in aliases.get(name, ()):
            found.setdefault(alias, place)
    yield from sorted(found.items())


if __name__ == "__main__":
    print(_HEAD)
    for operator, file in kernels(Path(sys.argv[1])):
        print(operator, file)
