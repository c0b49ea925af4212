#!/bin/bash
# UI automation without a question each time. The tool asks for the password on a terminal: expect gives it, out of the
# environment, so that it is in no argument list.
set -euo pipefail

: "${SYSEXT_PASSWORD:?}"

/usr/bin/expect <<'SCRIPT'
log_user 0
set timeout 60
spawn automationmodetool enable-automationmode-without-authentication
expect {
    -nocase "password" { send -- "$env(SYSEXT_PASSWORD)\r"; exp_continue }
    timeout { puts stderr "automationmodetool did not end within 60 s"; exit 1 }
    eof
}
lassign [wait] pid spawn_id os_error status
exit $status
SCRIPT
