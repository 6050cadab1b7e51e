package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/freeport"
	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/projector/mist/misttest"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// mark is in every secret of these tests, and in every wrong guess at one.
const mark = "5ecret"

// A transcript holds everything that processes and the API have written. It is safe for concurrent
// use.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (tr *transcript) Write(p []byte) (int, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.text.Write(p)
}

func (tr *transcript) String() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.text.String()
}

// check fails the test for every line that holds a secret. It also fails if there are fewer than
// atLeast lines, because then the test has checked too little.
func (tr *transcript) check(t *testing.T, atLeast int) {
	t.Helper()
	n := 0
	for line := range strings.Lines(tr.String()) {
		n++
		if strings.Contains(line, mark) {
			t.Errorf("a secret is told: %s", line)
		}
	}
	if n < atLeast {
		t.Errorf("%d lines only:\n%s", n, tr)
	}
}

// TestSecretsAreNotTold runs a server that logs at TRACE, sends it every request, and makes
// everything fail that uses a token or a password. The logs, the answers and the output of the
// commands contain none of these secrets.
func TestSecretsAreNotTold(t *testing.T) {
	said := &transcript{}
	database := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "influx-"+mark {
			t.Errorf("InfluxDB is asked with the password %q", password)
		}
		http.Error(w, `{"error":"authorization failed"}`, http.StatusUnauthorized)
	}))
	defer database.Close()
	mist := misttest.Listen(t, "another token")
	config := filepath.Join(t.TempDir(), "pulse.json")
	door := freeport.Of(t)
	writeFile(t, config, fmt.Sprintf(`{"log-level": "TRACE", "token": "token-%[1]s", "read-token": "read-%[1]s", "relay-token": "relay-%[1]s", "mist-token": "mist-%[1]s",
		"mist-address": %[2]q, "influx-address": %[3]q, "nats-listen-address": %[4]q, "poll-interval": 1}`,
		mark, mist.Addr(), strings.Replace(database.URL, "://", "://joe:influx-"+mark+"@", 1), door))
	s := startTelling(t, said, "--config-file", config, "--nats-listen-address", door)

	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, Stats: 1, Token: "relay-" + mark})
	defer fleet.Stop()
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"id web1 guess-" + mark, "id web1 token:guess-" + mark, "id relay-" + mark + "\nid relay-" + mark, "token-" + mark} {
		io.WriteString(said, sayTo(t, s.RelayAddr, line+"\n"))
	}
	natsGuesses(t, door)
	askEverything(t, said, s)
	post := fmt.Sprintf(`{"metric":"stat_0","operator":"ge","threshold":0,"duration":"1s","every":"1s","post":"http://joe:hook-%[1]s@127.0.0.1:1/?key=hook-%[1]s"}`, mark)
	if err := s.Post("/alerts", post); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"ftp://joe:hook-" + mark + "@host", "http://joe:hook-" + mark + "@ho st", "http://joe:hook-" + mark + "@%zz"} {
		if err := s.Post("/alerts", strings.Replace(post, "http://joe:hook-"+mark+"@127.0.0.1:1/", bad, 1)); err == nil {
			t.Errorf("%s is taken", bad)
		} else {
			fmt.Fprintln(said, err)
		}
	}
	for _, what := range []string{"an alert could not be posted", "projection=influx_raw", "mist"} {
		await(t, s, "the log about "+what, time.Minute, func() error {
			if !strings.Contains(said.String(), what) {
				return errors.New("it says nothing")
			}
			return nil
		})
	}
	tellCommands(t, said, s, config)
	askEverything(t, said, s)
	if err := s.Stop(); err == nil { // InfluxDB did not accept the journaled readings
		t.Error("it stopped with exit code 0")
	}
	said.check(t, 200)
}

// Kapacitor's password is not shown either.
func TestKapacitorsPasswordIsNotTold(t *testing.T) {
	said := &transcript{}
	s := startTelling(t, said, "-l", "TRACE", "--token", "token-"+mark, "--influx-address", "http://joe:influx-"+mark+"@127.0.0.1:1",
		"--kapacitor-address", "http://joe:kapacitor-"+mark+"@127.0.0.1:1")
	if err := s.Post("/alerts", `{"metric":"stat_0","threshold":1,"post":"http://127.0.0.1:1/"}`); err != nil {
		fmt.Fprintln(said, err)
	}
	await(t, s, "the log about Kapacitor", time.Minute, func() error {
		if !strings.Contains(said.String(), "kapacitor does not answer") {
			return errors.New("it says nothing")
		}
		return nil
	})
	askEverything(t, said, s)
	if err := s.Stop(); err != nil {
		fmt.Fprintln(said, err)
	}
	said.check(t, 50)
}

