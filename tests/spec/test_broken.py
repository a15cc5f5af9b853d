"""Broken specs: a located message each, all at once, and never anything but a SpecError."""

import random
import re
from pathlib import Path

import pytest

from sweeper.errors import SpecError
from sweeper.spec.axes import expand
from sweeper.spec.load import load_spec, parse_spec

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SHIPPED = sorted(EXPERIMENTS.glob("*.yaml"))
LOCATED = re.compile(r"f\.yaml:([1-9][0-9]*):([1-9][0-9]*)")
PYDANTIC = re.compile(r"pydantic|Input should|Field required|Extra inputs|Value error|Traceback|\n", re.IGNORECASE)

HEAD = "name: x\ndata: {manifest: m.yaml}\nmodel: {backbone: tiny-clip}\n"  # three lines; bodies start at line 4
WINDOW = "perturbation: {kind: random_target, start: 3}\n"  # line 4

# (body after HEAD, line:column, fragment of the message)
BODIES = [
    # keys
    ("trainning: {}", "4:1", "trainning is not a known key. Did you mean training? Known keys: name, data"),
    ("stand_in: true", "4:1", "stand_in is not a known key"),
    ("base: {}", "4:1", "base is not a known key"),
    ("training: {batchsize: 3}", "4:12", "training.batchsize is not a known key. Did you mean batch_size?"),
    ("training:\n  optimizer:\n    lrate: 3", "6:5", "training.optimizer.lrate is not a known key"),
    ("stopping: {horizon: 3}", "4:12", "stopping.horizon is not a known key"),
    ("recovery: {tolerence: 0.1}", "4:12", "Did you mean tolerance?"),
    ("evaluation: {set: [a]}", "4:14", "Did you mean sets?"),
    ("tracking: {url: x}", "4:12", "Did you mean uri?"),
    ("numerics: {dtype: fp32}", "4:12", "Known keys: device, precision, threads"),
    ("seeds: {spilt: 3}", "4:9", "Did you mean split?"),
    ("seeds.init: 3", "4:1", "seeds.init is not a known key. Nest it in its section, or sweep it under axes"),
    ('"a\\nb\\ud800": x', "4:1", r"a\nb\ud800 is not a known key"),
    ("1: x", "4:1", "1 is not a known key"),
    ("null: x", "4:1", "null is not a known key"),
    # types
    ("training: {optimizer: {lr: fast}}", "4:28", "training.optimizer.lr must be a number. Got 'fast'."),
    ("training: {optimizer: {lr: '1e-4'}}", "4:28", "training.optimizer.lr must be a number. Got '1e-4'."),
    ("training: {optimizer: {lr: true}}", "4:28", "must be a number. Got true."),
    ("training: {optimizer: {lr: .nan}}", "4:28", "must be a finite number. Got nan."),
    ("training: {optimizer: {lr: .inf}}", "4:28", "must be a finite number"),
    ("training: {optimizer: {lr: 0}}", "4:28", "must be greater than 0. Got 0."),
    ("training: {optimizer: {lr: }}", "4:24", "must be a number. Got nothing."),
    ("training: {optimizer: adam}", "4:23", "training.optimizer must be a mapping. Got 'adam'."),
    ("training: {optimizer: {name: adamx}}", "4:30", "must be one of adamw, adam, sgd. Got 'adamx'. Nearest: adam"),
    ("training: {optimizer: {betas: [0.9]}}", "4:31", "must be a list of 2 numbers. Got [0.9]."),
    ("training: {optimizer: {betas: [0.9, 1.5]}}", "4:37", "training.optimizer.betas.1 must be less than 1. Got 1.5."),
    ("training: {optimizer: {betas: 0.9}}", "4:31", "must be a list. Got 0.9."),
    ("training: {batch_size: 16.5}", "4:24", "training.batch_size must be a whole number. Got 16.5."),
    ("training: {batch_size: 0}", "4:24", "must be at least 1. Got 0."),
    ("training: {batch_size: yes}", "4:24", "must be a whole number. Got 'yes'."),
    ("training: {max_epochs: [1]}", "4:24", "must be a whole number. Got [1]."),
    ("training:", "4:1", "training must be a mapping. Got nothing."),
    ("training: 5", "4:11", "training must be a mapping. Got 5."),
    ("seeds: -1", "4:8", "seeds must be at least 0. Got -1."),
    ("seeds: 1.5", "4:8", "seeds must be a whole number or a mapping. Got 1.5."),
    ("seeds: {init: 4294967296}", "4:15", "seeds.init must be less than 2147483648"),
    ("seeds: {init: 99999999999999999999999999999999999}", "4:15", "Got a huge whole number"),
    ("numerics: {strict: no}", "4:20", "numerics.strict must be true or false. Got 'no'."),
    ("numerics: {precision: fp23}", "4:23", "must be one of fp32, tf32, bf16. Got 'fp23'. Nearest: fp32"),
    ("numerics: {threads: two}", "4:21", "must be a whole number"),
    ("allow_overlap: yes", "4:16", "allow_overlap must be true or false. Got 'yes'."),
    ("evaluation: {rsa: behavioral48}", "4:19", "evaluation.rsa must be a list. Got 'behavioral48'."),
    ("evaluation: {rsa: [1]}", "4:20", "evaluation.rsa.0 must be text. Got 1."),
    ("evaluation: {layers: [middle]}", "4:23", "must be one of output, embedding. Got 'middle'."),
    ("recovery: {comparator: cleen}", "4:24", "Got 'cleen'. Nearest: clean"),
    ("recovery: {tolerance: -0.1}", "4:23", "recovery.tolerance must be at least 0. Got -0.1."),
    ("resources: {gpu: many}", "4:18", "resources.gpu must be auto or a number. Got 'many'."),
    ("resources: {cpu: 0}", "4:18", "resources.cpu must be greater than 0"),
    ('tracking: {uri: "\\ud800"}', "4:17", r"Got the character '\ud800'."),
    ("tracking: {uri: 5}", "4:17", "tracking.uri must be text. Got 5."),
    # perturbations
    ("perturbation: {kind: random_targt, start: 3}", "4:22", "Got 'random_targt'. Did you mean random_target? Known"),
    ("perturbation: {kind: [1], start: 3}", "4:22", "perturbation.kind must be a known kind. Got [1]."),
    ("perturbation: {start: 3}", "4:15", "perturbation.kind is missing"),
    ("perturbation: {kind: freeze}", "4:15", "perturbation.start is missing"),
    ("perturbation: {kind: freeze, start: 3, noise: fresh}", "4:40", "is not a known key of kind freeze. Known keys:"),
    ("perturbation: {kind: freeze, start: 0}", "4:37", "perturbation.start must be at least 1. Got 0."),
    ("perturbation: {kind: freeze, start: 3, length: 0}", "4:48", "perturbation.length must be at least 1. Got 0."),
    ("perturbation: {kind: freeze, start: 501}", "4:37", "must not lie after the last epoch, 500"),
    ("perturbation: freeze", "4:15", "perturbation must be a mapping. Got 'freeze'."),
    (
        "perturbation:\n  - {kind: freeze, start: 3}\n  - {kind: freeze, start: x}",
        "6:27",
        "perturbation.1.start must be a",
    ),
    ("perturbation:\n  - {kind: freeze, start: 3}\n  - {kind: freeze, start: 900}", "6:27", "after the last epoch"),
    ("perturbation: {kind: learning_rate, start: 3}", "4:15", "perturbation.factor is missing"),
    # rules between fields
    ("stopping: {patience: 3}", "4:22", "stopping.patience belongs to rule vp or cp. Got 3."),
    ("stopping: {rule: vp}", "4:18", "stopping.rule vp needs stopping.patience"),
    ("stopping: {rule: vp, patience: 3, horizon_after_window: 4}", "4:57", "does not go with rule vp. Got 4."),
    ("stopping: {rule: vpp}", "4:18", "must be one of horizon, vp, cp. Got 'vpp'. Nearest: vp"),
    # axes
    ("axes:", "4:1", "axes must be a mapping of dotted names to lists of values. Got nothing."),
    ("axes: {}", "4:7", "axes must name at least one field. Got none."),
    ("axes: []", "4:7", "axes must name at least one field"),
    ("axes: 5", "4:7", "axes must be a mapping of dotted names to lists of values. Got 5."),
    ("axes: [3]", "4:8", "a block of axes must be a mapping of dotted names to lists of values. Got 3."),
    ("axes: [{}]", "4:8", "a block of axes must be a mapping"),
    ("axes: {seeds.init: []}", "4:20", "axis seeds.init must have at least one value. Got an empty list."),
    ("axes: {seeds.init: 3}", "4:20", "axis seeds.init must be a list of values. Got 3. Write [3]."),
    ("axes: {seeds.init: {a: 1}}", "4:20", "axis seeds.init must be a list of values"),
    (
        "axes: {seeds.inti: [1]}",
        "4:8",
        "axis seeds.inti names no field of a trial. Did you mean seeds.init? Known",
    ),
    ("axes: {lr: [0.1]}", "4:8", "Did you mean training.optimizer.lr?"),
    ("axes: {training.lr: [0.1]}", "4:8", "Did you mean training.optimizer.lr?"),
    ("axes: {foo.bar: [0.1]}", "4:8", "Known: data, model, training, seeds"),
    ("axes: {resources.gpu: [0.5]}", "4:8", "resources.gpu cannot be swept: where a trial runs changes no number"),
    ("axes: {evaluation.metric: [cosine]}", "4:8", "evaluation.metric cannot be swept: every trial"),
    ("axes: {recovery.tolerance: [0.1]}", "4:8", "recovery.tolerance cannot be swept"),
    ("axes: {tracking.uri: [a]}", "4:8", "tracking.uri cannot be swept"),
    ("axes: {name: [a]}", "4:8", "name cannot be swept: it names the whole sweep"),
    ("axes: {seeds.init: [1, a]}", "4:24", "seeds.init must be a whole number. Got 'a'."),
    ("axes:\n  seeds.init:\n    - 1\n    - -2", "7:7", "seeds.init must be at least 0. Got -2."),
    ("axes: {seeds: [1, -2]}", "4:19", "seeds must be at least 0. Got -2."),
    ("axes: {training.optimizer.lr: [1e-3, true]}", "4:38", "training.optimizer.lr must be a number. Got true."),
    (
        "axes: {zip: {seeds.init: [1, 2], seeds.split: [1]}}",
        "4:8",
        "equally many values. Got seeds.init 2, seeds",
    ),
    ("axes: {zip: [{seeds.init: [1, 2], seeds.split: [1]}]}", "4:14", "zipped axes must have equally many values"),
    ("axes: {zip: {}}", "4:13", "zip must name at least one field"),
    ("axes: {zip: 5}", "4:13", "a group of axes must be a mapping of dotted names"),
    ("axes: {zip: [5]}", "4:14", "a group of axes must be a mapping of dotted names"),
    ("axes: {product: 5}", "4:17", "a group of axes must be a mapping of dotted names"),
    ("axes: {product: {seeds: [1]}, seeds.init: [1]}", "4:31", "product and zip only. Got seeds.init."),
    ("axes: {seeds.init: [1], zip: {seeds.init: [2]}}", "4:31", "a field must not be swept twice in one block"),
    ("axes: {zip: [{seeds.init: [1]}, {seeds.init: [2]}]}", "4:34", "a field must not be swept twice"),
    (WINDOW + "axes: {perturbation.start: [1], perturbation.0.start: [2]}", "5:33", "must not be swept twice"),
    (
        WINDOW + "axes: {perturbation.start: [4, 501]}",
        "5:32",
        "last epoch, 500 (training.max_epochs). Got 501.",
    ),
    (WINDOW + "axes: {training.max_epochs: [2, 5]}", "4:44", "after the last epoch, 2"),
    (WINDOW + "axes: {perturbation.99.start: [4]}", "5:8", "names no field of a trial"),
    (WINDOW + "axes: {perturbation.kind: [freeze, frieze]}", "5:36", "Got 'frieze'. Did you mean freeze?"),
    (
        "perturbation: {start: 3, noise: fresh}\naxes: {perturbation.kind: [random_target, freeze]}",
        "4:26",
        "perturbation.noise is not a known key of kind freeze",
    ),
    (
        WINDOW + "axes: {perturbation.factor: [3]}",
        "5:8",
        "is not a known key of kind random_target",
    ),
    ("axes: {perturbation: [{kind: freeze}]}", "4:23", "perturbation.start is missing"),
    ("axes: {perturbation: [null, {kind: freeze, start: 0}]}", "4:51", "perturbation.start must be at least 1. Got 0."),
    ("axes: {perturbation.start: [3]}", "4:28", "perturbation.kind is missing"),
    (
        "perturbation: [{kind: freeze, start: 1}, {kind: freeze, start: 2}]\naxes: {perturbation.start: [3]}",
        "5:8",
        "ambiguous: perturbation is a list. Say which one, e.g. perturbation.0.start",
    ),
    ("axes: {data.fold: [0, 1]}", "4:8", "data.fold needs data.folds, the number of folds."),
    ("axes: {data.folds: [3], data.fold: [0, 3]}", "4:40", "data.fold must lie in 0..2. Got 3."),
    ("axes: {stopping.rule: [vp]}", "4:24", "stopping.rule vp needs stopping.patience"),
    ("axes: {model.adapter.rank: [32, 0]}", "4:33", "model.adapter.rank must be at least 1. Got 0."),
    ("axes: {model.adapter.ranks: [32]}", "4:8", "Did you mean model.adapter.rank?"),
    # exclusions
    ("axes: {seeds.init: [1]}\nexclude: {seeds.init: 1}", "5:10", "exclude must be a list of partial assignments"),
    (
        "axes: {seeds.init: [1]}\nexclude: [3]",
        "5:11",
        "a mapping of swept fields to values. Got 3.",
    ),
    ("axes: {seeds.init: [1]}\nexclude: [{}]", "5:11", "an exclusion must be a mapping"),
    (
        "axes: {seeds.init: [1]}\nexclude: [{seeds.intt: 1}]",
        "5:12",
        "mean seeds.init? Swept fields: seeds.init",
    ),
    ("axes: {seeds.init: [1]}\nexclude: [{seeds.init: 2}]", "5:11", "must match a trial. Got seeds.init: 2."),
    ("axes: {seeds.init: [1]}\nexclude: [{seeds.init: 1}]", "5:10", "exclusions must leave at least one trial"),
    (
        "exclude: [{seeds.init: 1}]",
        "4:12",
        "swept fields; seeds.init is none. Swept fields: none",
    ),
    # published noise
    (
        "perturbation: {kind: random_target, start: 3, noise: published}\n"
        "axes: {data.train_size: [1806], seeds.noise: [42, 43]}",
        "5:51",
        "epoch's batches apart (23) under noise: published. Got 42 and 43 at start 3",
    ),
    (
        "perturbation: {kind: random_target, noise: published}\n"
        "axes: {zip: {seeds.noise: [0, 1000], perturbation.start: [2, 1]}}",
        "5:31",
        "Got 0 and 1000 at starts 2 and 1",
    ),
    # YAML
    ("seeds: 1\nseeds: 2", "5:1", "a key must not occur twice. Got seeds. First at line 4."),
    ("seeds: {init: 1, init: 2}", "4:18", "a key must not occur twice. Got init."),
    ("training:\n\tbatch_size: 3", "5:1", "YAML is indented by spaces. Got a tab."),
    ("training: {batch_size: 3", "5:1", "the file must be valid YAML"),
    ("seeds: 1: 2", "4:9", "the file must be valid YAML: mapping values are not allowed here"),
    ("seeds: 'x", "5:1", "the file must be valid YAML"),
    ("seeds: !int 3", "4:8", "YAML tags must not be used. Got !int."),
    ("? [a]\n: 3", "4:3", "a key must be text. Got a list or a mapping."),
    ("---\nseeds: 1", "4:1", "the file must be one YAML document. Got a second one."),
    ("seeds: \x01", "4:8", "the file must be text. Got the character '\\x01'."),
    ("tracking: {uri: " + "[" * 40, "4:46", "nesting must not be deeper than 30"),
    ('tracking: {uri: "\\UFFFFFFFF"}', "1:1", "the file must be valid YAML"),
]

