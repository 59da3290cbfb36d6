"""A program one of whose ranks fails: ``faults.py FAULT [STEPS]``."""

import os
import signal
import sys
import time

import ksym

x = ksym.placeholder((3,))
f = ksym.function([x], ksym.all_reduce(x))
print("process", os.getpid(), flush=True)
for step in range(int(sys.argv[2]) if len(sys.argv) > 2 else 20):
    if ksym.rank() == 1 and step == 5:
        fault = sys.argv[1]
        if fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault == "quiet":
            os._exit(3)
        elif fault == "orphaned":
            os.kill(os.getppid(), signal.SIGKILL)
        elif fault == "frozen":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif fault == "raising":
            raise ValueError("bad luck")
        elif fault == "exiting":
            sys.exit(7)
        elif fault == "leaving":
            break
        elif fault == "others":
            y = ksym.placeholder((4,))
            ksym.function([y], ksym.all_reduce(y))([1, 2, 3, 4])
    if sys.argv[1] == "sleeping" and step == 5:
        print("asleep", flush=True)
        time.sleep(1000)
    f([1, 2, 3])
