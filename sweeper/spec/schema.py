"""The spec: frozen types of one YAML file in `experiments/`.

Two kinds of field live apart. `TrialConfig` holds what a trial *is*: it is hashed. Everything else in
`SweepSpec` (evaluation, recovery, resources, tracking) says what to measure, show, and where to run.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from sweeper.spec.base import (
    Flag,
    NonNegativeFloat,
    NonNegativeInt,
    Number,
    PositiveFloat,
    PositiveInt,
    Seed,
    SpecModel,
    Whole,
    broken_rule,
)
from sweeper.spec.naming import MAX_NAME
from sweeper.spec.perturbations import AnyPerturbation
from sweeper.spec.search import Search
from sweeper.spec.variants import AnyModel

COMPARATORS = ("published", "fixed", "clean")
Comparator = Literal["published", "fixed", "clean"]


class DataConfig(SpecModel):
    """Which stimuli and targets, and how they are split."""

    manifest: Annotated[str, Field(min_length=1)]
    """Path of a data manifest, relative to the spec."""
    relabel: Literal["none", "things-uniqueid"] | None = None
    """`none` keeps the 21 mislabelled SPoSE rows as published; default: what the manifest says."""
    preprocessing: Literal["things", "clip"] = "things"
    """Constants of the pixel normalisation."""
    folds: Annotated[Whole, Field(ge=2)] | None = None
    """Number of folds; one of them is the test set."""
    fold: NonNegativeInt | None = None
    """0-based fold that is the test set."""
    train_size: Annotated[Whole, Field(ge=4)] | None = None
    """Use only so many of the stimuli (training and validation together)."""
    train_fraction: Annotated[Number, Field(gt=0, lt=1)] = 0.8
    """Part of the stimuli that is trained on; the rest is the validation set."""
    split: Literal["hashed", "published"] = "hashed"
    """`published`: the study's torch permutation; `hashed`: a stateless stream."""

    @model_validator(mode="after")
    def _fold_lies_in_folds(self) -> Self:
        if self.folds is None and self.fold is not None:
            raise broken_rule("data.fold needs data.folds, the number of folds", "fold", "folds")
        if self.folds is not None and self.fold is None:
            rule = "data.folds needs data.fold, the fold that is the test set"
            raise broken_rule(rule, "folds", "fold")
        if self.folds is not None and self.fold is not None and self.fold >= self.folds:
            raise broken_rule(f"data.fold must lie in 0..{self.folds - 1}", "fold", "folds", got=self.fold)
        return self


Decay = Annotated[Number, Field(ge=0, lt=1)]


class Optimizer(SpecModel):
    """An optimiser by name, with every number it uses."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    """Kind of optimiser, as in torch."""
    lr: PositiveFloat = 3e-4
    """Learning rate, constant."""
    weight_decay: NonNegativeFloat = 0.01
    """Decoupled for adamw, as torch has it for the others."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Decay of the two moments (adam, adamw)."""
    eps: PositiveFloat = 1e-8
    """Added to the denominator (adam, adamw)."""
    momentum: NonNegativeFloat = 0.0
    """Momentum (sgd)."""

    @model_validator(mode="after")
    def _has_no_number_that_it_does_not_use(self) -> Self:
        """A number that changes nothing would still make other states of equal trainings."""
        unused = ("betas", "eps") if self.name == "sgd" else ("momentum",)
        for field in unused:
            if getattr(self, field) != type(self).model_fields[field].default:
                rule = f"training.optimizer.{field} is not used by {self.name}"
                raise broken_rule(rule, field, "name", got=getattr(self, field), remedy="Leave it out")
        return self


class Training(SpecModel):
    """How one trial is trained."""

    optimizer: Optimizer = Optimizer()
    """The optimiser and its numbers."""
    batch_size: PositiveInt = 64
    """Images in a batch; the last batch of an epoch may be smaller."""
    max_epochs: Annotated[Whole, Field(ge=1, le=100_000)] = 500
    """No trial is trained longer, whatever its stopping rule."""
    order: Literal["hashed", "published"] = "hashed"
    """`published`: the batch order of the study's own loader."""
    batches: Literal["reshuffled", "frozen"] = "reshuffled"
    """`frozen`: who shares a batch is drawn once, and only the batches change places, as in the published MEG study."""


