"""Where a verb is run: on this machine, in the cluster of an address, or on a head that takes jobs."""

import os
from typing import TYPE_CHECKING

from sweeper.errors import ClusterError, Problem

if TYPE_CHECKING:
    from sweeper.spec.schema import SweepSpec


def cluster_address(asked: str | None, spec: "SweepSpec | None") -> str | None:
    """Returns the Ray address that holds: `--address`, `resources.address` of the spec, RAY_ADDRESS; None for none.

    Raises:
        ClusterError: it is one of Ray's client, under which driver and ledger would be on two machines.
    """
    address = asked or (spec.resources.address if spec is not None else None) or os.environ.get("RAY_ADDRESS") or None
    if address is not None and address.startswith("ray://"):
        problem = Problem(
            where="address",
            rule="the driver runs inside the cluster",
            got=address,
            remedy="Submit it with --address http://HEAD:8265, or run it on the head with --address auto",
        )
        raise ClusterError(problem)
    return address


def is_head(address: str | None) -> bool:
    """Tells whether an address is that of a head that takes jobs, as seen from any machine."""
    return address is not None and address.startswith(("http://", "https://"))
