"""A function in a file is served over HTTP, to several clients at once.

It needs Flask (``pip install flask``).  For a service of your own, hand `app` to a server that is
made for it: ``gunicorn --threads 8 serving:app``.
"""

import contextlib
import copy
import json
import queue
import tempfile
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from flask import Flask, request
from werkzeug.serving import make_server

import ksym

COPIES = 4
"""Calls of one function wait for each other; those of its copies run at the same time."""

LARGEST_REQUEST = 1 << 20
"""The bytes of a request that are read; a longer one is refused before."""

MOST_ROWS = 1000
"""The rows of a request that are computed: the memory and the time of an answer grow with them."""

# --- somewhere a function is made, and saved ------------------------------------------------------

x = ksym.placeholder((None, 3), name="x")
w = ksym.Variable(np.random.RandomState(0).randn(3, 2), dtype="float32", name="w")
path = Path(tempfile.mkdtemp()) / "scores.ksym"
ksym.save(ksym.function(x, ksym.softmax(x @ w), name="scores"), path)

# --- the server loads it: the file holds no code, wherever it is from -----------------------------

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = LARGEST_REQUEST
loaded = ksym.load(path)
free: queue.SimpleQueue = queue.SimpleQueue()
for _ in range(COPIES):
    free.put(copy.deepcopy(loaded))


@contextlib.contextmanager
def one_of_the_copies():
    """Give a copy of the function that nobody else is calling."""
    function = free.get()
    try:
        yield function
    finally:
        free.put(function)


@app.post("/scores")
def scores():
    """Answer ``{"x": rows}`` with ``{"scores": rows}``."""
    try:
        rows = np.array(request.get_json()["x"], "float32")
        if len(rows) > MOST_ROWS:
            return {"error": f"{len(rows)} rows are more than {MOST_ROWS}"}, 413
        with one_of_the_copies() as function:
            return {"scores": function(rows).tolist()}
    except (KeyError, RecursionError, TypeError, ValueError, ksym.KsymError) as error:
        return {"error": str(error)}, 400


# --- clients ------------------------------------------------------------------------------------


def asked(body, url):
    """Return the answer to a request, and its status."""
    text = json.dumps(body).encode()
    question = urllib.request.Request(url, text, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(question, timeout=60) as answer:
            return json.load(answer), answer.status
    except urllib.error.HTTPError as answer:
        is_json = answer.headers.get_content_subtype() == "json"
        return json.load(answer) if is_json else {}, answer.code


def main():
    """Run the server, and ask it from several threads."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.port}/scores"
    batches = [np.random.RandomState(i).rand(1 + i % 5, 3) for i in range(64)]
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda batch: asked({"x": batch.tolist()}, url), batches))
    right = [
        status == 200 and np.allclose(answer["scores"], loaded(batch))
        for batch, (answer, status) in zip(batches, answers, strict=True)
    ]
    print(f"{sum(right)} of {len(batches)} answers are right")
    # -> 64 of 64 answers are right
    answer, status = asked({"x": [[1.0, 2.0]]}, url)
    print(status, answer["error"].splitlines()[0])
    # -> 400 argument 0 (x) of scores has shape (1, 2), expected is float32 (?, 3)
    _, status = asked({"x": np.zeros((MOST_ROWS + 1, 3)).tolist()}, url)
    print("too many rows:", status)
    # -> too many rows: 413
    _, status = asked({"x": "0" * LARGEST_REQUEST}, url)
    print("too many bytes:", status)
    # -> too many bytes: 413
    server.shutdown()


if __name__ == "__main__":
    main()
