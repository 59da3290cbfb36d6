"""Writing results: a file for each rank."""

import json

import ksym


def write(results):
    with open(f"{ksym.rank()}-of-{ksym.size()}.json", "w") as file:
        json.dump(results, file)
