package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/command"
)

func TestConfigDefaults(t *testing.T) {
	c, err := ParseConfig(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		DataDir: "pulse-data", HTTPAddress: "127.0.0.1:8080", RelayAddress: "127.0.0.1:3000", NATSAddress: "127.0.0.1:4222",
		InfluxAddress: "http://127.0.0.1:8086", Insecure: true, Token: "secret", CORSAllow: "*",
		PollInterval: time.Minute, BeatInterval: 30 * time.Second, AggregateInterval: 15 * time.Minute,
		Retention: 7 * 24 * time.Hour, RawRetention: 8 * time.Hour, JournalRetention: 7 * 24 * time.Hour, JournalMaxBytes: 10e9,
	}
	c.values = nil
	if got := *c; !equalConfig(got, want) {
		t.Errorf("defaults:\n got %+v\nwant %+v", got, want)
	}
}

func equalConfig(a, b Config) bool {
	return strings.EqualFold(dump(a), dump(b))
}

func dump(c Config) string {
	return strings.Join([]string{c.DataDir, c.HTTPAddress, c.RelayAddress, c.NATSAddress, c.InfluxAddress, c.KapacitorAddress, c.MistAddress, c.MistToken,
		c.TLSCert, c.TLSKey, c.Token, c.RelayToken, c.CORSAllow, c.APICompat, c.PollInterval.String(), c.BeatInterval.String(),
		c.AggregateInterval.String(), c.Retention.String(), c.RawRetention.String(), c.JournalRetention.String(), c.JournalSync.String(), c.LogLevel.String()}, "|")
}

// The short form of every flag in 0.2's table sets the same value as its long form.
func TestShortFlags(t *testing.T) {
	for _, args := range [][]string{
		{"-s", "-p", "5", "-H", "127.0.0.1:1", "-r", "12", "-l", "debug"},
		{"-sp5", "-H=127.0.0.1:1", "-r12", "-l=DEBUG"},
		{"--server", "--poll-interval", "5", "--http-listen-address=127.0.0.1:1", "--retention", "12", "--log-level", "debug"},
		{"-s=true", "-p=5", "-H127.0.0.1:1", "-r", "12", "-ldebug"},
		{"-sI", "-p5", "-H", "127.0.0.1:1", "-r12", "-ldebug"},
	} {
		c, err := ParseConfig(args)
		if err != nil {
			t.Errorf("%q: %v", args, err)
			continue
		}
		if !c.Server || c.PollInterval != 5*time.Second || c.HTTPAddress != "127.0.0.1:1" || c.Retention != 12*7*24*time.Hour || c.LogLevel.String() != "DEBUG" {
			t.Errorf("%q: got %+v", args, c)
		}
	}
}

func TestConfigSources(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pulse.json")
	writeFile(t, file, `{"server": true, "poll-interval": 11, "beat-interval": 12, "aggregate-interval": 5, "token": "from file"}`)
	t.Setenv("PULSE_BEAT_INTERVAL", "22")
	t.Setenv("PULSE_AGGREGATE_INTERVAL", "10")
	c, err := ParseConfig([]string{"-a", "30", "-c", file})
	if err != nil {
		t.Fatal(err)
	}
	if !c.Server || c.PollInterval != 11*time.Second || c.BeatInterval != 22*time.Second || c.AggregateInterval != 30*time.Minute || c.Token != "from file" {
		t.Errorf("flags > environment > file does not hold: %+v", c)
	}
}

// The config file of the 0.2 documentation is accepted unchanged.
func TestSeedConfigFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pulse.json")
	writeFile(t, file, `{
  "server": true,
  "server-listen-address": "127.0.0.1:3000",
  "http-listen-address": "127.0.0.1:8080",
  "influx-address": "http://127.0.0.1:8086",
  "kapacitor-address": "http://127.0.0.1:9092",
  "insecure": true,
  "mist-address": "",
  "mist-token": "",
  "log-level": "info",
  "cors-allow": "*",
  "token": "secret",
  "poll-interval": 60,
  "aggregate-interval": 15,
  "beat-interval": 30,
  "retention": 12
}`)
	c, err := ParseConfig([]string{"--config-file", file})
	if err != nil {
		t.Fatal(err)
	}
	if !c.Server || c.Retention != 12*7*24*time.Hour || c.KapacitorAddress == "" {
		t.Errorf("got %+v", c)
	}
}

