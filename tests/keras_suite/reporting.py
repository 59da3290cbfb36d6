"""Hooks of pytest that write what came of each test to a file, as lines of JSON."""

import json
import os


def _record(identity, outcome, seconds, reason):
    line = {"id": identity, "outcome": outcome, "seconds": seconds, "reason": reason}
    with open(os.environ["KERAS_SUITE_REPORT"], "a") as report:
        report.write(json.dumps(line) + "\n")


def _reason(report):
    """Return the line that says why a test did not pass."""
    if report.skipped:
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr).strip().splitlines()[-1]
    return text.strip().splitlines()[0] if text.strip() else "no message"


def pytest_collectreport(report):
    if report.failed or report.skipped:
        outcome = "failed" if report.failed else "skipped"
        _record(report.nodeid, outcome, 0.0, _reason(report))


def pytest_runtest_logreport(report):
    if report.when == "call" or not report.passed:
        reason = "" if report.passed else _reason(report)
        _record(report.nodeid, report.outcome, report.duration, reason)
