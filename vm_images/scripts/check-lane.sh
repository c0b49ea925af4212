#!/bin/bash
# Is this what the lane promises? Every answer is printed; one wrong answer fails the build.
set -euo pipefail

: "${SYSEXT_LANE:?}" "${SYSEXT_MACOS:?}" "${SYSEXT_USER:?}" "${SYSEXT_DISPLAY:?}"

wrong=0
expect() { # what, wanted, seen
    if [ "$2" = "$3" ]; then
        printf 'ok     %s: %s\n' "$1" "$3"
    else
        printf 'WRONG  %s: wanted %s, seen %s\n' "$1" "$2" "$3" >&2
        wrong=1
    fi
}

expect "macOS" "$SYSEXT_MACOS" "$(sw_vers -productVersion | cut -d. -f1)"
expect "SIP" enabled "$(csrutil status | grep -oE -m1 'enabled|disabled')"
expect "FileVault" Off "$(fdesetup status | grep -oE -m1 'On|Off')"
expect "console user" "$SYSEXT_USER" "$(stat -f %Su /dev/console)"
expect "Finder runs" yes "$(pgrep -qx Finder && echo yes || echo no)"
expect "extensions" "0 extension(s)" "$(systemextensionsctl list | head -n 1)"
expect "language" en "$(defaults read -g AppleLanguages | tr -d '(), \n"' | cut -c1-2)"

# The guest chooses its mode, --display is only a hint to it; the harness measures the scale again after every login.
size=$(system_profiler SPDisplaysDataType 2>/dev/null | sed -n 's/.*Resolution: \([0-9]*\) x \([0-9]*\).*/\1x\2px/p' | head -n 1)
expect "display" "${SYSEXT_DISPLAY%px}px" "${size:-unknown}"

if [ "$SYSEXT_LANE" = instrumented ]; then
    # By using it: only an answer from inside another program's window proves the grant. Never asked in the pristine
    # lane, where the question itself would raise a prompt.
    granted=no
    if osascript -e 'with timeout of 10 seconds' \
        -e 'tell application "System Events" to get UI elements of process "Finder"' \
        -e 'end timeout' >/dev/null 2>&1; then
        granted=yes
    fi
    expect "Accessibility for SSH sessions" yes "$granted"
fi
exit "$wrong"
