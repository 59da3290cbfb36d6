"""``python -m ksym.parallel.server`` is what `ksym.launch` starts as a server of MXNet's KVStore.

Or as its scheduler.  It serves until the ranks have ended.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

from ksym.errors import KsymError
from ksym.parallel.processes import die_with_parent
from ksym.parallel.reports import PERIOD, Reporter
from ksym.parallel.services import ROLE
from ksym.runtime.kvstore import KVStore, Meeting
from ksym.runtime.loading import NativeError


def main() -> int:
    """Serve, and return an exit status."""
    job = json.loads(os.environ.get("KSYM_JOB", "{}"))
    role: Any = os.environ.get(ROLE)
    if not job or role not in ("server", "scheduler"):
        print("this is what python -m ksym.launch starts", file=sys.stderr)
        return 2
    die_with_parent()
    reporter = Reporter(-1)
    threading.Thread(target=_report, args=(reporter,), daemon=True, name="ksym reports").start()
    store = job["kvstore"]
    meeting = Meeting(store["address"], store["port"], job["size"], store["servers"])
    try:
        KVStore(job["engine"], role, meeting).serve()
    except (KsymError, NativeError) as error:
        where = f" at {meeting.address}:{meeting.port}" if role == "scheduler" else ""
        text = str(error).strip().splitlines()[0] if str(error).strip() else "MXNet says nothing"
        reporter.send("failed", text=f"{text}{where}")
        os._exit(1)  # threads of ps-lite may wait for ever
    return 0


def _report(reporter: Reporter) -> None:
    while True:
        reporter.send("alive")
        time.sleep(PERIOD)


if __name__ == "__main__":
    sys.exit(main())
