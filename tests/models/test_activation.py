"""QuickGELU from fewer tensors: every bit of the plain formula and of its gradient."""

import pytest
import torch
from open_clip.transformer import QuickGELU
from sweeper_models.activation import quick_gelu
from torch import Tensor


def both(x: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Returns value and gradient of our form and of open_clip's."""
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).to(x.dtype)

    def measured(function) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
        asked = x.clone().requires_grad_()
        value = function(asked)
        (gradient,) = torch.autograd.grad(value, asked, weight)
        return value.detach(), gradient

    return measured(quick_gelu), measured(QuickGELU())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bits_are_those_of_the_plain_formula(dtype: torch.dtype) -> None:
    x = (8 * torch.randn(7, 33, 65, generator=torch.Generator().manual_seed(1))).to(dtype)
    ours, plain = both(x)
    assert torch.equal(ours[0], plain[0])
    assert torch.equal(ours[1], plain[1])


def test_without_gradients_the_bits_are_the_same_and_the_input_stays() -> None:
    x = torch.randn(5, 77, generator=torch.Generator().manual_seed(3))
    kept = x.clone()
    assert torch.equal(quick_gelu(x), QuickGELU()(x))
    assert torch.equal(x, kept)
    with torch.no_grad():
        assert torch.equal(quick_gelu(x.requires_grad_()), QuickGELU()(x))


def test_the_gradient_agrees_with_finite_differences() -> None:
    x = torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(4)).requires_grad_()
    assert torch.autograd.gradcheck(quick_gelu, x)
