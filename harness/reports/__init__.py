"""Reports: readers of the event stream and of `result.json`, nothing else."""

from harness.reports.allure import AllureReader, finish_test, write_extras
from harness.reports.console import ConsoleReader, Follower, LiveFile
from harness.reports.result import RESULT_NAME, CaseResult, final_attempts, read_results
from harness.reports.summary import SIMULATED_NOTE, Summary, summarise, write_github_summary

__all__ = [
    "RESULT_NAME",
    "SIMULATED_NOTE",
    "AllureReader",
    "CaseResult",
    "ConsoleReader",
    "Follower",
    "LiveFile",
    "Summary",
    "final_attempts",
    "finish_test",
    "read_results",
    "summarise",
    "write_extras",
    "write_github_summary",
]
