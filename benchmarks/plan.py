"""What planning a sweep costs: CPU seconds and peak memory of `sweeper plan` in a fresh process.

Trials are seeds x 10 starts x 10 lengths of random targets on the self-made set, without a store. Imports are part
of it; under PYTHONDONTWRITEBYTECODE the process compiles every module it imports, which takes a second more.

    python benchmarks/plan.py --trials 1000 --json
"""

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import click

SPEC = """
name: many
data: {{manifest: "builtin:selfmade"}}
model: {{backbone: tiny-clip, pretrained: builtin}}
training: {{optimizer: {{name: adamw, lr: 2e-2}}, batch_size: 16, max_epochs: 70}}
stopping: {{rule: horizon, horizon_after_window: 20}}
perturbation: {{kind: random_target}}
axes:
  seeds: {seeds}
  perturbation.start: [4, 8, 12, 16, 20, 24, 28, 32, 36, 40]
  perturbation.length: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
evaluation: {{rsa: [behavioral48]}}
"""
TRIALS_OF_A_SEED = 100


def measure(trials: int) -> dict[str, float]:
    """Plans a sweep of so many trials in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "many.yaml"
        spec.write_text(SPEC.format(seeds=list(range(1, trials // TRIALS_OF_A_SEED + 1))))
        words = [
            sys.executable,
            "-m",
            "sweeper.cli",
            "plan",
            str(spec),
            "--store",
            str(Path(folder) / "store"),
            "--json",
        ]
        printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert json.loads(printed)["trials"] == trials
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)  # of the only child
    return {
        "trials": trials,
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(usage.ru_maxrss / 1000),
    }


@click.command()
@click.option("--trials", type=click.IntRange(min=TRIALS_OF_A_SEED), default=1000, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(trials: int, as_json: bool) -> None:
    """Measures the planning of TRIALS trials, a multiple of 100."""
    if trials % TRIALS_OF_A_SEED:
        raise click.BadParameter(f"{trials} is no multiple of {TRIALS_OF_A_SEED}", param_hint="--trials")
    row = measure(trials)
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "rows": [row]}))
    else:
        click.echo(f"{trials} trials: {row['cpu_seconds']:.2f} CPU seconds, peak {row['peak_mb']:.0f} MB")


if __name__ == "__main__":
    main()
