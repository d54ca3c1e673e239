#!/bin/sh
# Builds a Debian 12 root folder once and prints its path; a second call only looks.
#
# usage: root.sh machine   boots a systemd, holds what the package depends on (the machine has no network)
#        root.sh bare      what a fresh minimal installation has: for clean-root.sh
set -eu

cache=${XDG_CACHE_HOME:-$HOME/.cache}/vedette/roots
case ${1-} in
machine)
	packages=systemd,systemd-sysv,dbus,libpam-systemd,procps,iproute2,ca-certificates,libstdc++6
	packages=$packages,glib-networking,gstreamer1.0-plugins-base,gstreamer1.0-plugins-good,gstreamer1.0-plugins-bad
	packages=$packages,gstreamer1.0-libav ;;
bare) packages=ca-certificates ;;
*) echo "usage: root.sh machine|bare" >&2; exit 2 ;;
esac

root=$cache/bookworm-$1
# The list it was built from stands beside it: another list is another root.
if [ -d "$root" ] && [ "$(cat "$root.packages" 2>/dev/null)" = "$packages" ]; then
	printf '%s\n' "$root"
	exit 0
fi

command -v mmdebstrap >/dev/null || { echo "root.sh: mmdebstrap is missing" >&2; exit 69; }
echo "root.sh: building the Debian 12 root '$1' (once, minutes)" >&2
mkdir -p "$cache"
rm -rf --one-file-system "$root" "$root.new" "$root.packages"
# shellcheck disable=SC2016  # $1 is mmdebstrap's
mmdebstrap --quiet --variant=minbase --include="$packages" \
	--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
	--customize-hook='echo vedette-test >"$1/etc/hostname"' \
	--customize-hook='mkdir -p "$1/var/log/journal"' \
	bookworm "$root.new" >"$cache/mmdebstrap.log" 2>&1 || { tail -n 20 "$cache/mmdebstrap.log" >&2; exit 69; }
mv "$root.new" "$root"
printf '%s' "$packages" >"$root.packages"
printf '%s\n' "$root"