# (whole text, line:column, fragment)
TEXTS = [
    ("", "1:1", "a spec must be a mapping with the keys name, data, model and so on. Got an empty file."),
    ("# a comment\n", "1:1", "Got an empty file"),
    ("- 1\n- 2\n", "1:1", "a spec must be a mapping"),
    ("hello", "1:1", "a spec must be a mapping with the keys name, data, model and so on. Got 'hello'."),
    ("data: {manifest: a}\nmodel: {}", "1:1", "name is missing"),
    ("name: x\nmodel: {}", "1:1", "data is missing"),
    ("name: x\ndata: {manifest: a}", "1:1", "model is missing"),
    ("name: x\ndata: {}\nmodel: {}", "2:7", "data.manifest is missing"),
    ("name: x\ndata: {manifest: ''}\nmodel: {}", "2:18", "data.manifest must be at least 1 characters long"),
    ("name: x\ndata: {manifest: 5}\nmodel: {}", "2:18", "data.manifest must be text. Got 5."),
    ("name: x\ndata: m.yaml\nmodel: {}", "2:7", "data must be a mapping. Got 'm.yaml'."),
    ("name: 'a b'\ndata: {manifest: a}\nmodel: {}", "1:7", "name must be letters, digits"),
    ("name: 5\ndata: {manifest: a}\nmodel: {}", "1:7", "name must be text. Got 5."),
    ("name: x\ndata: {manifest: a, folds: 1, fold: 0}\nmodel: {}", "2:28", "data.folds must be at least 2. Got 1."),
    ("name: x\ndata: {manifest: a, folds: 5}\nmodel: {}", "2:21", "data.folds needs data.fold, the fold that is the"),
    ("name: x\ndata: {manifest: a, fold: 5}\nmodel: {}", "2:21", "data.fold needs data.folds"),
    ("name: x\ndata: {manifest: a, folds: 5, fold: 5}\nmodel: {}", "2:37", "data.fold must lie in 0..4. Got 5."),
    (
        "name: x\ndata: {manifest: a, split: publish}\nmodel: {}",
        "2:28",
        "hashed, published. Got 'publish'. Near",
    ),
    ("name: x\ndata: {manifest: a, train_fraction: 1}\nmodel: {}", "2:37", "must be less than 1. Got 1."),
    ("name: x\ndata: {manifest: '${SWEEPER_NO_SUCH}/a'}\nmodel: {}", "2:18", "variable SWEEPER_NO_SUCH must be set"),
    ("name: x\ndata: {manifest: a}\nmodel: {variant: resnet}", "3:18", "must be a known variant. Got 'resnet'."),
    ("name: x\ndata: {manifest: a}\nmodel: {backbone: 3}", "3:19", "model.backbone must be text. Got 3."),
    ("name: x\ndata: {manifest: a}\nmodel: {adapter: {dora: pef}}", "3:25", "Got 'pef'. Nearest: peft"),
    ("name: x\ndata: {manifest: a}\nmodel: {activation: relu}", "3:21", "must be one of quick_gelu, gelu"),
    (HEAD + "axes: {seeds.init: &a [1], seeds.split: *b}", "4:41", "an alias must name an anchor above it. Got *b."),
    ("%YAML 3.0\n---\nname: x", "1:1", "the file must be valid YAML"),
]


