"""What must be said beside the numbers of a sweep because of its data and its backbone."""

from sweeper.data.manifest import Manifest
from sweeper.errors import SweeperError
from sweeper.inputs import manifest_of
from sweeper.reporting.view import SweepView

TINY = "tiny-clip"
PLUMBING = "The tiny CLIP knows drawings only: on other images it tests the plumbing, not the science."


def remarks(view: SweepView) -> list[str]:
    """Returns where a sweep over folds has its main answer, and that the tiny CLIP says nothing of real images."""
    return [*_folds(view), *plumbing(view)]


def plumbing(view: SweepView) -> list[str]:
    """Returns the remark on the tiny CLIP where it sees images that are not the self-made drawings."""
    seen = {trial.config.data.manifest for trial in view.trials.values() if trial.config.model.backbone == TINY}
    found = [_manifest(path) for path in sorted(seen)]
    return [PLUMBING] if any(manifest is None or manifest.generator is None for manifest in found) else []


def _folds(view: SweepView) -> list[str]:
    paths = {trial.config.data.manifest for trial in view.trials.values() if trial.config.data.folds is not None}
    if not paths:
        return []
    found = [_manifest(path) for path in sorted(paths)]
    choices = any(manifest is not None and manifest.triplets is not None for manifest in found)
    what = "human odd-one-out choices and RSA" if choices else "RSA"
    return [f"out of fold, all photographs together, {what}: sweeper results {view.revision.spec.name} --folds"]


def _manifest(path: str) -> Manifest | None:
    """Returns a manifest; None where it is not on this machine."""
    try:
        return manifest_of(path)
    except SweeperError:
        return None
