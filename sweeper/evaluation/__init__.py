"""What is measured on held-out outputs."""

from sweeper.evaluation.choice import TARGETS, VALIDATION_RSA, items_of, set_id
from sweeper.evaluation.items import SEMANTICS, Item, OutputKey, RsaItem, column_of, distinct, records_of

__all__ = [
    "SEMANTICS",
    "TARGETS",
    "VALIDATION_RSA",
    "Item",
    "OutputKey",
    "RsaItem",
    "column_of",
    "distinct",
    "items_of",
    "records_of",
    "set_id",
]