def broken(text: str) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "f.yaml")
    problems = caught.value.problems
    for problem in problems:
        assert LOCATED.fullmatch(problem.where), problem
        assert not PYDANTIC.search(str(problem)), problem
    return {problem.where: str(problem) for problem in reversed(problems)}


@pytest.mark.parametrize(("body", "place", "fragment"), BODIES, ids=[body[:50] for body, _, _ in BODIES])
def test_a_broken_body_is_told_at_its_place(body: str, place: str, fragment: str) -> None:
    problems = broken(HEAD + body + "\n")
    assert fragment in problems.get(f"f.yaml:{place}", str(problems))
    assert f"f.yaml:{place}" in problems
    assert len(problems) == 1, problems


@pytest.mark.parametrize(("text", "place", "fragment"), TEXTS, ids=[text[-50:] for text, _, _ in TEXTS])
def test_a_broken_text_is_told_at_its_place(text: str, place: str, fragment: str) -> None:
    problems = broken(text)
    assert fragment in problems.get(f"f.yaml:{place}", str(problems))
    assert f"f.yaml:{place}" in problems


def test_there_are_a_hundred_hand_made_ones() -> None:
    assert len(BODIES) + len(TEXTS) >= 100


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    text = """\
name: x
data: {mainfest: m.yaml, folds: 3, fold: 5}
model: {adapter: {rank: 0}}
training: {optimizer: {lr: fast}, max_epochs: 50}
perturbation: {kind: random_targt}
axes:
  perturbation.start: [1, 60, a]
  perturbation.lenght: [3]
  resources.gpu: [1]
evaluaton: {}
recovery: {comparator: publishd}
"""
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "f.yaml")
    places = [problem.where.removeprefix("f.yaml:") for problem in caught.value.problems]
    assert places == ["2:7", "2:8", "2:42", "3:25", "4:28", "5:22", "7:27", "7:31", "8:3", "9:3", "10:1", "11:24"]
    assert caught.value.exit_code == 2


