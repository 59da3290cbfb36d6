"""The parts of peers.py: peers and their environments, workloads, workers, reports."""
