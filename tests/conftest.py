"""For all tests: what a shell that starts them in the background leaves behind is undone."""

import signal

# `pytest … &` in a script: SIGINT comes ignored and would stay so in every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
