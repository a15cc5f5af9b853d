"""The section `search`: what it says, and a located message for everything that is wrong with it."""

import pytest

from sweeper.errors import SpecError
from sweeper.spec.load import parse_spec
from sweeper.spec.schema import SweepSpec
from sweeper.spec.search import Range

HEAD = "name: x\ndata: {manifest: m.yaml}\nmodel: {backbone: tiny-clip}\n"  # three lines; bodies start at line 4
RANK = "model.adapter.rank: {low: 1, high: 8}"

# (body after HEAD, line:column, fragment of the message)
BODIES = [
    ("search: 3", "4:9", "search must be a mapping. Got 3."),
    ("search:", "4:1", "search must be a mapping. Got nothing."),
    ("search: {}", "4:9", "search.space is missing"),
    (f"search: {{space: {{{RANK}}}}}", "4:9", "search.limits is missing"),
    (f"search: {{space: {{{RANK}}}, limits: {{}}}}", "4:58", "limits must name points, hours or gpu_hours"),
    (f"search: {{space: {{{RANK}}}, limits: {{points: 0}}}}", "4:75", "search.limits.points must be at least 1"),
    ("search: {space: {}, limits: {points: 1}}", "4:10", "search.space must name at least one field"),
    (
        "search: {space: {model.adapter.rank: {low: 0, high: 8}}, limits: {points: 1}}",
        "4:44",
        "must be at least 1. Got 0",
    ),
    (
        "search: {space: {model.adapter.rank: {low: 1, high: 8.5}}, limits: {points: 1}}",
        "4:53",
        "a whole number. Got 8.5",
    ),
    (
        "search: {space: {model.adapter.rank: {low: 9, high: 8}}, limits: {points: 1}}",
        "4:44",
        "low must not be greater",
    ),
    ("search: {space: {model.adapter.rank: {low: 1}}, limits: {points: 1}}", "4:39", "high is missing"),
    ("search: {space: {model.adapter.rank: {}}, limits: {points: 1}}", "4:18", "low is missing"),
    (
        "search: {space: {model.adapter.rank: {choices: [1], low: 1}}, limits: {points: 1}}",
        "4:53",
        "does not go with choices",
    ),
    ("search: {space: {model.adapter.rank: {choices: [1, 1.0]}}, limits: {points: 1}}", "4:48", "choices must differ"),
    ("search: {space: {model.adapter.rank: {choices: []}}, limits: {points: 1}}", "4:48", "at least one value"),
    (
        "search: {space: {model.adapter.rank: {choices: [1, two]}}, limits: {points: 1}}",
        "4:52",
        "a whole number. Got 'two'",
    ),
    (
        "search: {space: {model.adapter.alpha: {low: 0, high: 8, log: true}}, limits: {points: 1}}",
        "4:45",
        "greater than 0",
    ),
    (
        "search: {space: {model.adapter.rank: {low: 1, high: 8, step: 2, log: true}}, limits: {points: 1}}",
        "4:62",
        "with log",
    ),
    ("search: {space: {model.adapter.rank: {low: 1, hgh: 8}}, limits: {points: 1}}", "4:47", "Did you mean high?"),
    (
        "search: {space: {model.adapter.rnk: {low: 1, high: 8}}, limits: {points: 1}}",
        "4:18",
        "Did you mean model.adapter.rank?",
    ),
    ("search: {space: {data.fold: {choices: [0]}}, limits: {points: 1}}", "4:18", "compared on the same stimuli"),
    ("search: {space: {seeds.init: {low: 1, high: 2}}, limits: {points: 1}}", "4:18", "search.seeds trains each point"),
    (
        "search: {space: {subject: {choices: [a, b]}}, limits: {points: 1}}",
        "4:18",
        "points are compared on the same people's data",
    ),
    ("search: {space: {resources.gpu: {choices: [0]}}, limits: {points: 1}}", "4:18", "resources.gpu cannot be swept"),
    (
        f"search: {{space: {{{RANK}}}, limits: {{points: 1}}, first: [{{model.adapter.rank: 9}}]}}",
        "4:108",
        "must lie in the space",
    ),
    (
        f"search: {{space: {{{RANK}}}, limits: {{points: 1}}, first: [{{model.rank: 9}}]}}",
        "4:88",
        "must name searched fields",
    ),
    (f"search: {{space: {{{RANK}}}, limits: {{points: 1}}, first: 3}}", "4:86", "search.first must be a list"),
    (f"search: {{space: {{{RANK}}}, limits: {{points: 1}}, objectives: []}}", "4:91", "at least one metric"),
    (
        f"search: {{space: {{{RANK}}}, limits: {{points: 1}}, objectives: [{{metric: rsa_behavioral}}]}}",
        "4:101",
        "must not be measured on test stimuli: what is chosen by them is not tested. Got rsa_behavioral.",
    ),
    (
        f"search: {{space: {{{RANK}}}, limits: {{points: 1}}, objectives: [{{metric: train_loss}}]}}",
        "4:101",
        "search.objectives must compare points fairly; train_loss does not",
    ),
    (f"search: {{space: {{{RANK}}}, limits: {{points: 1}}, objectives: [{{at: end}}]}}", "4:97", "best_val_loss, last"),
    (f"search: {{space: {{{RANK}}}, limits: {{points: 1}}, sampler: tpe}}", "4:88", "search.sampler must be a mapping"),
    (
        f"search: {{space: {{{RANK}}}, limits: {{points: 1}}, sampler: {{options: {{seed: 1}}}}}}",
        "4:99",
        "seed is search.seed",
    ),
    (f"search: {{space: {{{RANK}}}, limits: {{points: 1}}, seeds: [1, 1]}}", "4:86", "search.seeds must differ"),
    (f"search: {{space: {{{RANK}}}, limits: {{points: 1}}, batch: 0}}", "4:86", "search.batch must be at least 1"),
    (f"search: {{space: {{{RANK}}}, limits: {{points: 1}}, btach: 2}}", "4:79", "Did you mean batch?"),
    (
        f"search: {{space: {{{RANK}}}, limits: {{points: 1}}}}\naxes: {{seeds: [1]}}",
        "4:1",
        "axes and search do not go together",
    ),
    ("axes: {search.seed: [1]}", "4:8", "search.seed cannot be swept"),
    *(
        (f"search: {{space: {{{RANK}}}, limits: {{points: 1}}, pruner: {{{pruner}}}{more}}}", f"4:{column}", fragment)
        for pruner, more, column, fragment in (
            ("", "", 87, "search.pruner.epochs is missing"),
            ("epochs: 3", "", 96, "search.pruner.epochs must be a list"),
            ("epochs: []", "", 96, "search.pruner.epochs must name at least one epoch"),
            ("epochs: [0, 3]", "", 97, "must be at least 1. Got 0"),
            ("epochs: [3, 3]", "", 96, "search.pruner.epochs must ascend. Got [3, 3]"),
            ("epochs: [5, 500]", "", 100, "a rung comes before the last epoch, 500: there is nothing to save after it"),
            ("epoch: [5]", "", 88, "Did you mean epochs?"),
            (
                "epochs: [5], metric: rsa_behavioral",
                "",
                109,
                "search.pruner.metric must not be measured on test stimuli",
            ),
            ("epochs: [5], metric: train_loss", "", 109, "search.pruner.metric must compare points fairly; train_loss"),
            (
                "epochs: [5], metric: val_loss",
                "",
                79,
                "in the direction of the objective: val_loss is better the",
            ),
            (
                "epochs: [5]",
                ", objectives: [{metric: rsa_validation}, {metric: val_loss}]",
                79,
                "a pruner goes with one objective: Optuna's pruners rank points by one value",
            ),
        )
    ),
]


