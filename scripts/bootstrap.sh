#!/bin/sh
# Makes .venv with everything this project needs, and does nothing (quickly) when nothing has changed.
#
#   scripts/bootstrap.sh                         the Python side only
#   scripts/bootstrap.sh --system-packages       also the Debian packages the tests need
#   scripts/bootstrap.sh --only-system-packages  only those
#
# PYTHON=/path/to/python3 chooses the interpreter. Exit codes: 0 done, 1 something is missing (the text says what to do).
set -eu

cd "$(dirname "$0")/.."
root=$(pwd -P)
venv=$root/.venv
stamp=$venv/.sysext-stamp

say() { printf '%s\n' "$*"; }
die() {
    printf 'bootstrap: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '  %s\n' "$line" >&2; done
    exit 1
}

want_python=yes
want_system=no
for argument in "$@"; do
    case $argument in
        --system-packages) want_system=yes ;;
        --only-system-packages) want_system=yes want_python=no ;;
        -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) die "unknown argument $argument" "known: --system-packages, --only-system-packages" ;;
    esac
done

is_debian() { [ -r /etc/debian_version ] && command -v dpkg-query >/dev/null 2>&1; }
is_root() { [ "$(id -u)" -eq 0 ]; }

# apt-get install, without starting the services that come along: an sshd of the system's own is not what we are after.
apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    policy=/usr/sbin/policy-rc.d
    made_policy=no
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && made_policy=yes
    fi
    status=0
    # Without recommended packages: they triple the download.
    # The first try may only fail for want of package lists; the second says why.
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1 || {
        apt-get update -qq || status=$?
        [ "$status" -ne 0 ] || apt-get install -y -qq --no-install-recommends "$@" >/dev/null || status=$?
    }
    [ "$made_policy" = no ] || rm -f "$policy"
    return "$status"
}

system_packages() {
    if ! is_debian; then
        say "bootstrap: not a Debian: tests whose programs are missing will be skipped (see scripts/apt-packages.txt)"
        return 0
    fi
    wanted=$(sed 's/#.*//' scripts/apt-packages.txt)
    # shellcheck disable=SC2086 # a list of words
    present=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $wanted 2>/dev/null | sed -n 's/^installed //p')
    missing=
    for package in $wanted; do
        printf '%s\n' "$present" | grep -qx "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if ! is_root; then
        say "bootstrap: these Debian packages are missing; the tests that need them will be skipped:"
        say "   $missing"
        say "  to install them: sudo scripts/bootstrap.sh --only-system-packages"
        return 0
    fi
    say "bootstrap: installing$missing"
    # shellcheck disable=SC2086 # a list of words
    if ! apt_install $missing; then
        say "bootstrap: not all of them could be installed; the tests that need them will be skipped" >&2
    fi
}

fit() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        fit "$PYTHON" || die "PYTHON=$PYTHON is not a Python 3.11 or newer" "unset PYTHON, or name another one"
        command -v "$PYTHON"
        return
    fi
    for name in python3.13 python3.12 python3.11 python3.14 python3; do
        if command -v "$name" >/dev/null 2>&1 && fit "$name"; then
            command -v "$name"
            return
        fi
    done
    found=$(command -v python3 >/dev/null 2>&1 && python3 --version 2>&1 || echo none)
    die "Python 3.11 or newer is needed; found: $found" \
        "Debian 12 or newer: apt-get install python3 python3-venv" "macOS: brew install python@3.13" \
        "or PYTHON=/path/to/python3 make setup"
}

# What the environment was made from: if any of it changes, it is brought up to date.
fingerprint() {
    printf '%s %s ' "$root" "$1"
    cat pyproject.toml constraints.txt scripts/bootstrap.sh | cksum
}

make_venv() {
    mkdir -p "$root/build"
    "$1" -m venv --clear "$venv" >"$root/build/venv.log" 2>&1 && [ -x "$venv/bin/python" ] &&
        "$venv/bin/python" -m pip --version >/dev/null 2>&1
}

python_side() {
    version=
    [ ! -x "$venv/bin/python" ] || version=$("$venv/bin/python" -V 2>&1) || version=
    if [ -n "$version" ] && [ -z "${PYTHON:-}" ] && [ -f "$stamp" ] &&
        [ "$(cat "$stamp")" = "$(fingerprint "$version")" ]; then
        return 0
    fi
    python=$(find_python) || exit 1
    if [ -z "$version" ] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1 || ! fit "$venv/bin/python" ||
        { [ -n "${PYTHON:-}" ] && [ "$version" != "$("$python" -V 2>&1)" ]; }; then
        say "bootstrap: making .venv with $python ($("$python" -V 2>&1))"
        if ! make_venv "$python"; then
            # Debian ships venv apart from Python.
            package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
            if is_debian && is_root; then
                say "bootstrap: installing $package"
                apt_install "$package" || apt_install python3-venv || true
            fi
            if ! make_venv "$python"; then
                rm -rf "$venv"
                die "$python cannot make a virtual environment (see build/venv.log)" \
                    "Debian: apt-get install $package" "then: make setup"
            fi
        fi
        rm -f "$root/build/venv.log"
        version=$("$venv/bin/python" -V 2>&1)
    fi
    rm -f "$stamp"
    say "bootstrap: installing the project and its tools (pinned in constraints.txt)"
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check --no-input --retries 5 \
        --constraint constraints.txt --editable '.[dev,simulator,parallel]' ||
        die "pip could not install the project" "check the network and the package index, then: make setup"
    fingerprint "$version" >"$stamp"
}

[ "$want_system" = no ] || system_packages
[ "$want_python" = no ] || python_side
