"""The tasks by the variant that they train: one line each."""

from typing import Any

from sweeper.data.features import FeatureCache
from sweeper.spec.schema import Evaluation, TrialConfig
from sweeper.tasks.base import Task
from sweeper.tasks.behavior import BehaviorTask

TASKS: dict[str, Any] = {"clip-hba-behavior": BehaviorTask}


def prepare(config: TrialConfig, evaluation: Evaluation, cache: FeatureCache, device: str) -> Task:
    """Returns the task of a configuration, loaded and ready on a device."""
    task: Task = TASKS[config.model.variant](config, evaluation, cache, device)
    return task
