import re
from pathlib import Path

import pytest

from sweeper import tracking
from sweeper.tracking.base import NullTracker, Tracker, legal_name, metric_name


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("val_loss", "val/loss"),
        ("train_loss", "train/loss"),
        ("rsa_behavioral", "rsa/behavioral"),
        ("rsa_behavioral_centered", "rsa/behavioral_centered"),
        ("rsa_behavioral_se", "rsa/behavioral_se"),
        ("rsa_neural_late", "rsa/neural/late"),
        ("rsa_targets", "rsa/targets"),
        ("delta_val_loss", "delta/val_loss"),
        ("delta_rsa_behavioral", "delta/rsa_behavioral"),
        ("recovery_loss_epochs", "recovery/loss_epochs"),
        ("recovery_loss_epochs_clean", "recovery/loss_epochs_clean"),
        ("recovery_loss_epochs_at_least", "recovery/loss_epochs_at_least"),
        *((same, same) for same in ("best_val_loss", "final_rsa", "max_rsa", "last_epoch", "recovered")),
        *((same, same) for same in ("rsa_at_best_val_loss", "rsa_untrained", "adapter_distance", "seconds")),
    ],
)
def test_columns_have_one_metric_name(column: str, name: str) -> None:
    assert metric_name(column) == name


@pytest.mark.parametrize(
    ("name", "legal"),
    [
        ("rsa/neural/V1 (left)", "rsa/neural/V1 _left_"),
        ("a//b/../c/", "a/b/c"),
        ("/a", "a"),
        ("..", "_"),
        ("perturbation.0.start", "perturbation.0.start"),
    ],
)
def test_names_are_made_legal(name: str, legal: str) -> None:
    assert legal_name(name) == legal


def test_legal_names_pass_mlflows_own_check() -> None:
    from mlflow.utils.validation import _validate_metric_name

    for name in ("rsa/neural/V1 (left)", "a//b", "..", "./x", "ünï%code", "a/./b", "tabs\tand\nlines"):
        _validate_metric_name(legal_name(name))


def test_null_tracker_is_a_tracker() -> None:
    tracker: Tracker = NullTracker()
    tracker.close()


def test_mlflow_is_imported_in_one_module_and_there_not_with_it() -> None:
    for path in Path(tracking.__path__[0]).glob("*.py"):
        lines = path.read_text().splitlines()
        imports = [line for line in lines if re.match(r"\s*(import|from) mlflow", line)]
        assert path.name == "mlflow_view.py" or not imports
        assert all(line.startswith("    ") for line in imports)
