"""What a doctor says: one row per check, and the verdict over all of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from sweeper.errors import Problem, SweeperError

Verdict: TypeAlias = Literal["ok", "deviates", "failed", "not applicable", "not examined"]

_INDENT = " " * 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """States the outcome of one check.

    Attributes:
        name: what was checked.
        expected: the published figure, or what any sound machine gives.
        found: what is here; None where nothing is.
        verdict: `ok`; `deviates`: the spec itself asks for something else than the published study; `failed`: the
            spec asks for the published thing, and what is here is not it, or something is broken;
            `not applicable`: there is no figure for what the spec asks for; `not examined`: weights or data that
            cannot be had, named by their place, with the rule that they break.
        cause: the likely cause, or why a figure does not apply.
        remedy: the way out.
    """

    name: str
    expected: str
    found: str | None
    verdict: Verdict
    cause: str | None = None
    remedy: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Holds all rows.

    Attributes:
        title: what was examined.
        rows: in the order of the checks.
        missing: why the network was not examined; empty where it was.
    """

    title: str
    rows: tuple[Row, ...]
    missing: tuple[Problem, ...] = ()

    @property
    def has_failed(self) -> bool:
        """Tells whether something is not what the spec says it is."""
        return any(row.verdict == "failed" for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """Returns the rows as plain JSON values."""
        rows = [*self.rows, *(_not_examined(problem) for problem in self.missing)]
        return {"schema_version": 1, "rows": [asdict(row) for row in rows]}

    def to_text(self) -> str:
        """Returns an aligned table, causes and remedies under their rows, and the verdict as last line."""
        cells = [(row.verdict, row.name, row.expected, row.found or "") for row in self.rows]
        header = ("verdict", "check", "expected", "found")
        widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
        lines = [self.title, "", _aligned(header, widths)]
        for row, texts in zip(self.rows, cells, strict=True):
            lines.append(_aligned(texts, widths))
            if row.verdict in ("failed", "deviates"):
                lines += [f"{_INDENT}{text}" for text in _explanation(row)]
        return "\n".join([*lines, "", self.conclusion()])

    def conclusion(self) -> str:
        """Returns one line: whether network and data are the published ones."""
        counts = Counter(row.verdict for row in self.rows)
        numbers = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        numbers += "; the network was not examined" if self.missing else ""
        if counts["failed"]:
            names = "; ".join(row.name for row in self.rows if row.verdict == "failed")
            return f"verdict: FAILED ({numbers}): {names}"
        if counts["deviates"]:
            return f"verdict: sound, but by the spec's own choice not the published study ({numbers})"
        if counts["not applicable"]:
            return f"verdict: sound as far as could be checked; published figures do not apply ({numbers})"
        what = "so far, the data are" if self.missing else "network and data are"
        return f"verdict: {what} the published ones ({numbers})"


class Unfinished(SweeperError):
    """Says that weights or images are absent, and what could be checked without them.

    Attributes:
        report: the checks that were made; None after a process border.
    """

    def __init__(self, problems: Problem | Sequence[Problem], report: Report | None = None) -> None:
        super().__init__(problems)
        self.report = report


def unfinished(report: Report) -> Unfinished:
    """Returns the error for absent weights or images, with the checks that were made all the same."""
    note = f"the checks that need neither weights nor images were made all the same\n{report.to_text()}"
    return Unfinished([*report.missing, Problem(where="doctor", rule=note)], report)


def report_of(error: SweeperError) -> Report:
    """Returns what an examination that ended in an error has found out."""
    if isinstance(error, Unfinished) and error.report is not None:
        return error.report
    return Report(title="", rows=(), missing=error.problems)


def _not_examined(problem: Problem) -> Row:
    return Row(
        name=problem.where,
        expected=problem.rule,
        found=problem.got,
        verdict="not examined",
        remedy=problem.remedy,
    )


def _aligned(texts: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=True)).rstrip()


def _explanation(row: Row) -> list[str]:
    parts = (("likely cause", row.cause), ("remedy", row.remedy))
    return [f"{label}: {text}" for label, text in parts if text]
