#!/usr/bin/env bash
# Puts the servers that the tests run against, and the client of one of them, into a cache
# directory, once:
#
#   influxd-1.8     InfluxDB 1.8.10, built from tools/influxd
#   influxd-1.6     InfluxDB 1.6.7, from Debian's package influxdb
#   influx-1.6      its client, from Debian's package influxdb-client
#   kapacitord-1.5  Kapacitor 1.5.9, built from tools/kapacitord
#
# and these from Debian, installed into the system where they are missing:
#
#   npm             Node.js and npm, with which the page is built
#   python3         Python 3, which one of the example relays needs
#   chromium        the browser that tests the page
#   mmdebstrap, rpm, systemd-analyze  what the tests of the packages need
#
# and, in which they install packages:
#
#   debian.tar      a small Debian, of the release of this machine
#
# and by name alone those that only `make bench-peers` needs:
#
#   victoria-metrics  VictoriaMetrics 1.151.0, built from tools/victoria-metrics
#   prometheus        Prometheus 3.16.0 without its page and its service discoveries, built from
#                     tools/prometheus; takes seven minutes on two cores
#
# With all of them there it returns at once. A changed go.mod, go.sum or version
# builds again. Nothing is started. Names as arguments install only those.
set -euo pipefail
cd "$(dirname "$0")"

cache=${PULSE_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/pulse-tools}
bin=$cache/bin
mkdir -p "$bin"
exec 9>"$cache/lock" && flock 9 # several test runs may ask at the same time
tmp=$(mktemp -d "$cache/tmp.XXXXXX")
trap 'rm -rf "$tmp"' EXIT

say() { echo "tools: $*" >&2; }

# build NAME VERSION FOLDER PACKAGE TOOLCHAIN [TAGS]
build() {
	local name=$1 version=$2 folder=$3 package=$4 toolchain=$5 tags=${6:-} stamp
	stamp=$(cat "$folder/go.mod" "$folder/go.sum" <(echo "$version $package $toolchain${tags:+ $tags}") | sha256sum | cut -d' ' -f1)
	if [[ -x $bin/$name && $(cat "$bin/.$name.stamp" 2>/dev/null) == "$stamp" ]]; then
		return
	fi
	say "building $name (once; some minutes)"
	(cd "$folder" && CGO_ENABLED=0 GOFLAGS=-mod=readonly GOWORK=off GOTOOLCHAIN=$toolchain \
		go build -trimpath -tags "$tags" -ldflags "-s -w -X main.version=$version" -o "$tmp/$name" "$package")
	mv "$tmp/$name" "$bin/$name"
	echo "$stamp" >"$bin/.$name.stamp"
}

# debian NAME PACKAGE PATH: takes the program the machine has, or unpacks the
# package without installing it, so that no service is set up or started.
debian() {
	local name=$1 package=$2 path=$3
	[[ -x $bin/$name ]] && return
	if [[ -x $path ]]; then
		cp "$path" "$tmp/$name"
	else
		say "fetching Debian's $package (once)"
		if ! (cd "$tmp" && apt-get download "$package" >/dev/null 2>&1); then
			if [[ $(id -u) != 0 ]]; then
				say "apt-get has no package lists: run 'sudo apt-get update', then 'make tools' again"
				exit 1
			fi
			apt-get update -qq >&2
			(cd "$tmp" && apt-get download -qq "$package" >&2)
		fi
		dpkg-deb -x "$tmp/$package"_*.deb "$tmp/root"
		cp "$tmp/root$path" "$tmp/$name"
	fi
	mv "$tmp/$name" "$bin/$name"
}

# system PROGRAM PACKAGE...: installs Debian's packages if the machine has no such program.
system() {
	local program=$1
	shift
	command -v "$program" >/dev/null && return
	if [[ $(id -u) != 0 ]]; then
		say "there is no $program: run 'sudo apt-get install $*', then 'make tools' again"
		exit 1
	fi
	say "installing Debian's $* (once)"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq >&2
	apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# root: a small Debian, with what the scripts of packages need.
root() {
	local release
	release=$(. /etc/os-release && echo "$VERSION_CODENAME")
	if [[ -f $cache/debian.tar && $(cat "$cache/.debian.stamp" 2>/dev/null) == "$release" ]]; then
		return
	fi
	say "making a small Debian (once; half a minute)"
	if ! mmdebstrap --quiet --variant=essential --include=passwd,debconf "$release" "$tmp/debian.tar" >"$tmp/log" 2>&1; then
		cat "$tmp/log" >&2
		exit 1
	fi
	mv "$tmp/debian.tar" "$cache/debian.tar"
	echo "$release" >"$cache/.debian.stamp"
}

install() {
	case $1 in
	influxd-1.8) build "$1" 1.8.10 influxd github.com/influxdata/influxdb/cmd/influxd local ;;
	npm) system npm nodejs npm ;;
	python3) system python3 python3 ;;
	chromium) system chromium chromium ;;
	mmdebstrap) system mmdebstrap mmdebstrap ;;
	rpm) system rpm rpm ;;
	systemd-analyze) system systemd-analyze systemd ;;
	debian) root ;;
	influxd-1.6) debian "$1" influxdb /usr/bin/influxd ;;
	influx-1.6) debian "$1" influxdb-client /usr/bin/influx ;;
	# Built with Go 1.22 or later it panics at start, in an old dependency.
	kapacitord-1.5) build "$1" 1.5.9 kapacitord github.com/influxdata/kapacitor/cmd/kapacitord go1.21.13 ;;
	# These need a newer Go than Pulse does; an older one fetches it.
	victoria-metrics) build "$1" 1.151.0 "$1" github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics auto ;;
	prometheus) build "$1" 3.16.0 "$1" github.com/prometheus/prometheus/cmd/prometheus auto remove_all_sd ;;
	*) say "unknown tool $1: expected npm, python3, chromium, mmdebstrap, rpm, systemd-analyze, debian, influxd-1.8, influxd-1.6, influx-1.6, kapacitord-1.5, victoria-metrics or prometheus" && exit 2 ;;
	esac
}

if [[ $# == 0 ]]; then
	set -- influxd-1.8 influxd-1.6 influx-1.6 kapacitord-1.5 npm python3 chromium mmdebstrap rpm systemd-analyze debian
fi
for name in "$@"; do
	install "$name"
done
