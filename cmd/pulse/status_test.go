package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/query"
)

// runCommand runs pulse as main does.
func runCommand(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(context.Background(), args, &out, &err)
	return code, out.String(), err.String()
}

// serveAPI answers every request until the test ends.
func serveAPI(t *testing.T, handle http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	return s
}

// TestStatusCommand checks that the output is for people unless a flag says otherwise.
func TestStatusCommand(t *testing.T) {
	toLoss := 35640.0
	at := time.Date(2026, 11, 23, 9, 20, 30, 0, time.UTC)
	status := query.Status{
		State: "degraded", Reasons: []string{"projection influx_raw is failing: /status says why"}, Version: "0.3.0", UptimeSeconds: 11531,
		Journal: query.StatusJournal{FirstTime: at, Messages: 1234567, Bytes: 123_456_789, MaxBytes: 10e9, RetentionSeconds: 7 * 24 * 3600,
			Reach: journal.Reach{Seconds: 12500, Limit: journal.LimitMaxBytes, BytesPerSecond: 800_000}},
		Projections: []projector.Status{
			{Name: "latest", State: "live"},
			{Name: "influx_raw", State: "failing", Failing: true, Lag: 100_000, LagSeconds: 360, Backlog: 40, SecondsToLoss: &toLoss, LastError: "connection refused",
				Losses: projector.Losses{Lost: 7, Gaps: []projector.Gap{{From: 100, To: 106, Count: 7, Reason: "dropped by retention", Time: at}}}},
		},
		Influx: query.StatusInflux{Error: "connection refused"},
		Relays: query.StatusRelays{Connected: 2, Disconnected: 1, Collectors: 9},
	}
	answer, err := json.Marshal(status)
	if err != nil {
		t.Fatal(err)
	}
	s := serveAPI(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("X-AUTH-TOKEN") != "secret":
			w.WriteHeader(http.StatusUnauthorized)
		case r.Method+r.URL.Path == "GET/status":
			_, _ = w.Write(answer)
		default:
			t.Errorf("%s %s", r.Method, r.URL)
		}
	})
	const want = `pulse 0.3.0 is degraded, up 3h12m
  projection influx_raw is failing: /status says why

journal   1,234,567 events, 123 MB of 10 GB, since 2026-11-23 09:20:30Z, kept for 7d
          reaches back 3h28m at the present rate of 800 kB/s (--journal-max-bytes; the 7d of --journal-retention need 490GB)
influxdb  does not answer: connection refused
relays    2 connected, 1 disconnected, 9 collectors

PROJECTION  STATE    LAG      BEHIND  BACKLOG  LOSS IN  LOST  LAST ERROR
latest      live     0        0s      0        -        0     -
influx_raw  failing  100,000  6m      40       9h54m    7     connection refused

GAP IN      FROM  TO   RECORDS  FOUND                 REASON
influx_raw  100   106  7        2026-11-23 09:20:30Z  dropped by retention
`
	address := strings.TrimPrefix(s.URL, "http://")
	for _, api := range []string{s.URL, s.URL + "/", address} {
		if code, stdout, stderr := runCommand("status", "--api", api); code != command.ExitOK || stdout != want || stderr != "" {
			t.Errorf("exit %d, stderr %q, stdout\n%s\nwant\n%s", code, stderr, stdout, want)
		}
	}
	if code, stdout, _ := runCommand("status", "--api", address, "--json"); code != command.ExitOK || stdout != string(answer) {
		t.Errorf("--json: exit %d, %s", code, stdout)
	}
	t.Setenv("PULSE_API", s.URL)
	if code, stdout, _ := runCommand("status"); code != command.ExitOK || stdout != want {
		t.Errorf("PULSE_API: exit %d, %s", code, stdout)
	}
	var stderr bytes.Buffer
	if code := run(context.Background(), []string{"status"}, fullDisk{}, &stderr); code != command.ExitFailure || !strings.Contains(stderr.String(), "no space left") {
		t.Errorf("a full disk: exit %d, %q", code, stderr.String())
	}
}

