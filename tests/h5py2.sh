#!/bin/sh
# Builds h5py 2.10 in an environment of its own, puts it before the h5py of VENV, and has what reads and
# writes files tested with it.  HDF5_DIR is a folder with the include and lib of HDF5 1.10.
set -eu
cd "$(dirname "$0")/.."
build=build/h5py2
if [ ! -e "$build/packages/h5py" ]; then
    rm -rf "$build"
    "$PYTHON" -m venv "$build/environment"
    pip="$build/environment/bin/python -m pip --quiet --disable-pip-version-check"
    # The last of each that a source of that age builds with.
    $pip install "setuptools<66" wheel "cython<3" numpy==1.23.5 six pkgconfig
    HDF5_VERSION=${HDF5_VERSION:-1.10.8} $pip install --no-build-isolation --no-deps \
        --no-binary :all: --target "$build/packages" h5py==2.10.0
    $pip install --no-deps --target "$build/packages" six
fi
PYTHONPATH="$build/packages" "$VENV/bin/python" -W ignore -c "import h5py; print('h5py', h5py.__version__)"
# It asks NumPy for a name that has been renamed since.
PYTHONPATH="$build/packages" OMP_NUM_THREADS=1 "$VENV/bin/python" -m pytest -q \
    -W 'ignore:`np.typeDict`:DeprecationWarning' tests/keras/test_files.py tests/keras/test_processes.py
