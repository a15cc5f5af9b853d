"""Prints a table of a sweep, or writes it to a file, in any format."""

import os
import shutil
import sys
from pathlib import Path
from typing import Literal

from sweeper.reporting.formats import Format, write
from sweeper.reporting.points import point_rows
from sweeper.reporting.tables import Row, curve_columns, curve_rows, objective_mark, tolerance_rows, trial_rows
from sweeper.reporting.text import render
from sweeper.reporting.view import SweepView
from sweeper.store.objects import ObjectStore
from sweeper.store.opening import open_store

What = Literal["trials", "curves", "dimensions", "tolerances", "folds", "points", "courses", "individuals", "subjects"]


def print_table(
    view: SweepView,
    *,
    what: What = "trials",
    format_: Format = "text",
    out: Path | None = None,
    store: str | Path | None = None,
    subjects: tuple[str, str] | None = None,
) -> None:
    """Prints a table to the standard output, or writes it to `out`.

    Args:
        view: the sweep.
        what: which table.
        format_: how; text is the table for people.
        out: a file.
        store: address of the store, for tables that are made from held-out outputs.
        subjects: the two that the table `subjects` is about.

    Raises:
        DataError: the table needs the data's files, and they are not here.
        StoreError: there are no such subjects.
    """
    if format_ == "text" and what in ("trials", "folds", "individuals", "subjects"):
        text = _people(view, what, store, subjects, for_file=out is not None)
        if out is None:
            sys.stdout.write(text)
        else:
            out.write_text(text, encoding="utf-8")
        return
    rows, columns = _rows(view, what, store, subjects)
    if not rows and format_ == "text":
        sys.stderr.write(f"{_why_empty(view, what)}\n")
    write(rows, format_, sys.stdout if out is None else out, columns=columns)


def _why_empty(view: SweepView, what: What) -> str:
    name = view.revision.spec.name
    if what == "points" and view.revision.spec.search is None:
        return f"{name} is no search (search)"
    if what == "courses" and view.trials and not any(trial.config.model.over_time for trial in view.trials.values()):
        return f"{name} has no model over time (MEG)"
    return f"{what}: nothing to show yet"


def _people(
    view: SweepView, what: What, store: str | Path | None, subjects: tuple[str, str] | None, *, for_file: bool
) -> str:
    if what == "folds":
        from sweeper.reporting.folds import folds_text

        return folds_text(view, _opened(store))
    if what == "individuals":
        from sweeper.reporting.individual_text import individuals_text

        return individuals_text(view, _opened(store))
    if what == "subjects":
        from sweeper.reporting.subject_pair import pairs_of, pairs_text

        assert subjects is not None
        return pairs_text(view, pairs_of(view, _opened(store), subjects))
    on_terminal = not for_file and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if on_terminal else None
    return render(view, width=width, color=on_terminal and "NO_COLOR" not in os.environ)


def _rows(
    view: SweepView, what: What, store: str | Path | None, subjects: tuple[str, str] | None
) -> tuple[list[Row], tuple[str, ...] | None]:
    if what == "trials":
        return trial_rows(view), None
    if what == "curves":
        return curve_rows(view), ("trial_id", "epoch", *curve_columns(view), *objective_mark(view))
    if what == "tolerances":
        return tolerance_rows(view), None
    if what == "points":
        return point_rows(view), None
    return _from_outputs(view, what, _opened(store), subjects), None


def _from_outputs(view: SweepView, what: What, store: ObjectStore, subjects: tuple[str, str] | None) -> list[Row]:
    """Returns a table that is computed from stored outputs and the data's files."""
    if what == "dimensions":
        from sweeper.reporting.dimensions import dimension_rows

        return list(dimension_rows(view, store))
    if what == "courses":
        from sweeper.reporting.time_lines import course_rows

        return course_rows(view, store)
    if what == "individuals":
        from sweeper.reporting.individual_rows import individual_rows

        return individual_rows(view, store)
    if what == "subjects":
        from sweeper.reporting.subject_pair import pair_rows, pairs_of

        assert subjects is not None
        return pair_rows(pairs_of(view, store, subjects))
    from sweeper.reporting.folds import fold_rows

    return fold_rows(view, store)


def _opened(store: str | Path | None) -> ObjectStore:
    assert store is not None, "this table is computed from held-out outputs"
    return open_store(store, create=False)
