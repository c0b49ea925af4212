#!/bin/bash
# Turns a password (stdin, one line) into the content of /etc/kcpassword (stdout): the bytes XORed with Apple's fixed
# key, ended by at least one zero byte and padded to a multiple of 12. It hides nothing; loginwindow wants it so.
set -euo pipefail
export LC_ALL=C

key=(0x7d 0x89 0x52 0x23 0xd2 0xbc 0xdd 0xea 0xa3 0xb9 0x1f)
IFS= read -r password || [ -n "$password" ]
length=${#password}
total=$(((length / 12 + 1) * 12))
for ((index = 0; index < total; index++)); do
    byte=0
    if ((index < length)); then
        printf -v byte '%d' "'${password:index:1}"
        byte=$((byte & 255))
    fi
    # shellcheck disable=SC2059 # the format is the byte
    printf "\\x$(printf '%02x' $((byte ^ key[index % 11])))"
done
