#!/bin/sh
# Makes the HTML report from an Allure results folder with the npm package `allure`, pinned in scripts/allure_html/.
#   scripts/report.sh [results folder] [report folder]
set -eu

cd "$(dirname "$0")/.."
results=${1:-artifacts/allure}
report=${2:-artifacts/report}
tools=build/allure_html

if ! ls "$results"/*-result.json >/dev/null 2>&1; then
    printf 'report: no Allure results in %s\n  make scenarios (or pytest --alluredir %s) writes them\n' "$results" "$results" >&2
    exit 1
fi
if ! command -v npm >/dev/null 2>&1; then
    printf 'report: npm is needed to make the HTML; it was not found\n' >&2
    printf '  Debian: apt-get install npm; macOS: brew install node. The results in %s are complete without it.\n' "$results" >&2
    exit 1
fi
mkdir -p "$tools"
if ! cmp -s scripts/allure_html/package-lock.json "$tools/.installed"; then
    rm -f "$tools/.installed"
    cp scripts/allure_html/package.json scripts/allure_html/package-lock.json "$tools/"
    npm ci --prefix "$tools" --no-audit --no-fund --loglevel=error ||
        { printf 'report: npm could not install the report generator; check the network and npm'"'"'s registry setting\n' >&2; exit 1; }
    cp "$tools/package-lock.json" "$tools/.installed"
fi
rm -rf "$report"
mkdir -p "$(dirname "$report")"
"$tools/node_modules/.bin/allure" awesome "$results" --config scripts/allure_html/allurerc.mjs --single-file --output "$report"
printf 'report: %s/index.html\n' "$report"
