"""Torch-free fields and regimes of the model variants: one module a variant, one line here."""

from sweeper.spec.variants.clip_hba_behavior import ClipHbaBehavior

AnyModel = ClipHbaBehavior
