package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/peterbourgon/ff/v3"
)

const (
	defaultToken    = "secret"
	minJournalBytes = 64e6 // a few minutes of a large node; less than this loses events between two projector batches
)

// A Config is everything that the server can be told. It is read once, from
// flags, then PULSE_* environment variables, then the config file, and
// validated before anything is opened.
type Config struct {
	Server, CheckConfig, Version bool

	ConfigFile   string
	DataDir      string
	HTTPAddress  string
	RelayAddress string
	NATSAddress  string // "": no NATS clients

	InfluxAddress    string // "embedded" or a URL
	KapacitorAddress string
	MistAddress      string
	MistToken        string

	Insecure        bool // the API without TLS
	RelayTLS        bool
	TLSCert, TLSKey string // files; both empty for a self-signed certificate
	Token           string
	RelayToken      string
	CORSAllow       string
	APICompat       string

	PollInterval      time.Duration
	BeatInterval      time.Duration
	AggregateInterval time.Duration
	Retention         time.Duration // of aggregates

	JournalRetention time.Duration
	JournalMaxBytes  int64
	JournalSync      time.Duration // 0: before every acknowledgement
	JournalSetAside  bool

	HostStats bool
	LogLevel  slog.Level

	now    func() time.Time  // the clock that tests step (nil: time.Now)
	values map[string]string // every key as it was given, for printing
}

// errHelp is returned by ParseConfig when the user asked for -h.
var errHelp = errors.New("help asked for")

