"""Frozen features in a shared store: each chunk is made once, by one worker, and fetched by those of other nodes."""

import time
from collections.abc import Iterable, Iterator

from safetensors.numpy import load, save

from sweeper.data.features import Build, Chunk
from sweeper.store.claims import Claims
from sweeper.store.objects import ObjectStore

LOOK_S = 2.0


class SharedChunks:
    """Fetches the chunks of an entry or makes them; several nodes make one entry together. See `features.Chunks`."""

    def __init__(self, store: ObjectStore) -> None:
        self._store, self._claims = store, Claims(store)

    def __call__(self, entry: str, chunks: Iterable[range], build: Build) -> Iterator[tuple[range, Chunk]]:
        """Yields every chunk as soon as it can be had; those that others are at come last."""
        waiting = list(chunks)
        while waiting:
            others = []
            for rows in waiting:
                key = f"{entry}-{rows.start:08d}"
                found = self._fetched(key)
                chunk = self._made(key, rows, build) if found is None else found
                if chunk is None:
                    others.append(rows)
                else:
                    yield rows, chunk
            if len(others) == len(waiting):
                time.sleep(LOOK_S)
            waiting = others

    def _fetched(self, key: str) -> Chunk | None:
        data = self._store.get("features", key)
        return None if data is None else load(data)

    def _made(self, key: str, rows: range, build: Build) -> Chunk | None:
        """Makes and puts a chunk; None while another worker is at it."""
        with self._claims.taken(key) as is_mine:
            if not is_mine:
                return None
            found = self._fetched(key)  # finished between the look and the claim
            if found is not None:
                return found
            chunk = build(rows)
            self._store.put("features", key, save(dict(chunk)))
            return chunk