class Seeds(SpecModel):
    """Seeds by purpose; a bare number sets split, init and order."""

    split: Seed = 1
    """Which stimuli are trained on and which validate."""
    init: Seed = 1
    """First values of the adapters."""
    order: Seed = 1
    """Order of the batches."""
    noise: Seed = 0
    """What a perturbation draws; the published q."""

    @model_validator(mode="before")
    @classmethod
    def _one_number_sets_three(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return {"split": value, "init": value, "order": value}
        return value


class Stopping(SpecModel):
    """When a trial ends; `max_epochs` bounds every rule."""

    rule: Literal["horizon", "vp", "cp"] = "horizon"
    """`horizon`: so many epochs after the window, baselines to max_epochs; `vp`, `cp`: published early stopping."""
    horizon_after_window: PositiveInt | None = None
    """Epochs after the last window under rule `horizon`; 60 where left out."""
    monitor: Literal["val_loss"] = "val_loss"
    """What the rule watches."""
    patience: PositiveInt | None = None
    """Epochs without a new best under rule `vp` or `cp`."""

    @model_validator(mode="after")
    def _rule_has_its_number(self) -> Self:
        if self.rule == "horizon" and self.patience is not None:
            remedy = "Name the rule, or leave patience out"
            raise broken_rule(
                "stopping.patience belongs to rule vp or cp", "patience", "rule", got=self.patience, remedy=remedy
            )
        if self.rule != "horizon" and self.horizon_after_window is not None:
            rule = f"stopping.horizon_after_window does not go with rule {self.rule}"
            raise broken_rule(rule, "horizon_after_window", "rule", got=self.horizon_after_window)
        if self.rule != "horizon" and self.patience is None:
            raise broken_rule(f"stopping.rule {self.rule} needs stopping.patience", "rule", "patience", got=self.rule)
        return self

    @property
    def horizon(self) -> int:
        """Epochs after the window under rule `horizon`."""
        return self.horizon_after_window or 60


class Numerics(SpecModel):
    """What changes the last bits: part of what a state is."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: cuda where the cluster has or may launch GPUs. Resolved before anything is hashed."""
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """Arithmetic of training."""
    threads: PositiveInt = 1
    """CPU threads of one trial."""
    features: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Storage of the frozen prefix."""
    prefix: Literal["cached", "full"] = "cached"
    """`full` pushes every image through the whole tower, as the reference does."""
    strict: Flag = False
    """Put the device model into the identity, too."""


def _as_tuple(value: Any) -> Any:
    if value is None:
        return ()
    return value if isinstance(value, list | tuple) else (value,)


_FEWEST_STIMULI = 3  # of an RDM: with two there is one pair


def _as_id(value: Any) -> Any:
    """Participants are often numbered: a whole number is the id that it spells."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class TrialConfig(SpecModel):
    """One fully resolved configuration: all that a trial is."""

    data: DataConfig
    """Stimuli, targets and their split."""
    model: AnyModel
    """The network, its weights and its adapters."""
    training: Training = Training()
    """Optimiser, batches and epochs."""
    seeds: Seeds = Seeds()
    """Seeds by purpose; a bare number sets split, init and order."""
    stopping: Stopping = Stopping()
    """When a trial ends."""
    perturbation: Annotated[tuple[AnyPerturbation, ...], BeforeValidator(_as_tuple)] = ()
    """One perturbation, or a list of them, each with its own window."""
    subject: Annotated[str | None, BeforeValidator(_as_id)] = None
    """The participant whose data alone are trained on; as an axis also `all`, or a range such as `S01..S06`."""
    numerics: Numerics = Numerics()
    """What changes the last bits."""

    @model_validator(mode="after")
    def _windows_lie_in_training(self) -> Self:
        last = self.training.max_epochs
        for index, window in enumerate(self.perturbation):
            if window.start > last:
                rule = f"perturbation.start must not lie after the last epoch, {last} (training.max_epochs)"
                raise broken_rule(rule, f"perturbation.{index}.start", "training.max_epochs", got=window.start)
        return self

    @model_validator(mode="after")
    def _variant_takes_what_is_asked(self) -> Self:
        variant = self.model.variant
        if self.subject is not None and not self.model.over_time:
            rule = f"subject belongs to variants that are trained on participants' data; {variant} is not"
            raise broken_rule(rule, "subject", "model.variant", got=self.subject)
        if self.subject is not None and self.model.participants is not None:
            rule = "model.targets.participants does not go with a subject, who is trained on alone"
            at, got = "model.targets.participants", list(self.model.participants)
            raise broken_rule(rule, at, "subject", got=got, remedy="Leave one of them out")
        if self.model.over_time and self.training.batch_size < _FEWEST_STIMULI:
            rule = f"{variant} compares stimuli in RDMs, so training.batch_size is at least {_FEWEST_STIMULI}"
            raise broken_rule(rule, "training.batch_size", "model.variant", got=self.training.batch_size)
        for index, window in enumerate(self.perturbation):
            if not window.effect.acts(over_time=self.model.over_time):
                rule = f"perturbation kind {window.kind} does nothing to {variant}"
                raise broken_rule(rule, f"perturbation.{index}.kind", "model.variant", got=window.kind)
        return self

    @property
    def start(self) -> int:
        """First epoch of the trial's own rows: the first window's start, or 1."""
        return min((window.start for window in self.perturbation), default=1)

    @property
    def window_end(self) -> int | None:
        """Last disturbed epoch, or None without a window."""
        return max((window.end for window in self.perturbation), default=None)

    @property
    def disturbed_epochs(self) -> int:
        """Number of distinct epochs in which a perturbation acts; one that acts once counts once."""
        return len({epoch for window in self.perturbation for epoch in window.active_epochs()})

    def baseline(self) -> "TrialConfig":
        """Returns the undisturbed configuration that this one is compared with."""
        return self.model_copy(update={"perturbation": (), "seeds": self.seeds.model_copy(update={"noise": 0})})


Metric = Literal["correlation", "cosine"]


class Evaluation(SpecModel):
    """What is measured on held-out stimuli; never part of an identity."""

    rsa: tuple[str, ...] = ()
    """Behavioural references by name; the first is `rsa/behavioral`. Empty: the manifest's first, else `targets`."""
    metric: Metric = "correlation"
    """Distance of the model's RDM against behaviour: 1 - Pearson correlation, or 1 - cosine."""
    neural_metric: Metric = "correlation"
    """The same against neural RDMs; the study took cosine there."""
    layers: tuple[Literal["output", "embedding"], ...] = ("output",)
    """`embedding` adds the RSA of the image embedding before the prompts."""
    sets: tuple[str, ...] = ()
    """Further manifests, evaluated at every epoch."""
    bootstraps: NonNegativeInt = 100
    """Resamplings of the stimuli for `rsa/behavioral_se`; 0 leaves it out, 1 says nothing about a spread."""
    participants: Literal["others", "targets"] = "others"
    """Whose neural RDMs over time a group model is compared with: those not trained on, or, as published, the same."""
    validation: Flag = False
    """Also measure `rsa/validation`: the RSA on the validation stimuli against their targets."""

    @model_validator(mode="after")
    def _one_resampling_has_no_spread(self) -> Self:
        if self.bootstraps == 1:
            raise broken_rule("evaluation.bootstraps is 0 or at least 2", "bootstraps", got=1)
        return self


class Recovery(SpecModel):
    """Which recovery is shown first; all comparators are always computed."""

    tolerance: NonNegativeFloat = 0.01
    """Relative for the loss."""
    rsa_tolerance: NonNegativeFloat = 0.01
    """Absolute for the RSA."""
    persistence: PositiveInt = 1
    """Consecutive epochs that must lie within the tolerance."""
    comparator: Comparator = "clean"
    """What a recovery is judged by: `published`, `fixed` or `clean` (docs/metrics.md)."""


class Resources(SpecModel):
    """What one trial may use, and where it runs."""

    gpu: Literal["auto"] | NonNegativeFloat = "auto"
    """GPUs of one trial, a fraction too; `auto`: its measured peak plus 20 %, none without GPUs."""
    cpu: PositiveFloat = 1.0
    """CPUs of one trial."""
    cache_gb: PositiveFloat | None = None
    """Most that frozen features may take on a node, in GB; those of other sweeps give way. Default: no limit."""
    address: str | None = None
    """Ray address; default: RAY_ADDRESS, else Ray on this machine."""


class Tracking(SpecModel):
    """Where the MLflow view goes."""

    uri: str | None = None
    """Tracking URI; default: MLFLOW_TRACKING_URI, else an SQLite file in the store."""
    experiment: str | None = None
    """MLflow experiment; default: the spec's name."""


def axis_values(name: str, values: Any) -> Any:
    """Returns the values of an axis; `subject: all` and `subject: S01..S06` may stand without a list."""
    return [values] if name == "subject" and isinstance(values, str) else values


def names_several(subject: str | None) -> bool:
    """Tells whether a subject stands for as many participants as the data have in it: `all`, or a range."""
    return subject is not None and (subject == "all" or ".." in subject)


class AxisBlock(SpecModel):
    """A product of axes and of zipped groups of axes; in the product, the last axis varies fastest."""

    product: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Swept fields by dotted name with their values."""
    zip: Annotated[tuple[dict[str, tuple[Any, ...]], ...], BeforeValidator(_as_tuple)] = ()
    """Groups whose axes advance together; each is one factor of the product, after the plain axes."""

    @model_validator(mode="before")
    @classmethod
    def _dotted_names_are_the_product(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        plain = value["product"] if "product" in value else {k: v for k, v in value.items() if k != "zip"}
        if isinstance(plain, dict):
            plain = {name: axis_values(name, values) for name, values in plain.items()}
        return {**{k: v for k, v in value.items() if k == "zip" or "product" in value}, "product": plain}

    @model_validator(mode="after")
    def _axes_have_values(self) -> Self:
        for name, values in [*self.product.items(), *(axis for group in self.zip for axis in group.items())]:
            if not values:
                raise ValueError(f"axis {name} has no values")
        for group in self.zip:
            lengths = {name: len(values) for name, values in group.items()}
            if len(set(lengths.values())) > 1:
                raise ValueError(f"zipped axes differ in length: {lengths}")
        return self


class SweepSpec(SpecModel):
    """One experiment: a question, its trials, what is measured, and where it runs."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=MAX_NAME)]
    """Name of the sweep in its store."""
    base: dict[str, Any]
    """The sections of `TrialConfig` as written; fields that an axis sweeps may be left out."""
    axes: Annotated[tuple[AxisBlock, ...], BeforeValidator(_as_tuple)] = ()
    """Swept fields by dotted name with their values: a product; a list of blocks is their union."""
    exclude: tuple[dict[str, Any], ...] = ()
    """Partial assignments of swept fields; trials that match one are left out."""
    search: Search | None = None
    """Instead of axes: fields whose values a sampler suggests, point by point."""
    allow_overlap: Flag = False
    """Accept perturbation seeds closer than an epoch's batches under `noise: published`."""
    stand_in: Flag = False
    """Data, backbone and learning rate were replaced by the self-made set's."""
    evaluation: Evaluation = Evaluation()
    """What is measured on held-out stimuli."""
    recovery: Recovery = Recovery()
    """Which recovery is shown first."""
    resources: Resources = Resources()
    """What one trial may use, and where it runs."""
    tracking: Tracking = Tracking()
    """Where the MLflow view goes."""
