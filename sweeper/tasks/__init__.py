"""The tasks by the variant that they train: one line each."""

from typing import Any

from sweeper.spec.schema import Evaluation, TrialConfig
from sweeper.tasks.base import Task, Workbench
from sweeper.tasks.behavior import BehaviorTask
from sweeper.tasks.meg import MegTask

TASKS: dict[str, Any] = {"clip-hba-behavior": BehaviorTask, "clip-hba-meg": MegTask}


def prepare(config: TrialConfig, evaluation: Evaluation, workbench: Workbench) -> Task:
    """Returns the task of a configuration, loaded and ready on a device."""
    task: Task = TASKS[config.model.variant](config, evaluation, workbench)
    return task