// Every error is one line that names the flag, and comes before anything is opened.
func TestConfigRefusals(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		writeFile(t, path, text)
		return path
	}
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"unknown long flag", []string{"--pol-interval", "5"}, "pol-interval"},
		{"unknown short flag", []string{"-x"}, "-x"},
		{"missing value", []string{"-p"}, "--poll-interval"},
		{"not a number", []string{"-p", "five"}, "--poll-interval: must be a whole number from 1 to 86400"},
		{"zero", []string{"-p0"}, "--poll-interval"},
		{"windows that do not fill a day", []string{"-a", "7"}, "--aggregate-interval: must divide a day"},
		{"address without port", []string{"-H", "localhost"}, "--http-listen-address: must be host:port"},
		{"port out of range", []string{"-S", "127.0.0.1:70000"}, "--server-listen-address"},
		{"influx scheme", []string{"-i", "127.0.0.1:8086"}, `--influx-address: must be "embedded" or an address like`},
		{"influx address that goes on", []string{"-i", "http://127.0.0.1:8086/?u=joe"}, `--influx-address: must be "embedded" or an address like`},
		{"influx port", []string{"-i", "http://127.0.0.1:80860"}, `--influx-address: must be "embedded" or an address like`},
		{"kapacitor", []string{"-k", "nope"}, "--kapacitor-address"},
		{"kapacitor address that goes on", []string{"-k", "http://127.0.0.1:9092/?u=joe"}, "--kapacitor-address"},
		{"log level", []string{"-l", "loud"}, "--log-level: must be TRACE"},
		{"journal sync", []string{"--journal-sync", "sometimes"}, `--journal-sync: must be "always"`},
		{"journal size", []string{"--journal-max-bytes", "1MB"}, "--journal-max-bytes: must be a size of 64MB or more"},
		{"raw age", []string{"--raw-retention", "59m"}, "--raw-retention: must be whole seconds from 1h to 20 years"},
		{"raw fractions", []string{"--raw-retention", "2h0m0.5s"}, "--raw-retention: must be whole seconds"},
		{"raw ages", []string{"--raw-retention", "1041w"}, "--raw-retention: must be whole seconds from 1h to 20 years"},
		{"raw for ever", []string{"--raw-retention", "0"}, "--raw-retention: must be a duration"},
		{"raw shorter than alerts", []string{"--raw-retention", "7h", "--kapacitor-address", "http://127.0.0.1:9092"}, "--raw-retention: with --kapacitor-address it must be at least 8h"},
		{"journal age", []string{"--journal-retention", "tomorrow"}, "--journal-retention: must be a duration"},
		{"journal shorter than a window", []string{"--journal-retention", "20m"}, "--journal-retention must be at least twice"},
		{"bool", []string{"--insecure=perhaps"}, "--insecure: must be true or false"},
		{"argument", []string{"-s", "extra"}, `unexpected argument "extra"`},
		{"cert without key", []string{"--tls-cert", "a"}, "--tls-cert and --tls-key"},
		{"cert that nothing uses", []string{"--tls-cert", "a", "--tls-key", "b"}, "--insecure=false"},
		{"default token for all", []string{"-H", "0.0.0.0:8080"}, "--token: everybody knows the default token"},
		{"cert that is none", []string{"--tls-cert", "config_test.go", "--tls-key", "config_test.go", "-I=false"}, "must be readable PEM files"},
		{"config file in itself", []string{"-c", file("e", `{"config-file": "x"}`)}, "cannot be a key of the config file itself"},
		{"kapacitor beside the embedded engine", []string{"-i", "embedded", "-k", "http://127.0.0.1:9092"}, "--kapacitor-address: Kapacitor cannot query"},
		{"default token for all NATS clients", []string{"--nats-listen-address", "0.0.0.0:4222"}, "--token: everybody knows the default token"},
		{"nats address without port", []string{"--nats-listen-address", "localhost"}, "--nats-listen-address: must be host:port"},
		{"nats where the api is", []string{"--nats-listen-address", "127.0.0.1:8080"}, "--nats-listen-address must differ"},
		{"the same address twice", []string{"-H", "127.0.0.1:3000"}, "must differ"},
		{"mist token alone", []string{"-M", "x"}, "--mist-token"},
		{"compat", []string{"--api-compat", "0.1"}, "--api-compat"},
		{"no file", []string{"-c", filepath.Join(dir, "none")}, "--config-file: open"},
		{"doubled key", []string{"-c", file("f", `{"token": "a", "token": "b"}`)}, `f: the key "token" is given twice`},
		{"no object", []string{"-c", file("g", `null`)}, "g: the file must be one JSON object"},
		{"a bracket too many", []string{"-c", file("h", `{}}`)}, "h: something follows the JSON object"},
		{"not json", []string{"-c", file("a", "poll-interval: 5")}, "a: the file must be one JSON object"},
		{"unknown key", []string{"-c", file("b", `{"poll-intervall": 5}`)}, `unknown key "poll-intervall"; did you mean "poll-interval"?`},
		{"nested value", []string{"-c", file("c", `{"token": {"a": 1}}`)}, `the value of "token" must be`},
		{"bad value in a file", []string{"-c", file("d", `{"poll-interval": 0.5}`)}, "--poll-interval: must be a whole number"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Chdir(dir)
			var stdout, stderr bytes.Buffer
			code := run(context.Background(), test.args, &stdout, &stderr)
			if code != command.ExitUsage {
				t.Errorf("exit code %d, want %d", code, command.ExitUsage)
			}
			if got := stderr.String(); !strings.Contains(got, test.want) || strings.Count(got, "\n") != 1 {
				t.Errorf("stderr %q does not say %q in one line", got, test.want)
			}
			if _, err := os.Stat("pulse-data"); err == nil {
				t.Error("the data dir was made before the configuration was refused")
			}
		})
	}
}

