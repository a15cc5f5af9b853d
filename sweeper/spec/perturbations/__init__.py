"""The perturbation kinds. A kind is one class, fields and effect together, in one of the modules imported here."""

import operator
from collections.abc import Mapping
from functools import reduce
from typing import TYPE_CHECKING, Annotated, TypeAlias

from pydantic import Field

from sweeper.spec.perturbations import images as images  # so: importing a module makes its kinds known
from sweeper.spec.perturbations import learning as learning
from sweeper.spec.perturbations import targets as targets
from sweeper.spec.perturbations.base import Perturbation

__all__ = ["KINDS", "AnyPerturbation", "Perturbation", "kind_name"]


def kind_name(perturbation: type[Perturbation]) -> str:
    """Returns the name that a spec uses for a kind."""
    return str(perturbation.model_fields["kind"].annotation.__args__[0])  # type: ignore[union-attr]


KINDS: Mapping[str, type[Perturbation]] = {kind_name(kind): kind for kind in Perturbation.__subclasses__()}
"""Every kind by its name: all direct subclasses of `Perturbation`."""

if TYPE_CHECKING:
    AnyPerturbation: TypeAlias = Perturbation
else:
    AnyPerturbation = Annotated[reduce(operator.or_, KINDS.values()), Field(discriminator="kind")]
