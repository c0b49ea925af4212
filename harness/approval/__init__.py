"""The walk through the prompts, judged by the oracle only."""

from harness.approval.approver import Approval, Approver

__all__ = ["Approval", "Approver"]
