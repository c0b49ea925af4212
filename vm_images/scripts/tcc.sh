#!/bin/bash
# Grants for what runs in an SSH session, written into the system's and the user's TCC.db. Only works while SIP is off.
# A row without a code requirement may be ignored once SIP is on again, so each gets the client's own.
set -euo pipefail

: "${SYSEXT_USER:?}" "${SYSEXT_MACOS:?}"

csrutil status | grep -q disabled || { echo "SIP is on: TCC.db cannot be written" >&2; exit 1; }

system_db="/Library/Application Support/com.apple.TCC/TCC.db"
user_db="/Users/$SYSEXT_USER/Library/Application Support/com.apple.TCC/TCC.db"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

requirement() { # of the program at $1, as hexadecimal
    local text
    text=$(codesign -d -r- "$1" 2>/dev/null | sed -n 's/^\(# \)\{0,1\}designated => //p')
    [ -n "$text" ] || { echo "no code requirement for $1" >&2; exit 1; }
    printf '%s\n' "$text" | csreq -r- -b "$scratch/requirement"
    xxd -p "$scratch/requirement" | tr -d '\n'
}

grant() { # database, service, client, client type (0 bundle id, 1 path), requirement, object or empty
    local object="'UNUSED'" object_type=NULL
    [ -z "$6" ] || { object="'$6'" object_type=0; }
    # auth_value 2: allowed; auth_reason 4: set by the system.
    sudo sqlite3 "$1" "INSERT OR REPLACE INTO access
        (service, client, client_type, auth_value, auth_reason, auth_version, csreq,
         indirect_object_identifier_type, indirect_object_identifier, flags)
        VALUES ('$2', '$3', $4, 2, 4, 1, X'$5', $object_type, $object, 0);"
}

grant_all() { # client, client type, program
    local code database
    code=$(requirement "$3")
    for database in "$system_db" "$user_db"; do
        grant "$database" kTCCServiceAppleEvents "$1" "$2" "$code" com.apple.systemevents
    done
    for service in kTCCServiceAccessibility kTCCServicePostEvent kTCCServiceScreenCapture; do
        grant "$system_db" "$service" "$1" "$2" "$code" ""
    done
}

grant_all /usr/libexec/sshd-keygen-wrapper 1 /usr/libexec/sshd-keygen-wrapper
grant_all /usr/bin/osascript 1 /usr/bin/osascript
if [ "$SYSEXT_MACOS" -ge 26 ]; then # there the session's own process is the one held responsible
    grant_all com.apple.sshd-session 0 /usr/libexec/sshd-session
fi

# 15 and later ask at the first capture all the same, unless an approval with a date far ahead is on file.
approvals="/Users/$SYSEXT_USER/Library/Group Containers/group.com.apple.replayd/ScreenCaptureApprovals.plist"
mkdir -p "$(dirname "$approvals")"
for client in /usr/libexec/sshd-keygen-wrapper /usr/bin/osascript; do
    /usr/bin/defaults write "$approvals" "$client" -date "3024-01-01 00:00:00 +0000"
done
sudo killall tccd 2>/dev/null || true
