"""The ensemble's state as bytes and back: arrays and numbers in msgpack, compressed with zstd. No pickle, so nothing in it can run.

The fitted models themselves are not in it: they are fitted again from the sample they were fitted from, which gives the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import cramjam
import msgspec
import numpy as np
from numpy.typing import NDArray

from models.half_space_trees import Masses
from models.metrics import Metrics

if TYPE_CHECKING:
    from models.ensemble import Ensemble

LEVEL: Final = 3
"""zstd level: a third of the size at about 10 ms."""


class Array(msgspec.Struct, array_like=True, frozen=True):
    """A numpy array: its dtype (little-endian), shape and bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    def load(self) -> NDArray[Any]:
        """The array, writable."""
        return np.frombuffer(self.data, dtype=np.dtype(self.dtype)).reshape(self.shape).copy()


class Checkpoint(msgspec.Struct, frozen=True):
    """What an ensemble is made of; see the attributes of `models.ensemble.Ensemble`."""

    version: str
    features: int
    events: int
    fits: int
    suspects: int
    next_fit: int
    reservoir: Array
    reservoir_seen: int
    sample: Array
    mass_reference: Array | None
    mass_latest: Array
    mass_seen: int
    windows: tuple[Array, ...]
    pending: tuple[tuple[Array, Array, Array, Array], ...]
    metrics: Metrics


def _array(values: NDArray[Any]) -> Array:
    plain = np.ascontiguousarray(values)
    return Array(plain.dtype.newbyteorder("<").str, plain.shape, plain.astype(plain.dtype.newbyteorder("<")).tobytes())


def dump(ensemble: Ensemble) -> bytes:
    """The state of `ensemble`: at most 1 MB with the default settings."""
    masses = ensemble.half_spaces.masses()
    found = Checkpoint(
        version=ensemble.version,
        features=ensemble.features,
        events=ensemble.events,
        fits=ensemble.fits,
        suspects=ensemble.suspects,
        next_fit=ensemble.next_fit,
        reservoir=_array(ensemble.reservoir.rows),
        reservoir_seen=ensemble.reservoir.seen,
        sample=_array(ensemble.sample),
        mass_reference=None if masses.reference is None else _array(masses.reference.astype(np.int32)),
        mass_latest=_array(masses.latest.astype(np.int32)),
        mass_seen=masses.seen,
        windows=tuple(_array(calibrator.window) for calibrator in ensemble.calibrators),
        pending=tuple((_array(one.rows), _array(one.tails), _array(one.raw), _array(one.trusted)) for one in ensemble.pending),
        metrics=ensemble.metrics,
    )
    return bytes(cramjam.zstd.compress(msgspec.msgpack.encode(found), LEVEL))


def load(ensemble: Ensemble, data: bytes) -> bool:
    """Gives a fresh `ensemble` the state in `data`; False, and nothing changed, where it is of another version.

    Raises:
        cramjam.DecompressionError, msgspec.DecodeError: the bytes are no checkpoint (a broken store, not an expected case).
    """
    found = msgspec.msgpack.decode(bytes(cramjam.zstd.decompress(data)), type=Checkpoint)
    if found.version != ensemble.version or found.features != ensemble.features:
        return False
    ensemble.events, ensemble.fits = found.events, found.fits
    ensemble.suspects, ensemble.next_fit = found.suspects, found.next_fit
    ensemble.reservoir.rows, ensemble.reservoir.seen = found.reservoir.load(), found.reservoir_seen
    ensemble.sample = found.sample.load()
    if found.fits:
        ensemble.fit()
        for calibrator, window in zip(ensemble.calibrators, found.windows, strict=True):
            calibrator.renew(window.load())
    reference = None if found.mass_reference is None else found.mass_reference.load().astype(np.int64)
    ensemble.half_spaces.take(Masses(reference, found.mass_latest.load().astype(np.int64), found.mass_seen))
    ensemble.take_pending([tuple(part.load() for part in one) for one in found.pending])
    ensemble.metrics = found.metrics
    return True
