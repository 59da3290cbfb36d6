"""Run a program with ksym as Keras's backend: ``python -m keras_ksym program.py [argument]``."""

from __future__ import annotations

import runpy
import sys

import keras_ksym  # noqa: F401 - installs the backend


def main() -> None:
    """Run the program that the command line names, as Python would."""
    if len(sys.argv) < 2:
        sys.exit("usage: python -m keras_ksym program.py [argument ...]")
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