@pytest.mark.parametrize(("body", "place", "fragment"), BODIES)
def test_every_mistake_is_told_at_its_place(body: str, place: str, fragment: str) -> None:
    with pytest.raises(SpecError) as raised:
        parse_spec(HEAD + body, "f.yaml")
    found = [str(problem) for problem in raised.value.problems]
    assert any(text.startswith(f"f.yaml:{place}:") and fragment in text for text in found), found
    assert not any("pydantic" in text or "Input should" in text for text in found)


MEG = "name: x\ndata: {manifest: m.yaml}\nmodel: {variant: clip-hba-meg, loss: {validation: batches}}\n"
UNIT = "{low: 0.5, high: 2.0}"


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("model.loss.w1", UNIT),
        ("model.loss.w3", UNIT),
        ("model.loss", "{choices: [{w2: 0.5}, {w2: 1.0}]}"),
        ("model.adapter.rank", "{low: 1, high: 8}"),
        ("model.curves.window_ms", UNIT),
        ("model.backbone", "{choices: [ViT-L-14, ViT-B-32]}"),
        ("data.preprocessing", "{choices: [things, clip]}"),
        ("training.batch_size", "{low: 8, high: 64}"),
    ],
)
def test_a_weighted_and_normalised_loss_compares_no_points(name: str, written: str) -> None:
    """Smaller weights would win, or whoever starts worse; the RSA of the same fields is fair."""
    head = f"{MEG}search: {{space: {{{name}: {written}}}, limits: {{points: 1}}, objectives: [{{metric: "
    with pytest.raises(SpecError) as raised:
        parse_spec(f"{head}val_loss}}]}}", "f.yaml")
    (problem,) = raised.value.problems
    column = head.splitlines()[-1].index("{metric: ") + len("{metric: ") + 1
    assert problem.where == f"f.yaml:4:{column}"
    assert f"weighted and normalised by what is searched ({name})" in problem.rule
    assert problem.remedy == "Take rsa_validation"
    assert parse_spec(f"{head}rsa_validation}}]}}", "f.yaml").search is not None


