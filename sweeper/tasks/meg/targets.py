"""The RDMs that the model is compared with while it is trained."""

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweeper.data.dataset import Dataset
from sweeper.metrics.courses import ranked, rdm_course, rsa_course, summarize_course
from sweeper.metrics.rdm import UndefinedMetric
from sweeper.neural import counted_times, series_of, target_participants
from sweeper.perturbations import Disturbance
from sweeper.spec.perturbations.base import Place, TableStatistics
from sweeper.spec.schema import TrialConfig


class NeuralTargets:
    """Mean RDMs of the people that a configuration is trained on, at the times that its losses count.

    Attributes:
        counted: int64, the times that evaluation counts, whatever the losses do: models are compared at them.
        times: int64 [T'], the times that losses count.
    """

    def __init__(self, config: TrialConfig, dataset: Dataset, folder: Path, device: torch.device) -> None:
        """Opens them; large ones are kept in a folder that workers share."""
        series = series_of(config, dataset)
        self._view = series.mean(target_participants(config, series), dataset.pool.names, folder=folder)
        self._device = device
        self.counted: NDArray[np.int64] = np.flatnonzero(counted_times(series))
        self.times: NDArray[np.int64] = np.arange(len(series.times))

    def count(self, times: str, defined: NDArray[np.bool_]) -> None:
        """Chooses the times that losses count: `all`, as published, or those after the onset.

        Args:
            times: `all` or `after_onset`.
            defined: bool [T], where the model has a signal.
        """
        self.times = np.arange(len(defined)) if times == "all" else self.counted[defined[self.counted]]

    def of(self, rows: NDArray[np.int64]) -> Tensor:
        """Returns the RDMs over some stimuli of the pool: float32 [T', P]."""
        return self._pairs(self._view.batch(rows))

    def disturbed(self, disturbance: Disturbance, place: Place, rows: NDArray[np.int64]) -> Tensor:
        """Returns what a batch is trained on: float32 [T', P]."""
        return self._pairs(disturbance.rdms(place, self._view.batch(rows), self.statistics))

    @cached_property
    def statistics(self) -> TableStatistics:
        """Mean and spread of the RDMs over all pairs and the times that count; the dimensions are all times."""
        first, second = np.triu_indices(len(self._view.names), k=1)
        slices = (rdm[first, second].astype(np.float64) for rdm in self._view.all())  # one at a time: they are large
        moments = np.array([(values.mean(), (values**2).mean()) for values in slices])
        mean, square = moments[self.times].mean(axis=0)
        std = float(np.sqrt(square - mean**2))
        return TableStatistics(mean=float(mean), std=std, dimension_means=moments[:, 0].astype(np.float32))

    def mean_rsa(self, embeddings: NDArray[np.float32], rows: NDArray[np.int64]) -> float | None:
        """Returns the mean over the counted times of the RSA of some stimuli; None: it is undefined at all of them.

        Args:
            embeddings: [C, n, D], at the C counted times.
            rows: n stimuli of the pool.
        """
        key = rows.tobytes()
        if key not in self._ranks:
            self._ranks[key] = ranked(_triangles(self._view.batch(rows), self.counted))
        course = rsa_course(rdm_course(embeddings), self._ranks[key])
        try:
            return summarize_course(course, self._view.times[self.counted], np.ones(len(course))).mean
        except UndefinedMetric:
            return None

    @cached_property
    def _ranks(self) -> dict[bytes, NDArray[np.float64]]:
        return {}

    def _pairs(self, rdms: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(_triangles(rdms, self.times)).to(self._device, non_blocking=True)


def _triangles(rdms: NDArray[np.float32], times: NDArray[np.int64]) -> NDArray[np.float32]:
    """Returns the upper triangles of RDMs [T, n, n] at some times: float32 [T', P]."""
    first, second = np.triu_indices(rdms.shape[1], k=1)
    return np.ascontiguousarray(rdms[times][:, first, second])
