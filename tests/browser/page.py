"""The page of a graph in headless Chromium: `make test-browser`.

It needs the Debian packages chromium and chromium-driver, and selenium.  With KSYM_SHOTS=folder the
pages are kept there as pictures, to be looked at.
"""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import ksym

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--window-size=1400,900",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


class Page:
    """A page in the browser, and what a reader does with it."""

    def __init__(self, browser, what, folder, name, **options):
        self.browser, self._name = browser, name
        ksym.draw(what, folder / "graph.html", **options)
        browser.get(f"file://{folder / 'graph.html'}")
        self.wait(1)

    def number(self, key):
        return int(self.browser.execute_script(f"return document.body.dataset.{key} || 0"))

    def wait(self, drawn):
        end = time.monotonic() + 60
        while self.number("drawn") < drawn:
            assert time.monotonic() < end, self.browser.get_log("browser")
            assert not self.number("failed")
            time.sleep(0.02)
        time.sleep(0.3)  # it is moved with the next frames

    def doing(self, action):
        before = self.number("drawn")
        action()
        self.wait(before + 1)

    def click(self, title):
        """Click the node or box with a title."""
        self.browser.execute_script(
            "const found = [...document.querySelectorAll('#picture .node, #picture .cluster')]"
            ".find((item) => [...item.querySelectorAll('text')].some("
            "(text) => text.textContent.trim().startsWith(arguments[0])));"
            "for (const kind of ['mousedown', 'click'])"
            " found.querySelector('text').dispatchEvent(new MouseEvent(kind, {bubbles: true}));",
            title,
        )

    def search(self, text):
        box = self.browser.find_element(By.ID, "search")
        box.clear()
        box.send_keys(text)
        box.send_keys(Keys.ENTER)

    @property
    def shown(self):
        return len(self.browser.find_elements(By.CSS_SELECTOR, "#picture .node"))

    @property
    def details(self):
        return self.browser.find_element(By.ID, "details").text

    def shot(self, suffix=""):
        if "KSYM_SHOTS" in os.environ:
            folder = Path(os.environ["KSYM_SHOTS"])
            self.browser.save_screenshot(str(folder / f"{self._name}{suffix}.png"))

    def errors(self):
        return [e for e in self.browser.get_log("browser") if e["level"] == "SEVERE"]


def trained():
    x = ksym.placeholder((None, 8), name="x")
    y, weights = x, []
    for i in range(3):
        with ksym.name_scope(f"layer{i}"):
            weights.append(ksym.Variable(np.full((8, 8), 0.1, "float32"), name="kernel"))
            y = ksym.tanh(y @ weights[-1])
    loss = ksym.mean(ksym.square(y))
    slopes = ksym.gradients(loss, weights)
    with ksym.name_scope("optimizer"):
        updates = [(w, w - 0.1 * g) for w, g in zip(weights, slopes, strict=True)]
    f = ksym.function([x], loss, updates, profile=True)
    f(np.ones((4, 8)))
    return f


def test_boxes_open_and_close_and_nodes_show_what_they_are(browser, tmp_path):
    page = Page(browser, trained(), tmp_path, "trained", stage="compiled", fold=True)
    page.doing(lambda: browser.find_element(By.ID, "fold").click())
    closed = page.shown
    page.doing(lambda: page.click("layer1"))
    assert page.shown > closed
    page.shot()
    page.click("matmul")
    for said in ("float32 (4, 8)", "page.py", "layer1", "512 floating-point", "us a call", "part"):
        assert said in page.details
    page.doing(lambda: page.click("layer1"))
    assert page.shown == closed
    page.doing(lambda: browser.find_element(By.ID, "unfold").click())
    assert page.shown > 25
    assert not page.errors()


def test_the_search_finds_a_node_opens_its_boxes_and_moves_there(browser, tmp_path):
    page = Page(browser, trained(), tmp_path, "search", fold=True)
    page.doing(lambda: browser.find_element(By.ID, "fold").click())
    page.doing(lambda: page.search("layer2 tanh"))
    assert "tanh" in page.details
    chosen = browser.find_element(By.CSS_SELECTOR, ".node.chosen").rect
    frame = browser.find_element(By.ID, "picture").rect
    assert abs(chosen["x"] + chosen["width"] / 2 - frame["x"] - frame["width"] / 2) < 40
    assert abs(chosen["y"] + chosen["height"] / 2 - frame["y"] - frame["height"] / 2) < 40
    assert chosen["height"] > 20
    shape = browser.find_element(By.CSS_SELECTOR, ".node.chosen :is(polygon, path)")
    assert shape.value_of_css_property("stroke") == "rgb(221, 34, 34)"
    page.shot()
    browser.find_element(By.CSS_SELECTOR, "#details a").click()  # what it reads
    assert "tanh" not in browser.find_element(By.CSS_SELECTOR, "#details h2").text
    page.search("no such node")
    assert browser.find_element(By.ID, "found").text == "0 found"
    assert not page.errors()


def test_any_text_is_shown_as_it_is(browser, tmp_path):
    x = ksym.placeholder((2,), name='<b>x</b> & "y" \'\\')
    with ksym.name_scope("<script>document.body.dataset.drawn = 99</script>"):
        page = Page(browser, ksym.tanh(x), tmp_path, "text", fold=False)
    page.click("<b>x</b>")
    assert x.name in page.details
    assert page.number("drawn") == 1
    assert not page.errors()


def test_five_thousand_nodes_stay_usable(browser, tmp_path):
    x = ksym.placeholder((2,), name="x")
    y = x
    for _ in range(2500):
        y = ksym.sin(y) + y
    page = Page(browser, y, tmp_path, "thousands")
    print(f"first picture: {page.number('milliseconds')} ms")
    page.shot()
    page.doing(lambda: page.search(f"sin_{y.node.number - 1}"))
    print(f"after a search: {page.number('milliseconds')} ms")
    page.shot("-search")
    assert "sin" in page.details
    page.doing(lambda: browser.find_element(By.ID, "unfold").click())
    print(f"a thousand nodes: {page.number('milliseconds')} ms")
    assert 500 < page.shown <= 1000
    assert "stay closed" in browser.find_element(By.ID, "found").text
    assert not page.errors()


def test_a_network_of_keras_is_its_layers(browser, tmp_path):
    keras = pytest.importorskip("keras")
    layers = keras.layers
    x = first = keras.Input((16, 16, 3))
    for filters in (8, 8, 16, 16, 32, 32):
        y = layers.Conv2D(filters, 3, padding="same")(x)
        y = layers.Activation("relu")(layers.BatchNormalization()(y))
        y = layers.Conv2D(filters, 3, padding="same")(y)
        x = layers.add([layers.Conv2D(filters, 1)(x), y])
    x = layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(first, x)
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    model.train_on_batch(np.ones((2, 16, 16, 3)), np.eye(10)[:2])
    for stage in ("built", "compiled"):
        page = Page(browser, model.train_function, tmp_path, f"network-{stage}", stage=stage)
        print(f"{stage}: {page.number('milliseconds')} ms")
        assert page.shown < 100
        page.shot()
        page.doing(lambda page=page: page.search("conv2d_4 convolution"))
        page.shot("-search")
        assert "conv2d_4" in page.details
        assert not page.errors()
