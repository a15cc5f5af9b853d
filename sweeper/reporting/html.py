"""One HTML file that holds a whole sweep: table, figures, spec, and what the numbers do not say."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from sweeper.reporting.figures import figures, png
from sweeper.reporting.folds import about, choices_text, fold_scores, with_error
from sweeper.reporting.individual_text import ABOUT, sentences
from sweeper.reporting.individuals import Individuals, Missing, individuals_of
from sweeper.reporting.points import TEST_STIMULI, points_text, sees_test_stimuli
from sweeper.reporting.status import STAND_IN
from sweeper.reporting.tables import trial_rows
from sweeper.reporting.text import columns_of, header
from sweeper.reporting.view import SweepView
from sweeper.store.objects import ObjectStore

_STYLE = """
:root { color-scheme: light dark; --text: #222; --page: #fff; --soft: #f6f6f6; --line: #e4e4e4;
  --failed: #b00020; --open: #8a6100; --mark: #fff3cd }
@media (prefers-color-scheme: dark) { :root { --text: #ddd; --page: #18191b; --soft: #232528; --line: #3a3d41;
  --failed: #ff8a95; --open: #e0b050; --mark: #4a3d10 } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem;
  color: var(--text); background: var(--page) }
h1 { overflow-wrap: anywhere } @media (max-width: 40rem) { h1 { font-size: 1.5rem } body { margin: 1rem auto } }
pre { background: var(--soft); padding: .8rem; overflow-x: auto; font-size: 13px } pre.words { white-space: pre-wrap }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
div.wide { overflow: auto; max-height: 44rem }
th { position: sticky; top: 0; background: var(--page); text-align: right; vertical-align: bottom }
th, td { padding: .15rem .6rem; white-space: pre } td { text-align: right; border-bottom: 1px solid var(--line) }
.baseline { font-weight: 600 } .failed { color: var(--failed) } .open { color: var(--open) }
.mark { background: var(--mark); padding: .5rem .8rem; border-left: 4px solid #e0a800 }
figure { margin: 1rem 0; overflow-x: auto } img { max-width: 100%; min-width: min(46rem, 100vw * 2); background: #fff }
"""
_REPLACED = "As written; <code>--stand-in</code> replaced data, backbone and learning rate."
_CAVEATS = (
    "Selection: trials are compared at the epoch of their best validation loss. The maximum RSA over epochs is chosen "
    "on the test stimuli and lies above it (by 0.022 on average in the published runs); it keeps its own name.",
    "Comparator: whether and when a trial recovers depends on what it is held against. All three are always computed: "
    "published (the baseline at the same epoch, its minimum later), fixed (its minimum), clean (the baseline after "
    "equally many undisturbed epochs). docs/metrics.md has the formulas.",
    "NR means: not within the epochs seen. A trial that was stopped early might have recovered later; the epochs seen "
    "after the window stand beside it.",
    "Best values are over the epochs a trial has: one that ends before its baseline's best epoch (a horizon after "
    "an early window) lies behind it for that reason alone.",
    "One seed is one draw: in the published runs the peak RSA varies between seeds with a standard deviation of 0.009.",
)


Drawn = Iterable[tuple[str, bytes]]
"""Names of figures with their PNG bytes."""


def write_report(view: SweepView, path: Path, store: ObjectStore | None = None, search_figures: Drawn = ()) -> None:
    """Writes `html_report` to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html_report(view, store, search_figures), encoding="utf-8")


def html_report(view: SweepView, store: ObjectStore | None = None, search_figures: Drawn = ()) -> str:
    """Returns a self-contained page; the same results give the same text.

    Args:
        view: the sweep.
        store: where held-out outputs lie; without it what is computed from them is left out.
        search_figures: those of a search.
    """
    spec = view.revision.spec
    individuals = () if store is None else individuals_of(view, store)
    parts = [
        f"<h1>{escape(spec.name)}</h1>",
        f'<p class="mark">{STAND_IN}</p>' if spec.stand_in else "",
        f'<p class="mark">{TEST_STIMULI}</p>' if sees_test_stimuli(view) else "",
        f'<pre class="words">{escape(_about(view))}</pre>',
        _search(view, search_figures),
        "<h2>Trials</h2>",
        _trial_table(view),
        _failures(view),
        _folds(view, store),
        _individuals(individuals),
        "<h2>Figures</h2>",
        *(_figure(name, png(figure)) for name, figure in figures(view, store, individuals)),
        "<h2>How to read this</h2><ul>",
        *(f"<li>{escape(caveat)}</li>" for caveat in _CAVEATS),
        f"</ul><h2>Spec, revision {view.revision.number}</h2>",
        f"<p>{_REPLACED}</p>" if spec.stand_in else "",
        f"<pre>{escape(view.revision.source)}</pre>",
    ]
    body = "\n".join(part for part in parts if part)
    title = escape(f"{spec.name} (stand-in)" if spec.stand_in else spec.name)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _about(view: SweepView) -> str:
    lines = header(view).strip().splitlines()
    return "\n".join(line for line in lines if line not in (STAND_IN, TEST_STIMULI))  # the page says so above


def _search(view: SweepView, drawn: Drawn) -> str:
    parts = [_figure(name, data) for name, data in drawn]
    if best := points_text(view).strip():
        parts.insert(0, f'<pre class="words">{escape(best)}</pre>')
    return "\n".join(["<h2>Search</h2>", *parts]) if parts else ""


def _trial_table(view: SweepView) -> str:
    rows = trial_rows(view)
    columns = columns_of(view, rows)
    lines = [[column.cell(row) for column in columns] for row in rows]
    classes = [f"{row['role']} {row['status']}" for row in rows]
    return _table([column.title for column in columns], lines, classes)


def _failures(view: SweepView) -> str:
    found = [(trial, view.failure(trial_id)) for trial_id, trial in view.trials.items()]
    failed = [f"<li>{escape(trial.name)}: {escape(reason)}</li>" for trial, reason in found if reason is not None]
    return "\n".join(["<h2>Failed</h2><ul>", *failed, "</ul>"]) if failed else ""


def _folds(view: SweepView, store: ObjectStore | None) -> str:
    scores = () if store is None else fold_scores(view, store)
    if not scores:
        return ""
    names = [
        "",
        "odd-one-out\naccuracy",
        "untrained",
        "gain",
        "targets\nthemselves",
        "chance",
        "RSA to targets\nby fold",
    ]
    names += ["untrained", "RSA to targets\npooled", "untrained", ""]
    lines = [
        [
            score.label,
            with_error(score.accuracy, score.accuracy_se),
            with_error(score.untrained_accuracy, score.untrained_accuracy_se),
            with_error(score.gain, score.gain_se),
            with_error(score.target_accuracy, score.target_accuracy_se),
            f"{score.chance:.3f}",
            with_error(score.rsa_targets),
            with_error(score.rsa_targets_untrained),
            with_error(score.rsa_targets_pooled),
            with_error(score.rsa_targets_pooled_untrained),
            score.missing or "",
        ]
        for score in scores
    ]
    count = next((f" ({choices_text(score)})" for score in scores if score.triplets is not None), "")
    note = " ".join(about(view))
    return f"<h2>Out of fold{count}</h2><p>{escape(note)}</p>{_table(names, lines)}"


def _individuals(found: Sequence[Individuals | Missing]) -> str:
    if not found:
        return ""
    parts = [f"<h2>Individual differences</h2><p>{escape(' '.join(ABOUT))}</p>"]
    for one in found:
        said = "\n".join(f"<li>{escape(line)}</li>" for line in sentences(one, found))
        parts.append(f"<h3>{escape(one.group.label)}</h3><ul>\n{said}\n</ul>")
    return "\n".join(parts)


def _table(names: Sequence[str], lines: Sequence[Sequence[str]], classes: Sequence[str] | None = None) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = (
        f'<tr class="{"" if classes is None else classes[index]}">'
        + "".join(f"<td>{escape(cell)}</td>" for cell in line)
        + "</tr>"
        for index, line in enumerate(lines)
    )
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>"
    )


def _figure(name: str, data: bytes) -> str:
    shown = base64.b64encode(data).decode()
    return f'<figure id="{escape(name)}"><img alt="{escape(name)}" src="data:image/png;base64,{shown}"></figure>'