// ParseConfig reads the configuration of the server. The error is one line
// that names the flag and what it may be.
func ParseConfig(args []string) (*Config, error) {
	all := options()
	long, err := longArgs(args, all)
	if err != nil {
		return nil, err
	}
	fs := flag.NewFlagSet("pulse", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	values := make(map[string]*rawValue, len(all))
	for _, o := range all {
		v := &rawValue{text: o.def, isBool: o.kind == ""}
		values[o.long] = v
		fs.Var(v, o.long, o.help)
	}
	err = ff.Parse(fs, long,
		ff.WithEnvVarPrefix("PULSE"),
		ff.WithConfigFileFlag("config-file"),
		ff.WithConfigFileParser(func(r io.Reader, set func(name, value string) error) error {
			return parseConfigFile(r, all, set)
		}))
	var fileErr fileError
	var pathErr *os.PathError
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nil, errHelp
	case errors.As(err, &fileErr):
		return nil, fileErr
	case errors.As(err, &pathErr):
		return nil, fmt.Errorf("--config-file: %w", pathErr)
	case err != nil:
		return nil, innermost(err)
	case fs.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q: flags begin with a dash, sub-commands (%s) come first", fs.Arg(0), subcommandNames())
	}

	c := &Config{values: make(map[string]string, len(all))}
	for _, o := range all {
		text := values[o.long].text
		c.values[o.long] = text
		if err := o.set(c, text); err != nil {
			return nil, fmt.Errorf("--%s: %w", o.long, err)
		}
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	return c, nil
}

// validate refuses combinations that cannot work or that nobody wants.
func (c *Config) validate() error {
	switch {
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return errors.New("--tls-cert and --tls-key belong together: give both, or neither for a self-signed certificate")
	case c.TLSCert != "" && c.Insecure && !c.RelayTLS:
		return errors.New("--tls-cert is given but nothing would use it: add --insecure=false for https or --relay-tls for relays")
	case c.TLSCert != "" && !isKeyPair(c.TLSCert, c.TLSKey):
		return fmt.Errorf("--tls-cert, --tls-key: %s and %s must be readable PEM files that belong together", c.TLSCert, c.TLSKey)
	case c.KapacitorAddress != "" && c.InfluxAddress == "embedded":
		return errors.New("--kapacitor-address: Kapacitor cannot query the embedded engine: give an --influx-address of its own, or leave it out (alerts are then evaluated by pulse)")
	case c.MistToken != "" && c.MistAddress == "":
		return errors.New("--mist-token is given without --mist-address")
	case c.HTTPAddress == c.RelayAddress && !strings.HasSuffix(c.HTTPAddress, ":0"):
		return errors.New("--http-listen-address and --server-listen-address must differ")
	case c.NATSAddress != "" && !strings.HasSuffix(c.NATSAddress, ":0") && (c.NATSAddress == c.HTTPAddress || c.NATSAddress == c.RelayAddress):
		return errors.New("--nats-listen-address must differ from --http-listen-address and --server-listen-address")
	case c.NATSAddress != "" && c.Token == defaultToken && !isLoopback(c.NATSAddress):
		return fmt.Errorf("--token: the default token would protect %s, which others can reach: choose your own, or listen on 127.0.0.1", c.NATSAddress)
	case c.Token == defaultToken && !isLoopback(c.HTTPAddress):
		return fmt.Errorf("--token: the default token would protect %s, which others can reach: choose your own, or listen on 127.0.0.1", c.HTTPAddress)
	case c.JournalRetention < 2*c.AggregateInterval:
		return fmt.Errorf("--journal-retention must be at least twice --aggregate-interval (%s), or aggregates could not be recomputed", c.AggregateInterval)
	}
	return nil
}

func isKeyPair(cert, key string) bool {
	_, err := tls.LoadX509KeyPair(cert, key)
	return err == nil
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// printTo writes the configuration as a config file, with secrets masked.
func (c *Config) printTo(w io.Writer) error {
	shown := make(map[string]any)
	for _, o := range options() {
		v := c.values[o.long]
		switch {
		case o.long == "check-config" || o.long == "version" || o.long == "config-file":
			continue
		case strings.HasSuffix(o.long, "token") && v != "":
			shown[o.long] = "********"
		case strings.HasSuffix(o.long, "-address"):
			shown[o.long] = maskPassword(v)
		case o.kind == "int":
			shown[o.long] = json.Number(v)
		case o.kind == "":
			shown[o.long] = v == "true"
		default:
			shown[o.long] = v
		}
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(shown)
}

// maskPassword hides the password of a URL, also of one that does not parse.
func maskPassword(address string) string {
	scheme, rest, ok := strings.Cut(address, "://")
	at := strings.LastIndex(rest, "@")
	if !ok || at < 0 {
		return address
	}
	user, _, _ := strings.Cut(rest[:at], ":")
	return scheme + "://" + user + ":********@" + rest[at+1:]
}

// rawValue keeps a flag's text as it was given; options judge it afterwards,
// so that the error is the same wherever the value came from.
type rawValue struct {
	text   string
	isBool bool
}

func (v *rawValue) String() string     { return v.text }
func (v *rawValue) Set(s string) error { v.text = s; return nil }
func (v *rawValue) IsBoolFlag() bool   { return v.isBool }

// longArgs rewrites the short forms, -p 5, -p5, -p=5 and -sI, to long ones, so
// that one name stands for a key in every source.
func longArgs(args []string, all []option) ([]string, error) {
	var out []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return append(out, args[i:]...), nil
		}
		if len(arg) < 2 || arg[0] != '-' || arg[1] == '-' {
			out = append(out, arg)
			name, isLong := strings.CutPrefix(arg, "--")
			if !isLong || name == "help" {
				continue
			}
			name, _, hasValue := strings.Cut(name, "=")
			o := slices.IndexFunc(all, func(o option) bool { return o.long == name })
			switch {
			case o < 0:
				return nil, fmt.Errorf("unknown flag --%s%s", name, didYouMean(name, all))
			case all[o].kind == "" || hasValue:
			case i+1 >= len(args):
				return nil, fmt.Errorf("--%s needs a value", name)
			default:
				i++ // its value, whatever it looks like
				out = append(out, args[i])
			}
			continue
		}
		if arg == "-h" || arg == "-help" {
			return []string{"--help"}, nil
		}
		for rest := arg[1:]; rest != ""; {
			o := slices.IndexFunc(all, func(o option) bool { return o.short == rest[:1] })
			if o < 0 {
				return nil, fmt.Errorf("unknown flag -%s in %q: pulse -h lists the flags", rest[:1], arg)
			}
			value := strings.TrimPrefix(rest[1:], "=")
			isBool := all[o].kind == ""
			switch {
			case isBool && !strings.HasPrefix(rest[1:], "="):
				out, rest = append(out, "--"+all[o].long), rest[1:]
				continue
			case value == "" && !isBool && !strings.HasPrefix(rest[1:], "="):
				if i+1 >= len(args) {
					return nil, fmt.Errorf("--%s (-%s) needs a value", all[o].long, all[o].short)
				}
				i++
				value = args[i]
			}
			out, rest = append(out, "--"+all[o].long+"="+value), ""
		}
	}
	return out, nil
}

// A fileError is about the config file's content.
type fileError string

func (e fileError) Error() string { return "--config-file: " + string(e) }

// parseConfigFile reads one flat JSON object whose keys are the long flag names,
// each at most once: of two, one would be passed over in silence.
func parseConfigFile(r io.Reader, all []option, set func(name, value string) error) error {
	d := json.NewDecoder(r)
	d.UseNumber()
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return notAnObject(err)
	}
	seen := make(map[string]bool)
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return notAnObject(err)
		}
		key, _ := token.(string) // the decoder takes nothing else for a key
		var value any
		if err := d.Decode(&value); err != nil {
			return notAnObject(err)
		}
		switch {
		case key == "config-file":
			return fileError(`"config-file" cannot be a key of the config file itself`)
		case !slices.ContainsFunc(all, func(o option) bool { return o.long == key }):
			return fileError(fmt.Sprintf("unknown key %q%s", key, didYouMean(key, all)))
		case seen[key]:
			return fileError(fmt.Sprintf("the key %q is given twice", key))
		}
		seen[key] = true
		switch value.(type) {
		case string, bool, json.Number:
		default:
			return fileError(fmt.Sprintf("the value of %q must be a string, a number, true or false", key))
		}
		if err := set(key, fmt.Sprint(value)); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return notAnObject(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fileError("something follows the JSON object")
	}
	return nil
}

