"""Test a macOS system extension's approval end to end, on disposable Macs."""

__version__ = "0.1.0"