// fullDisk is a writer that always fails.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// A command that fails prints one line and ends with the right exit code.
func TestClientRefusals(t *testing.T) {
	status := func(code int, body string) string {
		return serveAPI(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = w.Write([]byte(body))
		}).URL
	}
	nobody := httptest.NewServer(nil)
	nobody.Close()
	for _, test := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"wrong token", []string{"--api", status(401, "")}, command.ExitFailure, "--token: the server does not take this token"},
		{"error", []string{"--api", status(500, `{"error":"internal error"}`)}, command.ExitFailure, "the server answered 500: internal error"},
		{"a proxy's error", []string{"--api", status(502, `<html>`)}, command.ExitFailure, "the server answered 502: Bad Gateway"},
		{"no server", []string{"--api", nobody.URL}, command.ExitFailure, "is a server running there?"},
		{"something else", []string{"--api", status(200, `<html>`)}, command.ExitFailure, "does not answer as pulse does"},
		{"scheme", []string{"--api", "ftp://127.0.0.1"}, command.ExitUsage, "--api: must be an address like"},
		{"no host", []string{"--api", "http://"}, command.ExitUsage, "--api: must be an address like"},
		{"no certificate", []string{"--tls-ca", "config.go"}, command.ExitUsage, "--tls-ca: config.go holds no PEM certificate"},
		{"unknown flag", []string{"--ap", "x"}, command.ExitUsage, "unknown flag --ap; did you mean --api?"},
		{"argument", []string{"now"}, command.ExitUsage, `unexpected argument "now"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := runCommand(append([]string{"status"}, test.args...)...)
			if code != test.code || stdout != "" || !strings.HasPrefix(stderr, "pulse status: ") || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit %d, want %d; stdout %q, stderr %q lacks %q", code, test.code, stdout, stderr, test.want)
			}
		})
	}
}

// A server's certificate is trusted if it was given with a flag.
func TestClientTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }))
	defer s.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := runCommand("status", "--api", s.URL, "--tls-ca", ca, "--json"); code != command.ExitOK || stdout != "{}" {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	for _, name := range []string{"status", "edges"} {
		code, _, stderr := runCommand(name, "--api", s.URL)
		if code != command.ExitFailure || !strings.Contains(stderr, "--tls-ca: the server's certificate is not trusted") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s without --tls-ca: exit %d, %q", name, code, stderr)
		}
	}
}

// Every command has a help text, and all help texts have the same layout.
func TestCommandHelp(t *testing.T) {
	for _, s := range program().All() {
		if s.Name == "help" {
			continue
		}
		code, stdout, stderr := runCommand(s.Name, "-h")
		if code != command.ExitOK || stderr != "" || !strings.Contains(stdout, "\nUsage:\n  pulse "+s.Name) || strings.Contains(stdout, "\n  -") {
			t.Errorf("%s -h: exit %d, %q, %q", s.Name, code, stdout, stderr)
		}
		if _, helped, _ := runCommand("help", s.Name); helped != stdout {
			t.Errorf("help %s differs from %s -h: %q", s.Name, s.Name, helped)
		}
		if noFlags := []string{"completion", "man", "version"}; !slices.Contains(noFlags, s.Name) && (!strings.Contains(stdout, "\nFlags:\n      --") || !strings.Contains(stdout, "\nEvery flag is also a")) {
			t.Errorf("%s -h: %q", s.Name, stdout)
		}
	}
	for want, args := range map[string][]string{
		"      --id string                  What this relay":                            {"relay", "--help"},
		`--server is "server" and PULSE_RELAY_SERVER.`:                                  {"help", "relay"},
		"      --detach       ":                                                         {"help", "replay"},
		"Flags of the server, for working without one:\n      --aggregate-interval int": {"help", "replay"},
		"  replay     rebuild a range":                                                  {"help"},
		"pulse " + version():                                                            {"version"},
		`      --token string    The server's --token (default "secret")`:               {"help", "status"},
	} {
		if code, stdout, _ := runCommand(args...); code != command.ExitOK || !strings.Contains(stdout, want) {
			t.Errorf("%q: exit %d, %q lacks %q", args, code, stdout, want)
		}
	}
	if code, _, stderr := runCommand("help", "nope"); code != command.ExitUsage || !strings.Contains(stderr, `unknown command "nope"`) {
		t.Errorf("help nope: exit %d, %q", code, stderr)
	}
	if code, _, stderr := runCommand("version", "x"); code != command.ExitUsage || !strings.Contains(stderr, `unexpected argument "x"`) {
		t.Errorf("version x: exit %d, %q", code, stderr)
	}
}

// TestStatusReady checks what a health check of a container asks: without a token, and answered by
// the exit code.
func TestStatusReady(t *testing.T) {
	answer := http.StatusOK
	s := serveAPI(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" || r.Header.Get("X-AUTH-TOKEN") != "" {
			t.Errorf("%s with the token %q", r.URL, r.Header.Get("X-AUTH-TOKEN"))
		}
		w.WriteHeader(answer)
	})
	for _, answer = range []int{http.StatusOK, http.StatusServiceUnavailable} {
		want := command.ExitOK
		if answer != http.StatusOK {
			want = command.ExitFailure
		}
		if code, stdout, stderr := runCommand("status", "--ready", "--api", s.URL); code != want || stdout != "" || (stderr != "") != (want != 0) {
			t.Errorf("%d: it ended with %d and wrote %q and %q", answer, code, stdout, stderr)
		}
	}
	s.Close()
	if code, _, _ := runCommand("status", "--ready", "--api", s.URL); code != command.ExitFailure {
		t.Errorf("without a server it ended with %d", code)
	}
}
