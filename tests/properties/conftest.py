"""Prints what the property tests covered, in all processes that ran them."""

import os

import coverage_table
import pytest


def pytest_sessionfinish(session):
    output = getattr(session.config, "workeroutput", None)
    if output is not None:  # one of several processes: what it counted goes to the one that prints
        output["coverage_table"] = coverage_table.counts()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    coverage_table.add(getattr(node, "workeroutput", {}).get("coverage_table", {}))


def pytest_terminal_summary(terminalreporter):
    for line in coverage_table.lines(full=os.environ.get("HYPOTHESIS_PROFILE") == "deep"):
        terminalreporter.write_line(line)
