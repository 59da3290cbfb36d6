"""Small files in the formats of the data sets that Keras's examples load.

Where Keras looks for downloads it finds these instead, so that nothing is downloaded.  Each holds
something that can be learnt: images that depend on their class, words that go with a label.
"""

from __future__ import annotations

import io
import itertools
import json
import pickle
import sys
import tarfile
from pathlib import Path

import numpy as np

NAMES = """
alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november
oscar papa quebec romeo sierra tango uniform victor whiskey xray yankee zulu
"""
WORDS = NAMES.split()


def write(folder: Path) -> None:
    """Write all data sets but MNIST to a folder."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    _cifar10(folder, random)
    _imdb(folder, random)
    _reuters(folder, random)
    _babi(folder, random)
    _word_lists(folder, random)
    sentences = (" ".join(random.choice(WORDS[:8], 6)) + "." for _ in range(200))
    (folder / "nietzsche.txt").write_text("\n".join(sentences))


def _images(random, classes: int, labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return for each label the picture of its class, made darker by chance."""
    pictures = random.integers(0, 2, (classes, *shape)) * 255
    light = random.integers(2, 5, (len(labels),) + (1,) * len(shape))
    return (pictures[labels] * light // 4).astype(np.uint8)


def write_mnist(file: Path, rows: int) -> None:
    """Write MNIST with so many images to train on, and a sixth of them to test with."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, rows + rows // 6).astype(np.uint8)
    images = _images(random, 10, labels, (28, 28))
    np.savez_compressed(
        file,
        x_train=images[:rows],
        y_train=labels[:rows],
        x_test=images[rows:],
        y_test=labels[rows:],
    )


def _cifar10(folder: Path, random) -> None:
    batches = folder / "cifar-10-batches-py"
    batches.mkdir()
    # Keras asks for the archive only to unpack it, which has been done.
    (folder / "cifar-10-batches-py.tar.gz").touch()
    for number in range(6):
        labels = random.integers(0, 10, 10000 if number else 100)
        images = _images(np.random.default_rng(1), 10, labels, (3072,))
        name = f"data_batch_{number}" if number else "test_batch"
        (batches / name).write_bytes(pickle.dumps({b"data": images, b"labels": labels.tolist()}))


def _texts(random, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return for each label some numbers of words, a third of which go with the class."""
    texts = np.empty(len(labels), object)
    for place, label in enumerate(labels):
        length = random.integers(20, 120)
        words = random.integers(4, 1000, length)
        own = random.random(length) < 0.3
        texts[place] = np.where(own, 4 + label + classes * (words % 4), words).tolist()
    return texts


def _imdb(folder: Path, random) -> None:
    labels = random.integers(0, 2, 600)
    texts = _texts(random, labels, 2)
    np.savez(
        folder / "imdb.npz",
        x_train=texts[:400],
        y_train=labels[:400],
        x_test=texts[400:],
        y_test=labels[400:],
    )


def _reuters(folder: Path, random) -> None:
    labels = np.concatenate([np.arange(46), random.integers(0, 46, 954)])
    np.savez(folder / "reuters.npz", x=_texts(random, labels, 46), y=labels)
    words = {f"{word}{number}": number for number, word in enumerate(WORDS * 30, 1)}
    (folder / "reuters_word_index.json").write_text(json.dumps(words))


def _babi(folder: Path, random) -> None:
    people, places = ("Mary", "John", "Daniel"), ("hall", "garden", "office")

    def stories(count: int) -> str:
        lines = []
        for _ in range(count):
            person, place = random.choice(people), random.choice(places)
            other = random.choice([p for p in people if p != person])
            lines += [
                f"1 {person} moved to the {place}.",
                f"2 {other} went to the {random.choice(places)}.",
                f"3 Where is {person}? \t{place}\t1",
            ]
        return "\n".join(lines) + "\n"

    with tarfile.open(folder / "babi-tasks-v1-2.tar.gz", "w:gz") as archive:
        for task in ("en-10k/qa1_single-supporting-fact", "en/qa2_two-supporting-facts"):
            for part, count in (("train", 200), ("test", 50)):
                text = stories(count).encode()
                member = tarfile.TarInfo(f"tasks_1-20_v1-2/{task}_{part}.txt")
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text))


def _word_lists(folder: Path, random) -> None:
    (folder / "wordlists.tgz").touch()
    (folder / "wordlists.tgz.tar.gz").touch()
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(random.choice(letters, random.integers(3, 9))) for _ in range(40000)]
    (folder / "wordlist_mono_clean.txt").write_text("\n".join(words))
    pairs = (f"{a[:5]} {b[:5]}" for a, b in itertools.pairwise(words))
    (folder / "wordlist_bi_clean.txt").write_text("\n".join(pairs))


def write_here(folder: Path) -> None:
    """Write what the examples look for in the folder they are started in."""
    from PIL import Image

    random = np.random.default_rng(0)
    (folder / "fra-eng").mkdir()
    pairs = (random.choice(WORDS, 2) for _ in range(160))
    lines = (f"{' '.join(words)}\t{' '.join(w[::-1] for w in words)}\n" for words in pairs)
    (folder / "fra-eng" / "fra.txt").write_text("".join(lines))
    (folder / "glove.6B").mkdir()
    vectors = random.normal(size=(len(WORDS), 100)).round(3)
    lines = (f"{w} {' '.join(map(str, v))}\n" for w, v in zip(WORDS, vectors, strict=True))
    (folder / "glove.6B" / "glove.6B.100d.txt").write_text("".join(lines))
    for group, word in enumerate(WORDS[:20]):
        (folder / "20_newsgroup" / word).mkdir(parents=True)
        for number in range(40):
            text = " ".join(random.choice([word, *WORDS], 60, p=[0.5] + [0.5 / 26] * 26))
            name = folder / "20_newsgroup" / word / str(1000 * group + number)
            name.write_text(f"Subject: none\n\n{text}\n")
    for name in ("content", "style"):
        picture = Image.fromarray(random.integers(0, 255, (12, 16, 3)).astype(np.uint8))
        picture.resize((128, 96), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    halves = np.zeros((32, 32, 3), np.uint8)
    halves[:, 16:] = 255
    Image.fromarray(halves).save(folder / "mask.png")


if __name__ == "__main__":
    # python data.py FOLDER, or FILE and the number of images.
    if len(sys.argv) == 2:
        write(Path(sys.argv[1]))
    else:
        write_mnist(Path(sys.argv[1]), int(sys.argv[2]))
