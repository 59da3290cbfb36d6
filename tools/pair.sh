#!/bin/sh
# Prints the pair of Python and NumPy that an interpreter is tested with, as python3.13-numpy2.5:
# `pair.sh PYTHON [NUMPY]`; the newest NumPy by default.  Prints nothing if there is none.
version=$("$1" -c "import sys; print('%d.%d' % sys.version_info[:2])" 2>/dev/null) || exit 0
ls "$(dirname "$0")/../requirements" | sed -n "s/^\(python$version-numpy${2:-.*}\)\.txt$/\1/p" | sort -V | tail -n 1
