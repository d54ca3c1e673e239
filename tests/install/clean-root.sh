#!/bin/sh
# What a stranger meets: runs a command in a fresh clone of this repository, in a Debian 12 that has nothing but the
# Rust toolchain. The network is the host's, so that registries are reached; all else is thrown away at the end.
#
# usage: clean-root.sh [COMMAND…]      default: ./dev demo --seconds 60 --jsonl
#        clean-root.sh bash -c 'time ./dev demo --seconds 10; time ./dev demo --seconds 10'   cold, then warm
#
# Only what is committed takes part. The test data stand beside the clone, read-only, if they stand beside this one.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
checkout=$(CDPATH='' cd -- "$here/../.." && pwd)
[ "$(id -u)" = 0 ] || { echo "clean-root.sh: needs root" >&2; exit 69; }
[ $# -gt 0 ] || set -- ./dev demo --seconds 60 --jsonl

root=$(sh "$here/root.sh" bare)
rust=$(rustc --print sysroot)
data=${VEDETTE_DATA:-$(dirname -- "$checkout")/shared/data}
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
mkdir "$work/upper" "$work/work" "$work/root"
git clone -q --depth 1 "file://$checkout" "$work/clone"

# Mounts and processes end with the namespaces. The host's certificates: a site may have its own authority.
# shellcheck disable=SC2016  # expanded inside
unshare --mount --pid --fork --kill-child sh -eu -c '
	root=$1 work=$2 rust=$3 data=$4
	shift 4
	new=$work/root
	mount -t overlay overlay -o "lowerdir=$root,upperdir=$work/upper,workdir=$work/work" "$new"
	mkdir -p "$new/opt/rust" "$new/run/certs" "$new/root/vedette" "$new/root/shared/data"
	mount -t proc proc "$new/proc"
	mount --rbind /dev "$new/dev"
	mount --bind -o ro "$rust" "$new/opt/rust"
	mount --bind -o ro /etc/ssl/certs "$new/run/certs"
	mount --bind "$work/clone" "$new/root/vedette"
	if [ -d "$data" ]; then mount --bind -o ro "$data" "$new/root/shared/data"; else rmdir "$new/root/shared/data"; fi
	cp /etc/resolv.conf "$new/etc/resolv.conf"
	exec chroot "$new" env -i HOME=/root TERM="${TERM:-dumb}" LANG=C.UTF-8 \
		PATH=/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		SSL_CERT_FILE=/run/certs/ca-certificates.crt CARGO_HTTP_CAINFO=/run/certs/ca-certificates.crt \
		PIP_CERT=/run/certs/ca-certificates.crt \
		sh -c "cd /root/vedette && exec \"\$@\"" sh "$@"
' sh "$root" "$work" "$rust" "$data" "$@"