def test_a_pruner_compares_points_as_fairly_as_an_objective() -> None:
    searched = "space: {model.loss.w2: {low: 0.1, high: 1.0}}, limits: {points: 1}"
    objectives = "objectives: [{metric: val_loss}], pruner: {epochs: [5], metric: val_loss}"
    with pytest.raises(SpecError) as raised:
        parse_spec(f"{MEG}search: {{{searched}, {objectives}}}", "f.yaml")
    rules = [problem.rule for problem in raised.value.problems]
    assert [rule.partition(" must")[0] for rule in rules] == ["search.objectives", "search.pruner.metric"]
    assert all("weighted and normalised by what is searched (model.loss.w2)" in rule for rule in rules)


@pytest.mark.parametrize(
    ("head", "named"),
    [
        (MEG, "Take rsa_validation"),  # val_loss is refused where its weights are searched
        ("name: x\ndata: {manifest: m.yaml}\nmodel: {}\n", "Take rsa_validation or val_loss"),
        (f"{MEG}training: {{batch_size: 2}}\n", "Take what is measured on validation"),  # no point is valid
    ],
)
def test_instead_of_test_stimuli_only_what_this_spec_accepts_is_named(head: str, named: str) -> None:
    space = (
        "{model.loss.w2: {low: 0.1, high: 1.0}}" if MEG in head else "{training.optimizer.lr: {low: 0.1, high: 1.0}}"
    )
    objectives = "objectives: [{metric: rsa_behavioral}]"
    with pytest.raises(SpecError) as raised:
        parse_spec(f"{head}search: {{space: {space}, limits: {{points: 1}}, {objectives}}}", "f.yaml")
    (problem,) = [problem for problem in raised.value.problems if "test stimuli" in problem.rule]
    assert problem.remedy is not None
    assert problem.remedy.startswith(named)
    assert problem.remedy.endswith(", or say allow_test_objective: true and read it so")
    assert ("val_loss" in problem.remedy) == ("val_loss" in named)


def test_a_pruner_that_sees_test_stimuli_makes_a_search_that_does() -> None:
    pruner = "pruner: {epochs: [5], metric: rsa_behavioral}, allow_test_objective: true"
    spec = parse_spec(f"{HEAD}search: {{space: {{{RANK}}}, limits: {{points: 1}}, {pruner}}}", "f.yaml")
    assert spec.search is not None
    assert spec.search.sees_test_stimuli


def test_the_stand_in_keeps_the_rungs_that_its_shorter_training_reaches() -> None:
    def rungs(epochs: str) -> tuple[int, ...] | None:
        body = f"search: {{space: {{{RANK}}}, limits: {{points: 1}}, pruner: {{epochs: {epochs}}}}}"
        spec = parse_spec(f"{MEG.replace('loss: {validation: batches}', 'adapter: {}')}{body}", "f", stand_in=True)
        assert spec.search is not None
        return spec.search.pruner and spec.search.pruner.epochs

    assert rungs("[5, 20, 60]") == (5, 20)
    assert rungs("[60, 90]") is None


def test_where_the_loss_is_the_same_for_all_points_it_may_compare_them() -> None:
    body = "search: {space: {training.optimizer.lr: {low: 0.1, high: 0.2}}, limits: {points: 1}, objectives: [{metric: "
    assert parse_spec(f"{MEG}{body}val_loss}}]}}", "f.yaml").search is not None


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("model.targets.participants", "{choices: [[a], [b]]}"),
        ("model.targets", "{choices: [{series: a}, {series: b}]}"),
        ("model.curves.source", "{choices: [data, ones]}"),
    ],
)
@pytest.mark.parametrize("objectives", ["", ", objectives: [{}]"])
def test_an_rsa_against_something_else_compares_no_points(name: str, written: str, objectives: str) -> None:
    """The objective that nobody wrote is one, too."""
    with pytest.raises(SpecError) as raised:
        parse_spec(f"{MEG}search: {{space: {{{name}: {written}}}, limits: {{points: 1}}{objectives}}}", "f.yaml")
    (problem,) = raised.value.problems
    assert f"what it is compared with, or at which times, depends on {name}" in problem.rule
    assert problem.remedy == "Search other fields"


