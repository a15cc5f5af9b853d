"""The base of every spec type: frozen, closed, documented by its own schema."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, Strict
from pydantic_core import PydanticCustomError


class SpecModel(BaseModel):
    """A frozen value of a spec: unknown keys are refused, numbers must be finite."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, protected_namespaces=()
    )


Flag = Annotated[bool, Strict()]
Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict()]

Seed = Annotated[Whole, Field(ge=0, lt=2**31)]
PositiveInt = Annotated[Whole, Field(ge=1)]
NonNegativeInt = Annotated[Whole, Field(ge=0)]
PositiveFloat = Annotated[Number, Field(gt=0)]
NonNegativeFloat = Annotated[Number, Field(ge=0)]


def broken_rule(rule: str, at: str, *others: str, got: object = None, remedy: str | None = None) -> PydanticCustomError:
    """Makes the error of a rule between fields, to be raised in a validator.

    Args:
        rule: what must hold, in plain words.
        at: dotted name of the field to point at, from the validating type.
        others: dotted names of the other fields that the rule reads.
        got: the value found at `at`.
        remedy: the way out.
    """
    context = {"rule": rule, "at": at, "fields": (at, *others), "got": got, "remedy": remedy}
    return PydanticCustomError("rule", "{rule}", context)