// Errors about addresses that are refused, or that do not answer, do not contain the passwords of
// these addresses.
func TestRefusalsTellNoSecrets(t *testing.T) {
	said := &transcript{}
	for _, args := range [][]string{
		{"--check-config", "-k", "http://joe:pw-" + mark + "@127.0.0.1:9092", "-t", mark, "--relay-token", mark, "-m", "127.0.0.1:1", "-M", mark},
		{"--check-config", "-i", "http://joe:pw-" + mark + "@127.0.0.1:8086"},
		{"--check-config", "-i", "http://joe:@" + mark + "@127.0.0.1:8086"},
		{"--check-config", "-i", "http://127.0.0.1:8086/?u=joe&p=pw-" + mark},
		{"--check-config", "-i", "joe:pw-" + mark + "@127.0.0.1:8086"},
		{"--check-config", "-i", "http://joe:pw-" + mark + "@127.0.0.1:80860"},
		{"--check-config", "-k", "joe:pw-" + mark + "@127.0.0.1:9092"},
		{"--check-config", "-k", "http://127.0.0.1:9092/?u=joe&p=pw-" + mark},
		{"--check-config", "--relay-token", "pw " + mark},
		{"--check-config", "-t", mark + "\n"},
		{"--check-config", "-t", mark + " "},
		{"--check-config", "-t", mark + "\x01"},
		{"--check-config", "-t", "$2a$10$" + mark},
		{"--check-config", "-t", mark, "-H", "0.0.0.0:8080"},
		{"--check-config", "-t", mark + mark, "-H", "0.0.0.0:8080", "-S", "0.0.0.0:3000", "--relay-token", mark},
		{"--check-config", "--relay-token", strings.Repeat(mark, 50)},
		{"relay", "--token", "pw " + mark},
		{"status", "--token", mark + "\n"},
		{"--check-config", "-M", mark},
		{"status", "--token", mark, "--api", "http://joe:pw-" + mark + "@127.0.0.1:1"},
		{"status", "--token", mark, "--api", "ftp://joe:pw-" + mark + "@127.0.0.1:1"},
		{"replay", "--from", "1h", "--api", "http://joe:pw-" + mark + "@127.0.0.1:1"},
		{"backup", "--api", "http://joe:pw-" + mark + "@127.0.0.1:1", filepath.Join(t.TempDir(), "backup")},
	} {
		_, stdout, stderr := runCommand(args...)
		fmt.Fprint(said, stdout, stderr)
		if strings.Contains(stdout+stderr, mark) {
			t.Errorf("%q", args)
		}
	}
	said.check(t, 15)
}

// A password in --api is sent to a proxy in front of the server, besides the token.
func TestPasswordOfAProxy(t *testing.T) {
	var user, password, token string
	s := serveAPI(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ = r.BasicAuth()
		token = r.Header.Get("X-AUTH-TOKEN")
		_, _ = io.WriteString(w, "{}")
	})
	code, _, stderr := runCommand("status", "--json", "--token", "a token", "--api", strings.Replace(s.URL, "://", "://joe:pw@", 1))
	if code != command.ExitOK || user != "joe" || password != "pw" || token != "a token" {
		t.Errorf("exit %d, %q; the proxy got %q, %q, %q", code, stderr, user, password, token)
	}
}

// startTelling starts a server whose output goes into the transcript.
func startTelling(t *testing.T, said *transcript, args ...string) *pulseproc.Server {
	t.Helper()
	s := serverOf(t, pulseproc.Options{Env: []string{"PULSE_TOKN=token-" + mark},
		DataDir: t.TempDir(), Token: "token-" + mark, Output: said, Args: args})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// askEverything requests everything from the API, with the token in each of its places and with
// wrong tokens.
func askEverything(t *testing.T, said io.Writer, s *pulseproc.Server) {
	t.Helper()
	paths := []string{"/status", "/metrics", "/readyz", "/healthz", "/rejects", "/relays", "/overrides", "/replay", "/keys", "/tags",
		"/latest/stat_0", "/hourly/stat_0", "/daily/stat_0", "/range/stat_0", "/", "/nowhere"}
	for _, path := range paths {
		for _, try := range []struct{ header, query string }{{"token-" + mark, ""}, {"read-" + mark, ""}, {"guess-" + mark, ""}, {"", "token-" + mark}, {"", "guess-" + mark}} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.HTTPAddr+path+"?X-AUTH-TOKEN="+try.query, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("X-AUTH-TOKEN", try.header)
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.Copy(said, response.Body)
			response.Body.Close()
			if err != nil {
				t.Error(err)
			}
		}
	}
	for _, password := range []string{"token-" + mark, "guess-" + mark} {
		askInfluxQL(t, said, s, password)
	}
	http.DefaultClient.CloseIdleConnections()
}

