#!/bin/sh
# Installs the package into a fresh Debian 12 with a real systemd and does to it what happens to a box: first start,
# crash, hang, a bad file, reload, upgrade, removal. Prints one line per check; exit 1 if one failed.
#
# usage: smoke.sh FILE.deb
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
package=${1:?usage: smoke.sh FILE.deb}
# shellcheck source=tests/install/machine.sh
. "$here/machine.sh"

[ "$(id -u)" = 0 ] || { echo "smoke.sh: needs root" >&2; exit 69; }
root=$(sh "$here/root.sh" machine)

failed=0
trap 'machine_down' EXIT
trap 'exit 130' INT
trap 'exit 141' PIPE    # `| head` must not leave a machine behind
trap 'exit 143' TERM

check() { # WHAT COMMAND…
	what=$1
	shift
	if "$@" >"$machine_dir/output" 2>&1; then
		echo "   ok: $what"
	else
		failed=$((failed + 1))
		echo "   FAILED: $what"
		sed 's/^/      | /' "$machine_dir/output"
	fi
}

property() { machine_run systemctl show vedette -p "$1" --value; }
is() { [ "$(property "$1")" = "$2" ] || { echo "$1 is $(property "$1"), not $2"; return 1; }; }
like() { # PROPERTY PATTERN
	# shellcheck disable=SC2254  # a pattern on purpose
	case $(property "$1") in $2) return 0 ;; esac
	echo "$1 is $(property "$1"), not like $2"
	return 1
}
is_active() { machine_run systemctl is-active --quiet vedette; }
journal_has() { machine_run journalctl -q -o cat -u vedette --no-pager | grep -e "$1"; }
journal_of() { machine_run journalctl -q -o cat -u vedette --no-pager "CAMERA=$1" | grep -e .; }
fails() { ! "$@"; }

main_pid() { property MainPID; }
new_pid() { [ "$(main_pid)" != 0 ] && [ "$(main_pid)" != "$pid" ] && is_active; }
same_pid() { [ "$(main_pid)" = "$pid" ] && is_active; }
runs_as_vedette() { [ "$(machine_run ps -o user= -p "$(main_pid)")" = vedette ]; }
has_no_capability() { [ -z "$(machine_run sed -n '/^Cap/s/.*:\t0*//p' "/proc/$(main_pid)/status" | tr -d '\n')" ]; }
maps_onnxruntime() { machine_run grep -m 1 /usr/lib/vedette/libonnxruntime.so "/proc/$(main_pid)/maps"; }
owned() { [ "$(machine_run stat -c '%U %a' "$1")" = "$2" ]; }
exists() { machine_run test -e "$1"; }
gone() { ! machine_run test -e "$1"; }
scores() { # LIMIT: the live unit, drop-ins of the machine included
	found=$(machine_run systemd-analyze security --no-pager vedette | sed -n 's/.*exposure level for .*: \([0-9.]*\) .*/\1/p')
	echo "scores $found"
	awk "BEGIN { exit !(\"$found\" != \"\" && $found <= $1) }"
}

# Nobody answers at this address: the node must be ready all the same.
camera() { printf '[camera.%s]\nurl = "rtsp://127.0.0.1:8554/%s"\n' "$1" "$1" | machine_put "/etc/vedette/conf.d/$1.toml"; }
bad_file() { printf '[camera.gate]\nulr = "rtsp://127.0.0.1:8554/gate"\n' | machine_put /etc/vedette/conf.d/zz-bad.toml; }

install_and_start() {
	check 'the package installs' machine_run dpkg -i /root/vedette.deb
	check 'it is enabled' machine_run systemctl is-enabled vedette
	check 'it says READY with the configuration it ships' machine_wait 60 is_active
	check 'the shipped configuration passes vedette check' machine_run vedette check
	camera gate
	check 'with a camera that does not answer it is READY too' machine_run systemctl restart vedette
	check 'systemctl status tells how it stands' machine_wait 10 like StatusText '*/1 camera*'
	check 'the journal knows which camera a line is about' machine_wait 10 journal_of gate
	check 'ONNX Runtime is the one of the package' maps_onnxruntime
}

