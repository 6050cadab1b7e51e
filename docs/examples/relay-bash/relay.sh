#!/usr/bin/env bash
# A relay of Pulse in bash, without other programs: it reads /proc itself. Change the collectors to
# what you measure.
#
#   bash relay.sh 127.0.0.1:3000 web1
#
# The id is this host's name if it is left out. A token for a server that wants one comes from
# PULSE_RELAY_TOKEN.
set -u
LC_ALL=C

# A collector is a function collect_NAME that calls item STAT VALUE for each of its stats. Its tags
# are in tags[NAME]. Names hold no '-', ':' or ','. A stat's name is what /latest and the page call
# it.
declare -A tags=([load]=example:bash [memory]=example:bash [disk_io]=example:bash)

collect_load() {
	local one five fifteen rest
	read -r one five fifteen rest </proc/loadavg
	item load_1 "$one"
	item load_5 "$five"
	item load_15 "$fifteen"
}

collect_memory() {
	local key value unit
	while read -r key value unit; do
		case $key in
		MemTotal:) item memory_total $((value * 1024)) ;;
		MemAvailable:) item memory_available $((value * 1024)) ;;
		esac
	done </proc/meminfo
}

# The bytes that were read from and written to disks since the host started.
collect_disk_io() {
	local key value
	while read -r key value; do
		case $key in
		pgpgin) item disk_read $((value * 1024)) ;;
		pgpgout) item disk_written $((value * 1024)) ;;
		esac
	done </proc/vmstat
}

# What the values of a stat are in, for those who draw them.
units=load_1:processes,load_5:processes,load_15:processes,memory_total:bytes,memory_available:bytes
units+=,disk_read:bytes,disk_written:bytes

address=${1:-127.0.0.1:3000}
id=${2:-$HOSTNAME}
token=${PULSE_RELAY_TOKEN:-}
pulse='' # the connection

say() { printf '%s\n' "$*" >&2; }
send() { printf '%s\n' "$*" >&"$pulse"; }
item() { items+=",$collector-$1:$2"; }

leave() {
	if [[ $pulse ]]; then send close; fi
	exit 0
}
trap leave TERM INT
trap '' PIPE # a write to a closed connection fails instead

# got answers to get NAME,NAME.
got() {
	local names collector items=''
	IFS=, read -ra names <<<"$1"
	for collector in "${names[@]}"; do
		if [[ ${tags[$collector]+known} ]]; then "collect_$collector"; fi
	done
	send "got${items:+ ${items:1}}"
}

# talk speaks to the server until the connection ends.
talk() {
	local beat=10 quiet=0 line='' part verb rest status
	send "id $id" || return
	while true; do
		IFS= read -r -t "$beat" -u "$pulse" part
		status=$?
		line+=$part
		if ((status > 128)); then # no line for a beat: ping; for two, and the server is gone
			if ((++quiet == 2)); then return; fi
			send ping || return
			continue
		fi
		if ((status != 0)); then return; fi
		line=${line%$'\r'} quiet=0
		verb=${line%% *} rest=${line#* } line=''
		case $verb in
		ok)
			if [[ $welcome ]]; then continue; fi
			welcome=yes
			say "connected as $id"
			local name
			for name in "${!tags[@]}"; do send "add $name:${tags[$name]}"; done
			;;
		get) got "$rest" ;;
		takes) if [[ ,$rest, == *,units,* ]]; then send "units $units"; fi ;;
		flush | override) send ok ;; # nothing is gathered between polls
		beat) if ((${rest%.*} >= 1)); then beat=$rest; fi ;;
		error)
			say "the server says: $rest"
			# The token is sent only to a server that wants it.
			if [[ $rest == 'missing token'* && $token ]]; then send "id $id token:$token"; fi
			;;
		esac || return
	done
}

exec {never}<> <(:) # says nothing, so that a read of it is a sleep that a signal ends
pause=0
while true; do
	welcome=''
	if { exec {pulse}<>"/dev/tcp/${address%:*}/${address##*:}"; } 2>/dev/null; then
		talk
		exec {pulse}>&-
	fi
	pulse=''
	say "$address: no connection"
	if [[ $welcome ]]; then pause=0; fi
	read -r -t "$pause.$((RANDOM % 900 + 100))" -u "$never" _
	pause=$((pause < 5 ? pause + 1 : 5))
done
