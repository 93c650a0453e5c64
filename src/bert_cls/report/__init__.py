"""The evaluation report: judged rows to ReportData to one HTML file."""

from bert_cls.report.content import report_data
from bert_cls.report.data import About, LinearBar, ReportData, Split
from bert_cls.report.judged import Judged, judge
from bert_cls.report.page import page
from bert_cls.report.stored import SEEN, seen_rows, stored_bar
from bert_cls.report.worst import Explain, Nearest

__all__ = [
    "SEEN",
    "About",
    "Explain",
    "Judged",
    "LinearBar",
    "Nearest",
    "ReportData",
    "Split",
    "judge",
    "page",
    "report_data",
    "seen_rows",
    "stored_bar",
]