sandbox() {
	check 'it runs as vedette' runs_as_vedette
	check 'it has no capability' has_no_capability
	check 'the live unit scores at most 1.1' scores 1.1
	check 'its state is its own' owned /var/lib/vedette 'vedette 750'
	check 'its configuration is not' owned /etc/vedette 'root 755'
}

lives_through_a_reload() {
	sleep 10
	machine_run systemctl reload vedette
	sleep 9
	same_pid
}

faults() {
	pid=$(main_pid)
	check 'kill -9' machine_run systemctl kill -s KILL vedette
	check '… is answered by a new process' machine_wait 30 new_pid
	check '… after one restart' is NRestarts 1
	machine_run mkdir -p /run/systemd/system/vedette.service.d
	printf '[Service]\nWatchdogSec=4s\nRestartSec=1s\n' | machine_put /run/systemd/system/vedette.service.d/quick.conf
	machine_run systemctl daemon-reload
	check 'a shorter watchdog is fed as well' machine_run systemctl restart vedette
	pid=$(main_pid)
	# Long enough that counters which begin anew at a reload would be behind for two intervals.
	check '… and after a reload' lives_through_a_reload
	check 'a hang (SIGSTOP)' machine_run kill -STOP "$pid"
	check '… is ended by the watchdog' machine_wait 40 new_pid
	check '… which says so' journal_has 'Watchdog timeout'
	machine_run rm -r /run/systemd/system/vedette.service.d
	machine_run systemctl daemon-reload
	machine_run systemctl restart vedette
}

configuration() {
	pid=$(main_pid)
	camera yard
	check 'reload with a good file' machine_run systemctl reload vedette
	check '… is taken' machine_wait 10 like StatusText '*/2 camera*'
	check '… by the same process' same_pid
	bad_file
	check 'reload with a bad file is refused' fails machine_run systemctl reload vedette
	check '… and changes nothing' same_pid
	check '… and the journal names file, line and column' journal_has 'zz-bad.toml:2:1:'
	check 'start with a bad file fails' fails machine_run systemctl restart vedette
	check '… by exit code 78' is ExecMainStatus 78
	check '… for good: no restart loop' is ActiveState failed
	machine_run rm /etc/vedette/conf.d/zz-bad.toml
	check 'start with the file mended' machine_run systemctl restart vedette
}

upgrade_and_remove() {
	pid=$(main_pid)
	echo '# a word of the site' | machine_run tee -a /etc/vedette/vedette.toml >/dev/null
	check 'the package installs over itself' machine_run dpkg -i /root/vedette.deb
	check '… and restarts the daemon' machine_wait 30 new_pid
	check '… and keeps what the site wrote' machine_run grep -q 'a word of the site' /etc/vedette/vedette.toml
	check 'it stops within 5 s' timeout 5 nsenter -t "$machine_leader" -a systemctl stop vedette
	check '… in good order' is Result success
	machine_run systemctl start vedette
	check 'remove' machine_run dpkg -r vedette
	check '… stops it' fails is_active
	check '… and keeps the state' exists /var/lib/vedette
	check '… and the configuration' exists /etc/vedette/vedette.toml
	check 'purge' machine_run dpkg -P vedette
	for left in /etc/vedette /var/lib/vedette /var/cache/vedette /usr/share/vedette /usr/lib/vedette; do
		check "… leaves no $left" gone $left
	done
}

machine_up "$root"
machine_put /root/vedette.deb <"$package"
install_and_start
sandbox
faults
configuration
upgrade_and_remove
[ $failed = 0 ] || machine_run journalctl -q --no-pager -u vedette -n 60 || true
machine_down
remains=$(machine_remains)
[ -z "$remains" ] || { failed=$((failed + 1)); echo "   FAILED: the machine left behind: $remains"; }
[ $failed = 0 ]
