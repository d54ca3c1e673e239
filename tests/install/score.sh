#!/bin/sh
# Scores the unit and its drop-ins by `systemd-analyze security`, offline: lower is safer. Fails above the limit.
# Written for systemd 252, whose weights the limits are from; another version is told, and judged by the same limits.
set -eu
cd "$(dirname -- "$0")/../../systemd"

failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

score() { # NAME LIMIT FILE...: the files are read as one unit, drop-ins after it, as systemd does
	name=$1 limit=$2
	shift 2
	cat "$@" >"$work/vedette.service"
	found=$(systemd-analyze security --offline=true --no-pager "$work/vedette.service" |
		sed -n 's/.*exposure level for .*: \([0-9.]*\) .*/\1/p')
	if [ -n "$found" ] && awk "BEGIN { exit !($found <= $limit) }"; then verdict=ok; else verdict=FAILED; failed=1; fi
	echo "   $verdict: $name scores ${found:-nothing} (limit $limit)"
}

score 'vedette.service' 1.1 vedette.service
score 'with camera-network.conf' 1.0 vedette.service drop-ins/camera-network.conf
score 'with gpu.conf' 1.3 vedette.service drop-ins/gpu.conf
score 'with v4l2.conf' 1.3 vedette.service drop-ins/v4l2.conf
exit $failed
