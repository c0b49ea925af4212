"""Scenarios run on disposable Macs: see the options `--sysext-…` in `pytest --help`."""
