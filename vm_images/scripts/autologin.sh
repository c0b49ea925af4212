#!/bin/bash
# The console user is logged in after every boot. Needs SYSEXT_USER and SYSEXT_PASSWORD in the environment.
set -euo pipefail

: "${SYSEXT_USER:?}" "${SYSEXT_PASSWORD:?}"

if fdesetup status | grep -q 'FileVault is On'; then
    echo "FileVault is on: no automatic login is possible. Start from an image without it." >&2
    exit 1
fi

umask 077
printf '%s\n' "$SYSEXT_PASSWORD" | bash /private/tmp/kcpassword.sh | sudo tee /etc/kcpassword >/dev/null
sudo chown root:wheel /etc/kcpassword
sudo chmod 600 /etc/kcpassword
sudo defaults write /Library/Preferences/com.apple.loginwindow autoLoginUser "$SYSEXT_USER"
# No lock after login; the password goes by stdin.
printf '%s\n' "$SYSEXT_PASSWORD" | sudo sysadminctl -screenLock off -password - || true
