package main

// A target is a system and a processor, by Go's names.
type target struct{ os, arch string }

func (t target) String() string { return t.os + "_" + t.arch }

// A program is what a package installs.
type program struct {
	name     string // of the program, its package, its user and its unit
	summary  string // one line
	long     string // what the package's description says besides
	account  string // the full name of its user
	data     string // its data dir
	question string // what a purge asks, of its data dir
	targets  []target
	image    bool // as a container image too
}

// programs returns what a release consists of.
func programs() []program {
	return []program{
		{
			name:    "pulse",
			summary: "collects stats of hosts and services, and keeps them",
			long: "Relays connect to Pulse, and Pulse polls them. It stores every answer in a\n" +
				"durable journal, fills InfluxDB (also one inside) from the journal, and\n" +
				"answers over HTTP: newest readings, history, alerts, and a page at /.",
			account:  "Pulse",
			data:     "/var/lib/pulse",
			question: "the history of all hosts, the alerts and the certificates",
			targets:  []target{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}},
			image:    true,
		},
		{
			name:    "pulse-relay",
			summary: "sends the stats of this host to a Pulse server",
			long: "The agent of a host: it answers the polls of a Pulse server with CPU, memory,\n" +
				"disks, network and more. While the server is away it keeps its readings, and\n" +
				"hands them over later.",
			account:  "Pulse relay",
			data:     "/var/lib/pulse-relay",
			question: "the readings that the server does not have yet",
			targets: []target{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"},
				{"windows", "amd64"}, {"freebsd", "amd64"}},
		},
	}
}

// config returns the path of the program's config file.
func (p program) config() string { return "/etc/pulse/" + p.name + ".json" }
