"""Torch-free fields and regimes of the model variants: one module a variant, one line here."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field

from sweeper.spec.variants.clip_hba_behavior import ClipHbaBehavior
from sweeper.spec.variants.clip_hba_meg import ClipHbaMeg

DEFAULT_VARIANT = "clip-hba-behavior"
VARIANT_TYPES: Mapping[str, type[ClipHbaBehavior] | type[ClipHbaMeg]] = {
    "clip-hba-behavior": ClipHbaBehavior,
    "clip-hba-meg": ClipHbaMeg,
}


def _named(value: Any) -> Any:
    """Gives a model section that names no variant the default one."""
    if isinstance(value, Mapping) and "variant" not in value:
        return {"variant": DEFAULT_VARIANT, **value}
    return value


if TYPE_CHECKING:
    AnyModel: TypeAlias = ClipHbaBehavior | ClipHbaMeg
else:
    AnyModel = Annotated[ClipHbaBehavior | ClipHbaMeg, Field(discriminator="variant"), BeforeValidator(_named)]