def test_a_problem_of_many_trials_is_told_once() -> None:
    seeds = list(range(100))
    problems = broken(f"{HEAD}training: {{batch_size: x}}\naxes: {{seeds: {seeds}, model.adapter.rank: [1, 2]}}\n")
    assert list(problems) == ["f.yaml:4:24"]


def test_too_many_trials_are_refused_without_making_them() -> None:
    values = list(range(1, 1001))
    problems = broken(f"{HEAD}axes: {{seeds.init: {values}, seeds.order: {values}, seeds.split: {values}}}\n")
    assert "at most 100000 trials. Got 1000000000." in problems["f.yaml:4:7"]


def test_aliases_cannot_blow_up() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert "aliases must not make more than" in str(broken("\n".join(lines)))


def test_an_alias_inside_its_own_anchor_is_told() -> None:
    assert "an alias must name an anchor above it" in broken(f"{HEAD}axes: &a {{seeds: *a}}\n")["f.yaml:4:18"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "length_grid.yaml").write_text("name: x")
    (tmp_path / "binary.yaml").write_bytes(b"name: x\nda\xff\x00ta: 1\n")
    cases = {
        "lenght_grid.yaml": "the spec must exist. Nearest: .*length_grid.yaml",
        "": "a spec must be a file. Got a folder. Specs in it: binary.yaml, length_grid.yaml",
        "binary.yaml": r"binary.yaml:2:3: a spec must be UTF-8 text. Got the byte 0xff",
        "length_grid.yaml/x": "must be readable|must exist",
        "a\0b": "must be readable",
    }
    for name, message in cases.items():
        with pytest.raises(SpecError, match=message):
            load_spec(f"{tmp_path}/{name}".rstrip("/"))


