"""What a search may cost at most, before anything is asked: points that lack, each as dear as the dearest corner."""

from dataclasses import replace

from sweeper.plan.estimate import Disk, PlanSummary
from sweeper.plan.tree import build_tree
from sweeper.search.batches import Space
from sweeper.sizes import disk_of
from sweeper.wording import counted


def with_points_to_come(plan: PlanSummary, space: Space, num_asked: int) -> PlanSummary:
    """Returns a plan in which the points that are not asked yet are counted, as if they shared nothing.

    Args:
        plan: of the points that were asked.
        space: what is searched.
        num_asked: points that were asked.
    """
    trials = space.corners.trials
    seeds, has_baselines = max(1, len(space.search.seeds)), any(trial.role == "baseline" for trial in trials)
    most = space.max_points
    if most is None:
        asked = counted(num_asked, "point")
        told = f"search: {asked} asked; no number of points ends it, only time; counted below are these"
        return replace(plan, search=told)
    to_come = max(0, most - num_asked)
    told = f"search: at most {counted(most, 'point')} x {counted(seeds, 'seed')}; {num_asked} asked, {to_come} to come"
    if not to_come:
        return replace(plan, search=told)
    runs = to_come * seeds * (1 + has_baselines)
    epochs = runs * max(trial.lineage.last_epoch for trial in trials)
    return replace(
        plan,
        trials=plan.trials + to_come * seeds,
        baselines=plan.baselines + to_come * seeds * has_baselines,
        epochs_requested=plan.epochs_requested + epochs,
        epochs_distinct=plan.epochs_distinct + epochs,
        epochs_to_run=plan.epochs_to_run + epochs,
        is_upper_bound=True,
        seconds_to_run=plan.seconds_of(plan.epochs_to_run + plan.epochs_to_rebuild + epochs),
        disk=_disk(plan.disk, space, runs),
        search=told,
    )


def _disk(known: Disk, space: Space, runs: int) -> Disk:
    evaluation, num_rungs = space.spec.evaluation, len(space.search.rungs)
    each = [disk_of([trial], build_tree([trial]), evaluation, num_rungs) for trial in space.corners.trials]
    return Disk(
        features=max(known.features, disk_of(space.corners.trials, space.corners.tree, evaluation).features),
        states=known.states + runs * max(disk.states for disk in each),
        records=known.records + runs * max(disk.records for disk in each),
        mlflow=known.mlflow + runs * max(disk.mlflow for disk in each),
    )