def test_mistakes_are_told_all_at_once() -> None:
    body = (
        "search:\n  space: {model.adapter.rank: {low: 0, high: 8}, model.adapter.rnk: {low: 1, high: 2}}\n"
        "  first: [{model.adapter.rank: 9}]\n  objectives: [{metric: rsa_targets}, {metric: adapter_distance}]\n"
        "  limits: {points: 0}\n  smapler: {}\n"
    )
    with pytest.raises(SpecError) as raised:
        parse_spec(HEAD + body, "f.yaml")
    assert [problem.where for problem in raised.value.problems] == [
        *("f.yaml:5:37", "f.yaml:5:50", "f.yaml:6:32", "f.yaml:7:25", "f.yaml:7:48", "f.yaml:8:20", "f.yaml:9:3")
    ]


def test_a_test_objective_may_be_allowed_and_says_so() -> None:
    body = f"search: {{space: {{{RANK}}}, limits: {{points: 1}}, objectives: [{{metric: rsa_behavioral}}]"
    spec = parse_spec(f"{HEAD}{body}, allow_test_objective: true}}", "f.yaml")
    assert spec.search is not None
    assert spec.search.sees_test_stimuli
    assert not spec.evaluation.validation


def test_the_validation_rsa_is_measured_where_a_search_asks_for_it() -> None:
    spec = parse_spec(f"{HEAD}search: {{space: {{{RANK}}}, limits: {{points: 1}}}}", "f.yaml")
    assert spec.evaluation.validation
    assert SweepSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_losses_are_minimized_and_all_else_is_maximized() -> None:
    body = "objectives: [{metric: val_loss}, {metric: rsa_validation}, {metric: val_loss, direction: maximize}]"
    spec = parse_spec(f"{HEAD}search: {{space: {{{RANK}}}, limits: {{points: 1}}, {body}}}", "f.yaml")
    assert spec.search is not None
    assert [objective.is_maximized for objective in spec.search.objectives] == [False, True, True]


@pytest.mark.parametrize(
    ("searched", "inside", "outside"),
    [
        ({"low": 1, "high": 7, "step": 3}, [1, 4, 7], [2, 8, 4.5, True, "4"]),
        ({"low": 0.5, "high": 2.0}, [0.5, 1, 2.0], [0.4, 2.1, None]),
        ({"low": 0.1, "high": 0.7, "step": 0.2}, [0.1, 0.3, 0.1 + 2 * 0.2, 0.7], [0.2]),
        ({"choices": [1, "a", None]}, [1, "a", None], [1.0, True, "b"]),
    ],
)
def test_what_lies_in_a_range(searched: dict[str, object], inside: list[object], outside: list[object]) -> None:
    found = Range.model_validate(searched)
    assert all(found.contains(value) for value in inside)
    assert not any(found.contains(value) for value in outside)


def test_the_stand_in_keeps_the_search_and_moves_the_learning_rate_with_its_default() -> None:
    body = """search:
  space:
    training.optimizer.lr: {low: 3e-5, high: 3e-3, log: true}
    model.adapter.vision_layers: {choices: [2, 6, 12]}
    model.backbone: {choices: [ViT-L-14, ViT-B-32]}
  first: [{training.optimizer.lr: 3e-4, model.backbone: ViT-L-14}]
  limits: {points: 3}
"""
    spec = parse_spec(f"name: x\ndata: {{manifest: m.yaml}}\nmodel: {{backbone: ViT-L-14}}\n{body}", "f", stand_in=True)
    assert spec.search is not None
    rate, layers = spec.search.space["training.optimizer.lr"], spec.search.space["model.adapter.vision_layers"]
    assert (rate.low, rate.high, layers.choices) == (2e-4, 2e-2, (2, 5))
    assert spec.search.first == ({"training.optimizer.lr": 2e-3},)
    assert "model.backbone" not in spec.search.space


def test_one_objective_twice_is_refused() -> None:
    twice = "[{metric: val_loss}, {metric: val_loss, direction: minimize}]"
    body = f"search: {{space: {{{RANK}}}, limits: {{points: 1}}, objectives: {twice}}}"
    with pytest.raises(SpecError, match=r"search.objectives must differ from each other. Got '?val_loss"):
        parse_spec(f"{HEAD}{body}", "f.yaml")
