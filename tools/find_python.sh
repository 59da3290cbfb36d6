#!/bin/sh
# Prints an interpreter for each of the named versions that is there, as `find_python.sh 3.13 3.11`: on
# the search path, or among those of pyenv.  Without names, the first that ksym is tested on.
set -u
first=
if [ $# -eq 0 ]; then
    first=yes
    set -- $(ls "$(dirname "$0")/../requirements" | sed -n 's/^python\([0-9.]*\)-.*/\1/p' | sort -uVr)
fi
for version in "$@"; do
    for found in "python$version" python3 "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version."*/bin/python; do
        # One that pyenv knows but has not been told to use is on the search path, and does not run.
        is="import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '$version')"
        if "$found" -c "$is" >/dev/null 2>&1; then
            command -v "$found"
            [ -n "$first" ] && exit
            break
        fi
    done
done
