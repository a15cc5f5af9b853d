"""What a process is set up with before it trains."""

import resource
import sys

import pytest
import torch

from sweeper.tasks.numerics import keep_freed_memory


def page_faults(numbers: int) -> int:
    """Returns how many pages were fetched from the system while a tensor was filled and let go."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(numbers)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone has the setting")
def test_memory_that_a_step_frees_serves_the_next_one() -> None:
    keep_freed_memory()
    assert min(page_faults(25_000_000) for _ in range(5)) < 100  # 24,400 pages each time if they were given back
