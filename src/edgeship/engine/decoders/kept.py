"""What a model keeps of a sequence from one step to the next: keys and values of every token, and states.

A state has the same size however many tokens it was made of. It is of one place in a text: nothing can be taken out of
it again, and only what follows that place can be added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeship.engine import graph_contents
from edgeship.errors import NotBatchable
from edgeship.package.genai_config import KEYS_VALUES, STATES, GenaiConfig

_FLOAT_BYTES = np.dtype(np.float32).itemsize


@dataclass(frozen=True)
class Cache:
    """Keys or values of one layer. past, present: the graph's input, and the output that becomes it."""

    past: str
    present: str
    heads: int
    size: int


@dataclass(frozen=True)
class State:
    """A state of one layer. shape: of one sequence, None where the graph leaves a size open."""

    past: str
    present: str
    shape: tuple[int | None, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape where all of it is known. Raises NotBatchable."""
        sizes = tuple(size for size in self.shape if size is not None)
        if not sizes or len(sizes) < len(self.shape):
            raise NotBatchable(f"its graph does not say how large {self.past} is")
        return sizes


@dataclass(frozen=True)
class Kept:
    """All that is kept of one sequence, in the order of the layers."""

    caches: tuple[Cache, ...]
    states: tuple[State, ...] = ()

    @property
    def names(self) -> list[tuple[str, str]]:
        """Each past input with the present output that becomes it: keys and values, then states."""
        caches = [(cache.past, cache.present) for cache in self.caches]
        return caches + [(state.past, state.present) for state in self.states]

    @property
    def head_size(self) -> int:
        """Of all keys and values: where they differ, what the sizes are multiples of."""
        return math.gcd(*(cache.size for cache in self.caches))

    @property
    def heads(self) -> int:
        """Heads of that size, over all keys and values."""
        return sum(cache.heads * cache.size for cache in self.caches) // self.head_size

    @property
    def token_bytes(self) -> int:
        """Keys and values of one token."""
        return sum(cache.heads * cache.size for cache in self.caches) * _FLOAT_BYTES

    @property
    def state_bytes(self) -> int:
        """All states. Raises NotBatchable where the size of one is not known."""
        return sum(math.prod(state.sizes) for state in self.states) * _FLOAT_BYTES


def of_package(config: GenaiConfig) -> Kept:
    """What a package's model keeps.

    Raises EngineFailed where genai_config.json does not say it, and where the graph is to say it and cannot be read.
    """
    layers, heads, size = config.cache_shape
    if not config.layers_differ:
        return Kept(tuple(Cache(*names, heads, size) for names in config.cache_names))
    shapes = graph_contents.input_shapes(config.folder / config.model_file)
    caches: list[Cache] = []
    states: list[State] = []
    for layer in range(layers):
        for kind in (*KEYS_VALUES, *STATES):
            past, present = config.kept_names(kind, layer)
            if past not in shapes:
                continue
            _, *shape = shapes[past] or (None,)
            if kind in STATES:
                states.append(State(past, present, tuple(shape)))
            else:
                of_graph = shape if len(shape) == 3 else (None, None, None)
                caches.append(Cache(past, present, of_graph[0] or heads, of_graph[2] or size))
    return Kept(tuple(caches), tuple(states))


def kv_token_bytes(config: GenaiConfig) -> int:
    """Bytes that the keys and values of one token take, over all layers. Raises EngineFailed as `of_package` does."""
    return of_package(config).token_bytes
