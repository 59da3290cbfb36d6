"""Prints what the property tests covered."""

import os

import coverage_table


def pytest_terminal_summary(terminalreporter):
    for line in coverage_table.lines(full=os.environ.get("HYPOTHESIS_PROFILE") == "deep"):
        terminalreporter.write_line(line)
