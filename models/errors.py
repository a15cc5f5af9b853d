"""Say what is wrong with a model that was asked for; the engine turns these into located spec errors."""


class ModelError(Exception):
    """Report one problem as place, rule, value and way out.

    Attributes:
        where: the argument the problem sits in, e.g. `pretrained`, `activation`, `adapter.vision_layers`.
        rule: what must hold.
        got: what was found instead.
        remedy: what to do, commands and paths included.
    """

    def __init__(self, *, where: str, rule: str, got: str, remedy: str) -> None:
        super().__init__(f"{where}: {rule}. Got {got}. {remedy}")
        self.where, self.rule, self.got, self.remedy = where, rule, got, remedy

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders by pickle; the default rebuilds from `args` and cannot pass keywords.
        return _rebuild, (type(self), self.where, self.rule, self.got, self.remedy)


def _rebuild(cls: type[ModelError], where: str, rule: str, got: str, remedy: str) -> ModelError:
    return cls(where=where, rule=rule, got=got, remedy=remedy)


class BackboneUnsupported(ModelError):
    """Refuse a backbone that is unknown or not a CLIP of plain transformer blocks."""


class WeightsUnavailable(ModelError):
    """Say which weights are missing on this machine, what to download and where to put it."""


class WeightsMismatch(ModelError):
    """Refuse weights that do not belong to the network that was asked for."""


class AdapterMismatch(ModelError):
    """Refuse an adapter configuration that does not fit the backbone."""


class TensorMismatch(ModelError):
    """Refuse a tensor whose shape or values do not fit the model or the loss it is handed to."""


class UndefinedLoss(ModelError):
    """Say that an RDM or a loss does not exist for these values, and where they are constant."""
