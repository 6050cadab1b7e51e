package agent

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/relaywire"
	"github.com/nanopack/pulse/relaywire/relay"
)

// fileExample is a short config file.
const fileExample = `{"server": "pulse.example.org:3000", "tags": "rack:7"}`

// leastSpool is the smallest bound of a spool, in bytes.
const leastSpool = 256 << 10

// A config is the configuration of the agent.
type config struct {
	options   relay.Options // but for the Logger
	sources   Sources
	tags      []string
	level     slog.Level
	metrics   string // address of /metrics; "" for none
	checkOnly bool
	values    map[string]string // of every flag, as reloads have changed it
	flags     map[string]flag.Value
}

// parse reads the flags. If done is true, the command has said why and ends with the code.
func parse(c *command.Command, args []string) (parsed *config, done bool, code int) {
	hostname, _ := os.Hostname() // empty is refused below
	var (
		server = c.String("server", "127.0.0.1:3000", "Address of the server's relay listener")
		id     = c.String("id", hostname, "What this relay calls itself; the tag host of its readings")
		token  = c.String("token", "", "The server's --relay-token; it is given only to a server that asks for one")
		tags   = c.String("tags", "", "Tags for every stat, such as service:web1,rack:7")
		useTLS = c.Bool("tls", false, "Connect with TLS")
		caFile = c.String("tls-ca", "", "Certificate (PEM) to trust, such as the server's self-signed one; implies --tls")
		check  = c.Bool("check-config", false, "Check the configuration, print it with the token masked, and exit")
		_      = c.String("config-file", "", "Config file (JSON) with these flags as its keys; SIGHUP has it read again")
		spool  = c.String("spool", "", "Where readings wait while the server is away, a `directory`; empty: in memory")
		bound  = c.String("spool-max", "", "Size at which the oldest readings that wait are dropped; empty: 64MB in a directory, 1MB in memory")
		scrape = c.String("metrics-address", "", "Address at which /metrics has the stats and how the agent is doing, for Prometheus; empty: none")
		level  = c.String("log-level", "INFO", "Level at which to log (TRACE, DEBUG, INFO, WARN, ERROR, FATAL)")
	)
	sources := addSourceFlags(c)
	c.Lookup("id").DefValue = "this host's name"
	c.Shorts, c.Example = map[string]string{"c": "config-file", "l": "log-level", "t": "token"}, "server"
	if done, code := c.Begin(args); done {
		return nil, true, code
	}
	if err := command.SetFromFile(c.FlagSet, fileExample); err != nil {
		return nil, true, c.Misused(err)
	}
	parsed = &config{
		options: relay.Options{Address: *server, ID: *id, Token: *token, Spool: &relay.SpoolOptions{Dir: *spool}},
		metrics: *scrape, checkOnly: *check, values: make(map[string]string), flags: make(map[string]flag.Value),
	}
	c.VisitAll(func(f *flag.Flag) {
		parsed.values[f.Name] = f.Value.String()
		parsed.flags[f.Name] = f.Value
	})
	for _, one := range []struct {
		name string
		read func() error
	}{
		{"log-level", func() (err error) { parsed.level, err = command.LogLevel(*level); return err }},
		{"server", func() error { return checkAddress(*server) }},
		{"id", func() error { return checkID(*id) }},
		{"metrics-address", func() error {
			if *scrape == "" {
				return nil
			}
			return checkAddress(*scrape)
		}},
		{"token", func() error { return command.CheckRelayToken(*token) }},
		{"tags", func() (err error) { parsed.tags, err = readTags(*tags); return err }},
		{"spool-max", func() (err error) {
			if *bound != "" {
				parsed.options.Spool.MaxBytes, err = command.Size(*bound, leastSpool, "256KiB")
			}
			return err
		}},
		{"tls-ca", func() (err error) { parsed.options.TLS, err = command.ClientTLS(*useTLS, *caFile); return err }},
	} {
		if err := one.read(); err != nil {
			return nil, true, c.Misused(fmt.Errorf("--%s: %w", one.name, err))
		}
	}
	var err error
	if parsed.sources, err = sources.read(); err != nil {
		return nil, true, c.Misused(err)
	}
	return parsed, false, command.ExitOK
}

func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if n, wrong := strconv.ParseUint(port, 10, 16); err != nil || wrong != nil || n == 0 {
		return fmt.Errorf("must be host:port, such as pulse.example.org:3000, not %q", address)
	}
	return nil
}

func checkID(id string) error {
	if !relaywire.ValidID(id) {
		return fmt.Errorf("must be 1 to %d bytes of UTF-8 without control characters, the last word not token:..., not %q", relaywire.MaxName, id)
	}
	return nil
}

// warnings returns warnings about what is most likely not meant.
func (c *config) warnings(environ []string) []string {
	list := command.UnknownEnvironment("PULSE_RELAY", slices.Sorted(maps.Keys(c.values)), environ)
	if dir := c.sources.Textfile; dir != "" {
		if _, err := os.Stat(dir); err != nil {
			list = append(list, "--textfile: nothing is read until the directory is there: "+err.Error())
		}
	}
	return append(list, Warnings(c.options.ID, c.tags)...)
}

// printTo writes the configuration as a config file, with the token masked.
func (c *config) printTo(w io.Writer) error {
	shown := make(map[string]any)
	for name, value := range c.values {
		switch {
		case name == "check-config" || name == "config-file":
		case name == "token" && value != "":
			shown[name] = "********"
		default:
			shown[name] = inFile(c.flags[name])
		}
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(shown)
}

// inFile returns the value of a flag as a config file has it.
func inFile(v flag.Value) any {
	if list, ok := v.(*command.List); ok {
		return list.Texts()
	}
	if b, ok := v.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() {
		return v.String() == "true" // package flag wrote it
	}
	return v.String()
}
