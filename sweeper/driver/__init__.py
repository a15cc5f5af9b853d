"""The driver: runs a sweep from plan to report. The only writer of the ledger, the only one who tracks."""

from sweeper.driver.run import Outcome, Progress, Run, Searcher, Status
from sweeper.driver.session import run_sweep

__all__ = ["Outcome", "Progress", "Run", "Searcher", "Status", "run_sweep"]
