#!/usr/bin/env bash
# Installs the system packages that two tests need: a browser and a PostgreSQL server. Run by .ci/run; any other machine
# may do without, since those tests are then skipped. Does nothing where they are installed.
set -euo pipefail
packages=(chromium postgresql)
skip() {
    echo "system-packages: $1; without them the tests in tests/browser and tests/tracking/test_postgres.py are skipped"
    exit 0
}

missing=()
for package in "${packages[@]}"; do
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    echo "system-packages: ${packages[*]} are installed"
    exit 0
fi
command -v apt-get >/dev/null && command -v dpkg-query >/dev/null || skip "not Debian, so install ${packages[*]} by hand"
[ "$(id -u)" -eq 0 ] || skip "not root; run as root: apt-get install ${missing[*]}"

echo "system-packages: installs ${missing[*]} (at most 500 MB; a minute)"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
apt=(apt-get --quiet=2 -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o DPkg::Lock::Timeout=120)
if ! { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "${missing[@]}"; } </dev/null >"$log" 2>&1; then
    tail -n 5 "$log"
    skip "apt-get could not install ${missing[*]}"
fi
echo "system-packages: done"
