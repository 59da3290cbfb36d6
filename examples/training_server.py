"""Several threads predict while another one trains, on the same variables.

Each prediction is made with the weights before a step or after it, never with a part of both: the
server says which step that was, and the client computes the same from a copy of that step's
weights.  It needs Flask (``pip install flask``).
"""

import json
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from flask import Flask, request
from werkzeug.serving import make_server

import ksym

STEPS = 200
rng = np.random.default_rng(0)

# --- a network, a function that trains it and one that predicts, over the same variables ----------

x, y = ksym.placeholder((None, 3), name="x"), ksym.placeholder((None, 1), name="y")
weights = [
    ksym.Variable(rng.normal(size=shape), dtype="float32", name="w") for shape in ((3, 64), (64, 1))
]
step = ksym.Variable(0, name="step")
predicted = ksym.tanh(x @ weights[0]) @ weights[1]
loss = ksym.mean(ksym.square(predicted - y))
updates = [
    w.assign_sub(0.05 * slope)
    for w, slope in zip(weights, ksym.gradients(loss, weights), strict=True)
]
train = ksym.function([x, y], loss, updates=[*updates, step.assign_add(1)], name="train")
predict = ksym.function(x, [predicted, step], name="predict")

# --- the server ---------------------------------------------------------------------------------

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 1 << 20


@app.post("/predict")
def answer():
    """Answer ``{"x": rows}`` with ``{"y": rows, "step": the step of the weights}``."""
    try:
        rows, at = predict(np.array(request.get_json()["x"], "float32")[:1000])
        return {"y": rows.tolist(), "step": int(at)}
    except (KeyError, RecursionError, TypeError, ValueError, ksym.KsymError) as error:
        return {"error": str(error)}, 400


def asked(rows, url):
    """Return the answer to a request."""
    body = json.dumps({"x": rows.tolist()}).encode()
    question = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(question, timeout=60) as found:
        return json.load(found)


def main():
    """Train, and ask meanwhile."""
    kept = {0: ksym.get_values(weights)}  # the weights after each step, to compare with
    trained = threading.Event()

    def training():
        for number in range(STEPS):
            rows = rng.normal(size=(32, 3))
            train(rows, rows.sum(axis=1, keepdims=True))
            kept[number + 1] = ksym.get_values(weights)  # no other thread writes them
        trained.set()

    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.port}/predict"

    def client(seed):
        random, answers = np.random.default_rng(seed), []
        while not trained.is_set() or len(answers) < 5:
            rows = random.normal(size=(random.integers(1, 20), 3)).astype("float32")
            answers.append((rows, asked(rows, url)))
        return answers

    trainer = threading.Thread(target=training)
    trainer.start()
    with ThreadPoolExecutor(4) as clients:
        answers = [one for found in clients.map(client, range(4)) for one in found]
    trainer.join()
    server.shutdown()
    whole = 0
    for rows, found in answers:
        first, second = kept[found["step"]]
        whole += np.allclose(found["y"], np.tanh(rows @ first) @ second, rtol=1e-3, atol=1e-4)
    print(f"answers with whole weights: {'all' if whole == len(answers) else whole}")
    # -> answers with whole weights: all
    print(f"the weights moved: {not np.allclose(kept[0][0], kept[STEPS][0])}")
    # -> the weights moved: True


if __name__ == "__main__":
    main()
