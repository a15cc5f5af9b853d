"""Cut a transformer tower where its adapters begin: what lies before is a constant of the input (exact, in fp32).

A block is split at its one point of adaptation: `enter` computes attention up to the concatenated heads, `leave` the
output projection, the residual sums and the MLP. In the last block only the row that is read out is computed.

Shapes: B inputs, T tokens, R rows that are computed (T or 1), W width, H heads, E joint space.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from open_clip.transformer import QuickGELU
from sweeper_models.activation import quick_gelu
from sweeper_models.adapter import Cut
from torch import Tensor, nn
from torch.nn import functional

Prefix = dict[str, Tensor]
"""float32 tensors [B, ...] by name: `residual` and `context` [B, R, W], `residual` alone, or `embedding` [B, E]."""

Rows = Tensor | int | None
"""The row that is read out: one index for all inputs, int64 [B], or None for all rows."""

Finish = Callable[[Tensor], Tensor]
"""From the read-out row [B, W] to the embedding [B, E]: last norm and projection."""


def run_prefix(
    blocks: Sequence[nn.Module], tokens: Tensor, *, cut: Cut, finish: Finish, row: Tensor | int, mask: Tensor | None
) -> Prefix:
    """Compute what no adapter can change, from float32 [B, T, W] after the embedding layer."""
    x = _last(run_blocks(blocks, tokens, range(cut.block), row=row, mask=mask), tokens)
    return {"embedding": finish(x[:, 0])} if cut.at == "embedding" else split(blocks, x, cut=cut, row=row, mask=mask)


def run_suffix(
    blocks: Sequence[nn.Module],
    prefix: Mapping[str, Tensor],
    *,
    cut: Cut,
    finish: Finish,
    row: Tensor | int,
    mask: Tensor | None,
) -> Tensor:
    """Compute the embedding, float32 [B, E], from a prefix and the adapted part of the tower."""
    if cut.at == "embedding":
        return prefix["embedding"]
    x = _last(resume(blocks, prefix, cut=cut, row=row, mask=mask), prefix["residual"])
    return finish(x[:, 0])


def run_blocks(
    blocks: Sequence[nn.Module], x: Tensor, indices: range, *, row: Tensor | int, mask: Tensor | None
) -> Iterator[Tensor]:
    """Yield the residual stream behind each of some blocks, [B, T, W]; [B, 1, W] behind the tower's last one."""
    last = len(blocks) - 1
    for index in indices:
        x = leave(blocks[index], *enter(blocks[index], x, row if index == last else None, mask))
        yield x


def split(blocks: Sequence[nn.Module], x: Tensor, *, cut: Cut, row: Tensor | int, mask: Tensor | None) -> Prefix:
    """Compute what the first adapted block needs, from the residual stream before it."""
    block = blocks[cut.block]
    residual, context = enter(block, x, row if cut.block == len(blocks) - 1 else None, mask)
    if cut.at == "attention":
        return {"context": context.contiguous(), "residual": residual.contiguous()}
    return {"residual": add_attention(block, residual, context)}


def resume(
    blocks: Sequence[nn.Module], prefix: Mapping[str, Tensor], *, cut: Cut, row: Tensor | int, mask: Tensor | None
) -> Iterator[Tensor]:
    """Yield the residual stream behind the first adapted block and each later one, from what `split` returned."""
    x = prefix["residual"]
    if cut.at == "attention":
        x = add_attention(blocks[cut.block], x, prefix["context"])
    x = add_mlp(blocks[cut.block], x)
    yield x
    yield from run_blocks(blocks, x, range(cut.block + 1, cut.num_blocks), row=row, mask=mask)


def _last(stream: Iterator[Tensor], otherwise: Tensor) -> Tensor:
    return functools.reduce(lambda _, later: later, stream, otherwise)


def enter(block: nn.Module, x: Tensor, row: Rows, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Compute residual input and attention context of a block, both [B, R, W], from [B, T, W]."""
    normed = block.ln_1(x)
    return pick(x, row), attend(block.attn, normed, row, mask)


def leave(block: nn.Module, residual: Tensor, context: Tensor) -> Tensor:
    """Finish a block, [B, R, W]."""
    return add_mlp(block, add_attention(block, residual, context))


def add_attention(block: nn.Module, residual: Tensor, context: Tensor) -> Tensor:
    """Add the projected attention context to the residual stream, [B, R, W]."""
    return residual + block.attn.out_proj(context)


def add_mlp(block: nn.Module, x: Tensor) -> Tensor:
    """Add the MLP of the normed residual stream to it, [B, R, W]."""
    mlp = block.mlp
    activation = quick_gelu if isinstance(mlp.gelu, QuickGELU) else mlp.gelu
    return x + mlp.c_proj(mlp.ln(activation(mlp.c_fc(block.ln_2(x)))))


def attend(attn: nn.Module, normed: Tensor, row: Rows, mask: Tensor | None) -> Tensor:
    """Compute the concatenated heads, [B, R, W] from [B, T, W], with queries of the rows asked for."""
    if row is not None:
        return attend_from_one(attn, normed, row, mask)
    qkv = functional.linear(normed, attn.in_proj_weight, attn.in_proj_bias).chunk(3, dim=-1)
    heads = (t.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for t in qkv)
    context = functional.scaled_dot_product_attention(*heads, attn_mask=mask)
    return context.transpose(1, 2).flatten(2)


def attend_from_one(attn: nn.Module, normed: Tensor, row: Tensor | int, mask: Tensor | None) -> Tensor:
    """Compute the concatenated heads of one query each, [B, 1, W], without keys and values of any token.

    With one query q per head, q . (K x_t) = (K^T q) . x_t and sum_t a_t V x_t = V (sum_t a_t x_t): the projections act
    once per head and input instead of once per token, W / H times less work. The bias of the keys shifts all scores of
    a softmax alike and drops out; the weights a_t sum to 1, so the bias of the values is added once. Plain products
    are also deterministic on every device, where the backward pass of fused attention need not be.
    """
    query_weight, key_weight, value_weight = attn.in_proj_weight.chunk(3)
    query_bias, _, value_bias = attn.in_proj_bias.chunk(3)
    query = functional.linear(pick(normed, row)[:, 0], query_weight, query_bias).unflatten(-1, (attn.num_heads, -1))
    key_weight, value_weight = (w.unflatten(0, (attn.num_heads, -1)) for w in (key_weight, value_weight))  # [H, W/H, W]
    probe = torch.einsum("bhd,hdw->bhw", query * query.shape[-1] ** -0.5, key_weight)
    scores = probe @ normed.mT  # [B, H, T]
    if mask is not None:
        scores = scores + mask[row].unsqueeze(-2)  # [1, T] or [B, 1, T]
    mixed = scores.softmax(dim=-1) @ normed  # [B, H, W]
    context = torch.einsum("bhw,hdw->bhd", mixed, value_weight)
    return (context.flatten(1) + value_bias)[:, None]


def pick(x: Tensor, row: Rows) -> Tensor:
    """Select the rows asked for: [B, T, W] to [B, R, W]."""
    if row is None:
        return x
    if isinstance(row, int):
        return x[:, row : row + 1]
    return x[torch.arange(x.shape[0], device=x.device), row][:, None]
