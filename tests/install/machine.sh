# shellcheck shell=sh
# A throw-away Debian machine with a real systemd as PID 1, in a container, on a host whose own PID 1 may be anything.
# Sourced by smoke.sh. It must not know what is installed into the machine.
#
# Needs root, systemd-container and a mounted cgroup hierarchy (v2, or v1 with the hybrid systemd hierarchy). Neither
# machined nor dbus on the host takes part. Its network is a loopback of its own; it reaches nothing else.
#
# machine_up ROOT   boots an overlay of the folder ROOT: nothing is copied, nothing is kept
# machine_run CMD…  runs a command in it, with its exit code
# machine_put FILE  writes standard input to that file in it
# machine_down      powers it off and takes everything away: mounts, cgroups, folders

# The cgroup hierarchies that systemd uses on this host.
machine_cgroups() {
	for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
		[ ! -e "$hierarchy/cgroup.procs" ] || printf '%s\n' "$hierarchy"
	done
}

machine_run() {
	nsenter -t "$machine_leader" -a env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb LANG=C.UTF-8 \
		sh -c 'cd / && exec "$@"' sh "$@"
}

# shellcheck disable=SC2016  # expanded inside
machine_put() { nsenter -t "$machine_leader" -a sh -c 'cat >"$1"' sh "$1"; }

# PID 1 of the machine as the host counts: nspawn has short-lived children too.
machine_find_leader() {
	for child in $(pgrep -P "$machine_nspawn"); do
		if [ "$(cat "/proc/$child/comm" 2>/dev/null)" = systemd ] &&
			[ "$(awk '/^NSpid/ { print $NF }' "/proc/$child/status" 2>/dev/null)" = 1 ]; then
			machine_leader=$child
			return 0
		fi
	done
	return 1
}

machine_is_up() {
	case $(machine_run systemctl is-system-running 2>/dev/null) in running | degraded) return 0 ;; esac
	return 1
}

# machine_wait SECONDS CMD…: until it succeeds, or fails after that many seconds.
machine_wait() {
	deadline=$(($(date +%s) + $1))
	shift
	until "$@"; do
		[ "$(date +%s)" -lt "$deadline" ] || return 1
		sleep 0.2
	done
}

machine_up() {
	machine_name=vedette-test-$$
	machine_dir=$(mktemp -d -t "$machine_name.XXXXXX")
	machine_leader=
	mkdir "$machine_dir/upper" "$machine_dir/work" "$machine_dir/root"
	mount -t overlay overlay -o "lowerdir=$1,upperdir=$machine_dir/upper,workdir=$machine_dir/work" "$machine_dir/root" || return 1
	: >"$machine_dir/root/etc/machine-id"
	(
		# Its own cgroup: without one all machines share /payload at the top and leave it behind. 0 is the writer.
		for hierarchy in $(machine_cgroups); do
			mkdir -p "$hierarchy/$machine_name" && echo 0 >"$hierarchy/$machine_name/cgroup.procs"
		done
		exec setsid systemd-nspawn -q -D "$machine_dir/root" -M "$machine_name" --boot --register=no --keep-unit \
			--private-network --console=read-only --link-journal=no -- systemd.show_status=0 \
			</dev/null >"$machine_dir/console" 2>&1
	) &
	machine_nspawn=$!
	if machine_wait 60 machine_find_leader && machine_wait 60 machine_is_up; then return 0; fi
	echo "the machine did not come up:" >&2
	tail -n 20 "$machine_dir/console" >&2
	return 1
}

machine_is_gone() { ! kill -0 "$machine_nspawn" 2>/dev/null; }

machine_down() {
	[ -n "${machine_dir-}" ] || return 0
	if [ -n "${machine_nspawn-}" ] && ! machine_is_gone; then
		{ [ -n "$machine_leader" ] && machine_run systemctl poweroff >/dev/null 2>&1; } || kill "$machine_nspawn" || true
		machine_wait 20 machine_is_gone || kill -9 "$machine_nspawn" || true
		wait "$machine_nspawn" 2>/dev/null || true
	fi
	umount "$machine_dir/root" 2>/dev/null || true
	rm -rf --one-file-system "$machine_dir"
	for hierarchy in $(machine_cgroups); do
		[ ! -d "$hierarchy/$machine_name" ] ||
			find "$hierarchy/$machine_name" -depth -type d -exec rmdir {} + 2>/dev/null || true
	done
	machine_dir=
}

# What a machine that is down has left on the host; nothing, if all is well.
machine_remains() {
	grep -F "$machine_name" /proc/self/mounts || true
	for hierarchy in $(machine_cgroups); do
		[ ! -d "$hierarchy/$machine_name" ] || printf '%s\n' "$hierarchy/$machine_name"
	done
}
