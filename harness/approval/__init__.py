"""The walk through the prompts, judged by the oracle only."""

from harness.approval.approver import Approver
from harness.approval.channels import Channel, VncChannel
from harness.approval.records import Approval, Step

__all__ = ["Approval", "Approver", "Channel", "Step", "VncChannel"]