func notAnObject(err error) error {
	if err == nil {
		return fileError("not a JSON object")
	}
	return fileError("not a JSON object: " + err.Error())
}

// didYouMean names the key that shares the longest beginning with a wrong one.
func didYouMean(key string, all []option) string {
	best, length := "", 2
	for _, o := range all {
		n := 0
		for n < len(key) && n < len(o.long) && key[n] == o.long[n] {
			n++
		}
		if n > length {
			best, length = o.long, n
		}
	}
	if best == "" {
		return "; pulse -h lists them"
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// innermost drops the wrappings that say which source ff was reading: the
// innermost text already names the flag.
func innermost(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

// Levels beyond slog's, as 0.2 had them.
const (
	levelTrace = slog.LevelDebug - 4
	levelFatal = slog.LevelError + 4
)

func logLevel(v string) (slog.Level, error) {
	levels := map[string]slog.Level{
		"TRACE": levelTrace, "DEBUG": slog.LevelDebug, "INFO": slog.LevelInfo,
		"WARN": slog.LevelWarn, "ERROR": slog.LevelError, "FATAL": levelFatal,
	}
	level, ok := levels[strings.ToUpper(v)]
	if !ok {
		return 0, fmt.Errorf("must be TRACE, DEBUG, INFO, WARN, ERROR or FATAL, not %q", v)
	}
	return level, nil
}

// warnUnknownEnvironment logs each PULSE_ variable that no flag reads: it is
// most likely a misspelt one.
func warnUnknownEnvironment(ctx context.Context, environ []string, log *slog.Logger) {
	known := make(map[string]bool)
	for _, o := range options() {
		known["PULSE_"+strings.ToUpper(strings.ReplaceAll(o.long, "-", "_"))] = true
	}
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "PULSE_") && !known[name] {
			log.WarnContext(ctx, "no flag reads this environment variable", "name", name)
		}
	}
}