// askInfluxQL sends requests to /query and /ping with a password in each of the places where clients
// of InfluxDB put it.
func askInfluxQL(t *testing.T, said io.Writer, s *pulseproc.Server, password string) {
	t.Helper()
	for _, path := range []string{"/query?q=SHOW+DATABASES&", "/query?q=SELECT+*+FROM+nowhere&db=statistics&", "/query?q=nonsense&",
		"/query?q=DROP+DATABASE+statistics&", "/query?%zz&", "/query?", "/ping?"} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			for _, place := range []string{"url", "basic", "token", "form"} {
				address := "http://" + s.HTTPAddr + path
				var form io.Reader
				if place == "url" {
					address += "u=joe&p=" + password
				}
				if place == "form" && method == http.MethodPost {
					form = strings.NewReader("u=joe&p=" + password)
				}
				request, err := http.NewRequestWithContext(t.Context(), method, address, form)
				if err != nil {
					t.Fatal(err)
				}
				switch place {
				case "basic":
					request.SetBasicAuth("joe", password)
				case "token":
					request.Header.Set("Authorization", "Token joe:"+password)
				case "form":
					request.Header.Set("X-AUTH-TOKEN", "token-"+mark)
					request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				}
				response, err := http.DefaultClient.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				_, err = io.Copy(said, response.Body)
				response.Body.Close()
				if err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// tellCommands runs every command that uses a token.
func tellCommands(t *testing.T, said io.Writer, s *pulseproc.Server, config string) {
	t.Helper()
	api := "http://" + s.HTTPAddr
	for _, args := range [][]string{
		{"status", "--api", api, "--token", "token-" + mark},
		{"status", "--api", api, "--token", "guess-" + mark},
		{"status", "--api", api, "--token", "token-" + mark, "--json"},
		{"replay", "--api", api, "--token", "token-" + mark, "--from", "1h", "--dry-run"},
		{"backup", "--api", api, "--config-file", config, filepath.Join(t.TempDir(), "backup")},
		{"backup", "--api", "http://127.0.0.1:1", "--config-file", config, filepath.Join(t.TempDir(), "backup")},
		{"-s", "--config-file", config, "--data-dir", t.TempDir(), "-S", s.RelayAddr, "--nats-listen-address", ""},
		{"--check-config", "--config-file", config},
	} {
		_, stdout, stderr := runCommand(args...)
		fmt.Fprintln(said, stdout, stderr)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	relay := exec.CommandContext(ctx, os.Args[0], "relay", "--server", s.RelayAddr, "--id", "guesser", "--token", "guess-"+mark, "--log-level", "TRACE")
	relay.Env = append(os.Environ(), runAsPulse+"=1")
	log := &transcript{}
	relay.Stderr = log
	if err := relay.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, s, "pulse relay saying why it is not connected", time.Minute, func() error {
		if !strings.Contains(log.String(), "wrong token") {
			return errors.New("it does not")
		}
		return nil
	})
	cancel()
	_ = relay.Wait() // it was killed
	fmt.Fprintln(said, log)
}

// sayTo sends a line to a relay listener and returns the answer.
func sayTo(t *testing.T, address, line string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, line); err != nil {
		t.Fatal(err)
	}
	answer, err := lastWords(c)
	if err != nil {
		t.Errorf("%q is answered by %q and %v", line, answer, err)
	}
	return answer
}

// natsGuesses connects to the NATS listener with wrong names and passwords, and with the right ones
// for a forbidden request.
func natsGuesses(t *testing.T, address string) {
	t.Helper()
	for _, login := range []nats.Option{nats.UserInfo("pulse", "guess-"+mark), nats.UserInfo("guess-"+mark, "x"), nats.Token("guess-" + mark)} {
		if c, err := nats.Connect(address, login); err == nil {
			c.Close()
			t.Error("a wrong password is taken")
		}
	}
	c, err := nats.Connect(address, nats.UserInfo("pulse", "token-"+mark))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Publish("pulse.readings.x", nil); err != nil {
		t.Error(err)
	}
	if err := c.Flush(); err != nil {
		t.Error(err)
	}
}
