"""Writes the golden files of this folder from a copy of the published runs; see README.md.

Command: python tests/golden/make_golden.py ../shared/data
Numbers are copied as text, so that every float keeps its exact value; the gzip header carries no time stamp, so that
the same input gives the same bytes.
"""

import csv
import gzip
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
COLUMNS = ("group", "start", "epoch", "disturbed", "train_loss", "test_loss", "behavioral_rsa_rho")
TYPES = ("single_epoch_sweep", "target_noise", "image_noise", "uniform_target", "label_shuffle")


def runs(published: Path) -> Iterator[tuple[str, int, Path]]:
    """Yields (group, start, file); a length run's group is `length_<L>`, a baseline's start is 0."""
    for seed in (1, 2):
        yield f"baseline_seed{seed}", 0, published / f"baseline_cvpr_seed{seed}.csv"
    for kind in TYPES:
        for path in published.glob(f"{kind}/training_res_run*.csv"):
            yield kind, int(path.stem.removeprefix("training_res_run")), path
    for path in published.glob("length/*/*.csv"):
        match = re.fullmatch(r"random_target_e(\d+)_l(\d+)", path.parent.name)
        assert match is not None, path
        yield f"length_{match[2]}", int(match[1]), path


def rows(published: Path) -> Iterator[tuple[str, ...]]:
    """Yields one row per run and epoch; the used_* flags (none, two, three or four of them) become one, `disturbed`."""
    for group, start, path in sorted(runs(published)):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                disturbed = any(value == "True" for name, value in row.items() if name.startswith("used_"))
                numbers = (row[name] for name in COLUMNS[4:])
                yield group, str(start), row["epoch"], str(int(disturbed)), *numbers


def main(data: Path) -> None:
    """Writes both files."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows(data / "published_runs"))
    (HERE / "published_runs.csv.gz").write_bytes(gzip.compress(table.getvalue().encode(), mtime=0))
    goldens = json.loads((data / "goldens.json").read_text())
    (HERE / "goldens.json").write_text(json.dumps(goldens, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