func TestCheckConfigMasksSecrets(t *testing.T) {
	var stdout, stderr bytes.Buffer
	code := run(context.Background(), []string{"--check-config", "-t", "topsecret", "--relay-token", "alsosecret", "-i", "http://joe:pa@ss@db:8086"}, &stdout, &stderr)
	if code != command.ExitOK || strings.Contains(stdout.String(), "topsecret") || strings.Contains(stdout.String(), "alsosecret") || strings.Contains(stdout.String(), "pa@ss") {
		t.Errorf("exit %d, printed %s%s", code, stdout.String(), stderr.String())
	}
	if !strings.Contains(stdout.String(), `"poll-interval": 60`) || !strings.Contains(stdout.String(), "http://joe:********@db:8086") {
		t.Errorf("printed %s", stdout.String())
	}
	// The printed configuration is itself a valid config file.
	file := filepath.Join(t.TempDir(), "again.json")
	writeFile(t, file, stdout.String())
	if _, err := ParseConfig([]string{"-c", file}); err != nil {
		t.Errorf("the printed config is refused: %v", err)
	}
}

// TestHelp compares the help with the layout of the flag table that 0.2 users know.
func TestHelp(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(context.Background(), []string{"-h"}, &stdout, &stderr); code != command.ExitOK || stderr.Len() > 0 {
		t.Fatalf("exit %d, stderr %q", code, stderr.String())
	}
	for _, line := range []string{
		"  -a, --aggregate-interval int         Interval at which stats are aggregated",
		"  -b, --beat-interval int              Heartbeat frequency (seconds) (default 30)",
		"  -c, --config-file string             Config file location for server\n",
		"  -C, --cors-allow string              Sets the 'Access-Control-Allow-Origin' header (default \"*\")",
		"  -H, --http-listen-address string     Http listen address (default \"127.0.0.1:8080\")",
		"  -i, --influx-address string          InfluxDB server address",
		"  -I, --insecure                       Run insecure",
		"  -k, --kapacitor-address string       Kapacitor server address (http://127.0.0.1:9092)",
		"  -l, --log-level string               Level at which to log",
		"  -m, --mist-address string            Mist server address",
		"  -M, --mist-token string              Mist server token",
		"  -p, --poll-interval int              Interval to request stats from clients",
		"  -r, --retention int                  Number of weeks to store aggregated stats (default 1)",
		"  -s, --server                         Run as server",
		"  -S, --server-listen-address string   Server listen address (default \"127.0.0.1:3000\")",
		"  -t, --token string                   Security token (recommend placing in config file) (default \"secret\")",
		"  -v, --version                        Print version info and exit",
	} {
		if !strings.Contains(stdout.String(), line) {
			t.Errorf("-h lacks %q:\n%s", line, stdout.String())
		}
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