JUNK = [
    *("[]", "{}", "null", "true", "no", "-1", "0", "1e400", ".nan", ".inf", "'x'", "[1]", "{a: 1}", "9" * 30, "*a"),
    *("&a x", "!!int 3", "\t", "\x00", "é", "- -", "? :", "1e-4", "0x10", "[[1]]", "''", "perturbation.start", "<<"),
    *(": ", "&b", "*b", "${HOME}", "${X_Y_Z}", "\ufeff", "\u2028", "#", ">", "|", "%", "@", "`", "\\", '"'),
]
VALUE = re.compile(r"(?<=[:\[,] )[^,\n\]}{]+|(?<=\[)[^,\n\]}{]+")


def mutate(text: str, rng: random.Random) -> str:
    """Breaks a spec the ways people and editors do: lost or doubled lines, odd values, typos, indentation."""
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        lines = text.split("\n")
        at = rng.randrange(len(lines))
        place = rng.randrange(len(text) + 1)
        match rng.randrange(7):
            case 0:
                text = text[:place] + rng.choice(JUNK) + text[place:]
            case 1:
                text = text[:place] + text[place + rng.randrange(12) :]
            case 2:
                text = "\n".join([*lines[:at], rng.choice(lines), *lines[at:]])
            case 3:
                text = "\n".join(lines[:at] + lines[at + 1 :])
            case 4:
                values = list(VALUE.finditer(text))
                if values:
                    value = rng.choice(values)
                    text = text[: value.start()] + rng.choice(JUNK) + text[value.end() :]
            case 5:
                text = text[:place] + rng.choice("abcxyz_.0 ") + text[place + 1 :]
            case _:
                lines[at] = " " * rng.randrange(5) + lines[at].lstrip()
                text = "\n".join(lines)
    return text


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_mutated_spec_is_valid_or_told(path: Path) -> None:
    rng = random.Random(path.stem)
    text, num_broken = path.read_text("utf-8"), 0
    for _ in range(40):
        mutant = mutate(text, rng)
        try:
            spec = parse_spec(mutant, "f.yaml")
        except SpecError as error:
            problems = error.problems
        else:
            problems = ()
            assert expand(spec)
            assert expand(parse_spec(mutant, "f.yaml", stand_in=True))
        num_broken += bool(problems)
        for problem in problems:
            assert LOCATED.fullmatch(problem.where), (problem, mutant)
            assert not PYDANTIC.search(str(problem)), (problem, mutant)
    assert num_broken > 10
