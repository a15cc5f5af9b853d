"""CLIP-HBA-MEG as a task: `task` is read first; the other modules are its parts."""

from sweeper.tasks.meg.task import MegTask

__all__ = ["MegTask"]
