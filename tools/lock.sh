#!/bin/sh
# Writes requirements/pythonX-numpyY.txt: `lock.sh PYTHON NUMPY [PACKAGE ...]` installs the extras keras
# and dev of pyproject.toml, with that NumPy, what builds ksym and other packages, into an empty
# environment, and freezes it.
set -eu
cd "$(dirname "$0")/.."
python=$1 numpy=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/environment"
pip="$work/environment/bin/python -m pip --quiet --disable-pip-version-check"
extras=$("$python" - <<'CODE'
import tomllib

with open("pyproject.toml", "rb") as file:
    settings = tomllib.load(file)
project, build = settings["project"], settings["build-system"]["requires"]
extras = project["optional-dependencies"]
print("\n".join([*project["dependencies"], *extras["keras"], *extras["dev"], *build, "editables"]))
CODE
)
echo "$extras" >"$work/wanted"
$pip install --requirement "$work/wanted" "numpy==$numpy" "$@"
version=$("$python" -c "import sys; print('%d.%d' % sys.version_info[:2])")
lock=requirements/python$version-numpy${numpy%.*}.txt
{
    echo "# Everything that \`make\` installs for Python $version with NumPy ${numpy%.*}, but for ksym and ksym-libmxnet,"
    echo "# pinned so that it stays what was tested.  Written by tools/lock.sh."
    $pip freeze
} >"$work/lock"
mv "$work/lock" "$lock"
echo "$lock"
