"""`sweeper doctor`: proves that a lab's network and data are the published ones."""

from sweeper.doctor.examination import examine
from sweeper.doctor.report import Report, Row, Unfinished, report_of

__all__ = ["Report", "Row", "Unfinished", "examine", "report_of"]
