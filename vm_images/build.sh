#!/usr/bin/env bash
# Builds one lane for one macOS with Packer on an Apple-silicon host:  vm_images/build.sh pristine|instrumented 13|14|15|26
# The guest's password comes from PKR_VAR_ssh_password (default: admin, as the vanilla images have it).
# Existing images are never overwritten: `tart clone` would do it without a word.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
export PKR_VAR_ssh_password=${PKR_VAR_ssh_password:-admin} TART_NO_AUTO_PRUNE=1

usage() {
    echo "usage: build.sh pristine|instrumented 13|14|15|26" >&2
    exit 2
}
[[ $# -eq 2 ]] || usage
lane=$1 macos=$2
versions=versions/macos-$macos.pkrvars.hcl
[[ -r $versions ]] || usage
for tool in tart packer; do
    command -v "$tool" >/dev/null || { echo "build.sh: $tool is needed (Apple silicon, macOS 13 or newer)" >&2; exit 1; }
done

# Not grep -q: it would end early, and under pipefail an existing image could then look absent.
exists() { tart list --source local --quiet | grep -x -- "$1" >/dev/null; }
free() { ! exists "$1" || { echo "build.sh: $1 exists; tart delete $1 first" >&2; exit 1; }; }
build() { # template, then -var arguments
    local template=$1
    shift
    packer init "$template" && packer validate -var-file "$versions" "$@" "$template" &&
        packer build -var-file "$versions" "$@" "$template"
}

pristine=sysext-$macos-pristine
case $lane in
    pristine)
        free "$pristine"
        build pristine -var "vm_name=$pristine"
        ;;
    instrumented)
        target=sysext-$macos-instrumented
        exists "$pristine" || { echo "build.sh: build the pristine lane first" >&2; exit 1; }
        free "$target"
        for stage in off granted on; do free "$target-$stage"; done
        trap 'for stage in off granted on; do tart delete "$target-$stage" 2>/dev/null || true; done' EXIT
        build sip -var sip=disable -var "vm_base_name=$pristine" -var "vm_name=$target-off"
        build instrumented -var phase=grant -var "vm_base_name=$target-off" -var "vm_name=$target-granted"
        build sip -var sip=enable -var "vm_base_name=$target-granted" -var "vm_name=$target-on"
        build instrumented -var phase=check -var "vm_base_name=$target-on" -var "vm_name=$target"
        ;;
    *) usage ;;
esac
