package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/projector/past"
)

// replayServer is a server as `pulse replay` sees it. It has one replay, 3, and answers every
// question about it with the next element of looks.
type replayServer struct {
	*httptest.Server

	mu       sync.Mutex
	body     string                      // of the POST
	looks    []func(http.ResponseWriter) // in turn; the last one repeats
	refuse   int                         // status of the POST; 0: accepted
	asked    int
	canceled bool
	onLook   func(n int) // called with the number of questions so far
}

var replayFrom = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)

// aReplay returns replay 3 with the given progress.
func aReplay(state past.State, progress float64) past.Job {
	left := 60 * (1 - progress)
	r := past.Job{ID: "3", Projections: []string{"raw", "aggregates"}, From: replayFrom, To: replayFrom.Add(12 * time.Hour), State: state,
		Created: replayFrom, Started: replayFrom, Progress: progress, SecondsLeft: &left,
		Parts: []past.Part{
			{Projection: "raw", State: state, EventsTotal: 100_000, Counts: past.Counts{Events: uint64(progress * 100_000), Readings: uint64(progress * 1e6),
				Points: 999_000, Expired: 700, Refused: 200, Lost: 100}, Notes: []string{"the journal begins at 2026-11-20T01:00:00Z"}},
			{Projection: "aggregates", State: state, EventsTotal: 7, Counts: past.Counts{Events: 7, Readings: 70, Points: 3}, Notes: []string{}},
		}}
	if r.Ended() {
		r.Finished, r.SecondsLeft = r.Started.Add(92*time.Second), nil
	}
	return r
}

// look returns a handler that answers with a replay.
func look(r past.Job) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { _ = json.NewEncoder(w).Encode(r) }
}

// answers returns a handler that answers with a status, as the server itself or a proxy in front of
// it does.
func answers(status int) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"error":"as it is"}`)
	}
}

// breaksOff ends the connection without an answer.
func breaksOff(http.ResponseWriter) { panic(http.ErrAbortHandler) }

func newReplayServer(t *testing.T, looks ...func(http.ResponseWriter)) *replayServer {
	t.Helper()
	s := &replayServer{looks: looks}
	s.Server = httptest.NewServer(http.HandlerFunc(s.answer))
	t.Cleanup(s.Close)
	return s
}

func (s *replayServer) answer(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch route := r.Method + " " + r.URL.Path; {
	case r.Header.Get("X-AUTH-TOKEN") != "secret":
		answers(http.StatusUnauthorized)(w)
	case route == "POST /replay" && s.refuse != 0:
		answers(s.refuse)(w)
	case route == "POST /replay":
		b, _ := io.ReadAll(r.Body)
		s.body = string(b)
		w.WriteHeader(http.StatusAccepted)
		look(aReplay(past.StateWaiting, 0))(w)
	case route == "GET /replay/3":
		n := s.asked
		s.asked++
		if s.onLook != nil {
			s.onLook(s.asked)
		}
		s.looks[min(n, len(s.looks)-1)](w)
	case route == "DELETE /replay/3":
		s.canceled = true
		look(aReplay(past.StateCanceled, 0.5))(w)
	default:
		http.NotFound(w, r)
	}
}

// saw returns the requests that the server got.
func (s *replayServer) saw() (looks int, canceled bool, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked, s.canceled, s.body
}

// replayQuickly runs `pulse replay` against a server with short pauses.
func replayQuickly(ctx context.Context, change func(*replayCommand), args ...string) (code int, stdout, stderr string) {
	r := replayCommand{poll: time.Millisecond, patience: 10 * time.Second, now: time.Now}
	if change != nil {
		change(&r)
	}
	var out, err bytes.Buffer
	code = r.run(ctx, args, &out, &err)
	return code, out.String(), err.String()
}

// The result of a replay is printed and gives the exit code.
func TestReplayCommand(t *testing.T) {
	t.Setenv("TZ", "")
	failed := aReplay(past.StateFailed, 0.5)
	failed.LastError = "there is no projection raw"
	dry := aReplay(past.StateDone, 1)
	dry.DryRun = true
	ofEdge := aReplay(past.StateDone, 1)
	ofEdge.Edge = "ams1"
	lost := past.Job{ID: "3", State: past.StateRunning, LastError: "dial tcp: connection refused"}
	for _, test := range []struct {
		name           string
		looks          []func(http.ResponseWriter)
		args           []string
		code           int
		body           string
		stdout, stderr []string // parts of the output
	}{
		{"done", []func(http.ResponseWriter){look(aReplay(past.StateRunning, 0.25)), look(aReplay(past.StateRunning, 0.75)), look(aReplay(past.StateDone, 1))},
			[]string{"--from", "6h", "--projection", "raw"}, command.ExitOK, `{"projection":"raw","from":"6h","dry_run":false}`,
			[]string{"replay 3, 2026-11-20T00:00:00Z to 2026-11-20T12:00:00Z: done in 1m32s\n",
				"                    EVENTS      READINGS        POINTS     EXPIRED     REFUSED        LOST\n" +
					"raw                100,000     1,000,000       999,000         700         200         100\n" +
					"aggregates               7            70             3           0           0           0\n" +
					"raw: the journal begins at 2026-11-20T01:00:00Z\n"},
			[]string{"replay 3 is waiting for its turn\n", "replay 3: 25%, 25,007 of 100,007 events, ", " events/s, 45s left\n", "replay 3: 75%, 75,007 of 100,007 events, "}},
		{"dry run", []func(http.ResponseWriter){look(dry)}, []string{"--from", "2026-11-20T00:00:00Z", "--to=2026-11-21T00:00:00+01:00", "--dry-run"}, command.ExitOK,
			`{"projection":"all","from":"2026-11-20T00:00:00Z","to":"2026-11-20T23:00:00Z","dry_run":true}`,
			[]string{"done in 1m32s (dry run: nothing was changed)\n"}, nil},
		{"of an edge", []func(http.ResponseWriter){look(ofEdge)}, []string{"--from", "6h", "--edge", "ams1"}, command.ExitOK,
			`{"projection":"all","from":"6h","edge":"ams1","dry_run":false}`, []string{"T12:00:00Z, edge ams1: done in 1m32s\n"}, nil},
		{"failed", []func(http.ResponseWriter){look(failed)}, []string{"--from", "6h"}, command.ExitFailure, "",
			[]string{": failed in 1m32s\n"}, []string{"pulse replay: it failed: there is no projection raw\n"}},
		{"canceled by somebody else", []func(http.ResponseWriter){look(aReplay(past.StateCanceled, 0.5))}, []string{"--from", "6h"}, command.ExitFailure, "",
			[]string{": canceled in 1m32s\n"}, []string{"pulse replay: it was canceled: what was written until then stays\n"}},
		{"held up", []func(http.ResponseWriter){look(lost), look(aReplay(past.StateDone, 1))}, []string{"--from", "6h"}, command.ExitOK, "", nil,
			[]string{", held up: dial tcp: connection refused\n"}},
		{"the server restarts", []func(http.ResponseWriter){look(aReplay(past.StateRunning, 0.25)), breaksOff, breaksOff, answers(503), look(aReplay(past.StateDone, 1))},
			[]string{"--from", "6h"}, command.ExitOK, "", []string{"done in"},
			[]string{"the server does not answer: ", "EOF; asking on for 10s\n", "the server is back\n"}},
		{"the server forgot it", []func(http.ResponseWriter){answers(404)}, []string{"--from", "6h"}, command.ExitFailure, "", nil,
			[]string{"pulse replay: the server does not know replay 3 any more\n"}},
		{"the token was changed", []func(http.ResponseWriter){answers(401)}, []string{"--from", "6h"}, command.ExitFailure, "", nil,
			[]string{"pulse replay: --token: the server does not take this token: give its own by --token or PULSE_TOKEN; its config file has it\n"}},
		{"detached", []func(http.ResponseWriter){breaksOff}, []string{"--from", "6h", "--detach"}, command.ExitOK, "", []string{"3\n"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newReplayServer(t, test.looks...)
			code, stdout, stderr := replayQuickly(t.Context(), nil, append(test.args, "--api", s.URL)...)
			if code != test.code {
				t.Errorf("exit %d, want %d", code, test.code)
			}
			_, canceled, body := s.saw()
			if test.body != "" && body != test.body {
				t.Errorf("asked for %s, want %s", body, test.body)
			}
			for _, want := range test.stdout {
				if !strings.Contains(stdout, want) {
					t.Errorf("stdout lacks %q:\n%s", want, stdout)
				}
			}
			for _, want := range test.stderr {
				if !strings.Contains(stderr, want) {
					t.Errorf("stderr lacks %q:\n%s", want, stderr)
				}
			}
			if canceled {
				t.Error("it was canceled")
			}
		})
	}
}

// Dates are read and shown in this host's time zone. A duration back from now is sent to the
// server, which uses its own clock. The output says when there was nothing to replay.
func TestReplayDates(t *testing.T) {
	now := func() time.Time { return time.Date(2026, 11, 27, 20, 30, 0, 0, time.UTC) } // the 28th in India
	empty := past.Job{ID: "3", State: past.StateDone, From: replayFrom, To: replayFrom.Add(time.Hour),
		Parts: []past.Part{{Projection: "raw", State: past.StateDone, Notes: []string{"the journal has nothing from here to there"}},
			{Projection: "aggregates", State: past.StateDone, Notes: []string{"the journal has nothing from here to there"}}}}
	for _, test := range []struct {
		zone, from, to string
		body           string
		stdout         string
	}{
		{"Asia/Kolkata", "2026-11-27", "", `{"projection":"all","from":"2026-11-26T18:30:00Z","dry_run":false}`, "replay 3, 2026-11-20T05:30:00+05:30 to 2026-11-20T06:30:00+05:30: done"},
		{"Asia/Kolkata", "yesterday", "today", `{"projection":"all","from":"2026-11-26T18:30:00Z","to":"2026-11-27T18:30:00Z","dry_run":false}`, "+05:30"},
		{"Asia/Kolkata", "2026-11-27 14:00", "2026-11-27 14:00Z", `{"projection":"all","from":"2026-11-27T08:30:00Z","to":"2026-11-27T14:00:00Z","dry_run":false}`, "+05:30"},
		{"Asia/Kolkata", "6h ago", "now", `{"projection":"all","from":"6h","to":"0","dry_run":false}`, "+05:30"},
		{"", "yesterday", "1h", `{"projection":"all","from":"2026-11-26T00:00:00Z","to":"1h","dry_run":false}`, "replay 3, 2026-11-20T00:00:00Z to 2026-11-20T01:00:00Z: done, and there was nothing to replay\n"},
	} {
		t.Run(test.zone+" "+test.from, func(t *testing.T) {
			t.Setenv("TZ", test.zone)
			s := newReplayServer(t, look(empty))
			code, stdout, stderr := replayQuickly(t.Context(), func(r *replayCommand) { r.now = now }, "--api", s.URL, "--from", test.from, "--to", test.to)
			if _, _, body := s.saw(); code != command.ExitOK || body != test.body || !strings.Contains(stdout, test.stdout) || !strings.Contains(stdout, "\nraw, aggregates: the journal has nothing") {
				t.Errorf("exit %d, it asks for %s, want %s; stdout %s, want %s; stderr %s", code, body, test.body, stdout, test.stdout, stderr)
			}
		})
	}
	t.Setenv("TZ", "Asia/Kolkatta")
	if code, _, stderr := replayQuickly(t.Context(), nil, "--from", "6h"); code != command.ExitUsage || !strings.Contains(stderr, "TZ: there is no time zone") {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

// A mistake on the command line is found before the server gets a request. When the server refuses
// a request, the error names the field.
func TestReplayRefusals(t *testing.T) {
	t.Setenv("TZ", "")
	s := newReplayServer(t, look(aReplay(past.StateDone, 1)))
	refusing := func(status int) string {
		s := newReplayServer(t, breaksOff)
		s.refuse = status
		return s.URL
	}
	nobody := httptest.NewServer(nil)
	nobody.Close()
	missing := filepath.Join(t.TempDir(), "missing")
	for _, test := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no range", nil, command.ExitUsage, "--from is required"},
		{"projection", []string{"--from", "6h", "--projection", "latest"}, command.ExitUsage, `--projection: must be raw, aggregates or all, not "latest"`},
		{"from", []string{"--from", "someday"}, command.ExitUsage, `--from "someday": use how far back it is`},
		{"a day", []string{"--from", "2026-11-20", "--to", "2026-11-20"}, command.ExitUsage, "--from must be before --to, and 2026-11-20T00:00:00Z is not before 2026-11-20T00:00:00Z"},
		{"to", []string{"--from", "6h", "--to", "noon"}, command.ExitUsage, `--to "noon": use how far back it is`},
		{"order", []string{"--from", "6h", "--to", "7h"}, command.ExitUsage, "--from must be before --to"},
		{"argument", []string{"--from", "6h", "raw"}, command.ExitUsage, `unexpected argument "raw"`},
		{"the server's flags", []string{"--from", "6h", "--data-dir", "x", "--retention", "0"}, command.ExitUsage, "--retention: must be a whole number"},
		{"config file", []string{"--from", "6h", "--config-file", missing}, command.ExitUsage, "--config-file: open " + missing},
		{"token", []string{"--from", "6h", "--token", "other"}, command.ExitFailure, "--token: the server does not take this token"},
		{"the server's clock", []string{"--from", "6h", "--api", refusing(400)}, command.ExitUsage, "pulse replay: as it is"},
		{"too many", []string{"--from", "6h", "--api", refusing(409)}, command.ExitFailure, "the server answered 409: as it is"},
		{"an older server", []string{"--from", "6h", "--api", refusing(404)}, command.ExitFailure, "has no replays: is it an older pulse?"},
		{"no such edge", []string{"--from", "6h", "--edge", "asm1", "--api", refusing(404)}, command.ExitFailure, "pulse replay: as it is"},
		{"stopping", []string{"--from", "6h", "--api", refusing(500)}, command.ExitFailure, "the server answered 500: as it is"},
		{"no server", []string{"--from", "6h", "--api", nobody.URL}, command.ExitFailure, "no server answers at " + nobody.URL + "; to replay without one, give its --data-dir"},
		{"no server to leave it to", []string{"--from", "6h", "--api", nobody.URL, "--data-dir", t.TempDir(), "--detach"}, command.ExitUsage, "--detach needs a server"},
		{"no data dir", []string{"--from", "6h", "--api", nobody.URL, "--data-dir", missing}, command.ExitFailure, "--data-dir: stat " + missing},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := replayQuickly(t.Context(), func(r *replayCommand) {
				r.offline = func(context.Context, *Config, past.Request, func(past.Job), *slog.Logger) (past.Job, error) {
					t.Error("it replayed")
					return past.Job{}, nil
				}
			}, append([]string{"--api", s.URL}, test.args...)...)
			lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
			last := lines[len(lines)-1]
			if code != test.code || stdout != "" || !strings.HasPrefix(last, "pulse replay: ") || !strings.Contains(last, test.want) {
				t.Errorf("exit %d, want %d; stdout %q, stderr %q lacks %q", code, test.code, stdout, stderr, test.want)
			}
		})
	}
	if _, _, body := s.saw(); body != "" {
		t.Errorf("the server was asked for %s", body)
	}
}

// ^C makes the server cancel the replay, even if ^C comes while the replay is being requested.
func TestReplayCancel(t *testing.T) {
	s := newReplayServer(t, look(aReplay(past.StateRunning, 0.5)))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.onLook = func(n int) {
		if n == 3 {
			cancel()
		}
	}
	code, stdout, stderr := replayQuickly(ctx, nil, "--api", s.URL, "--from", "6h")
	_, canceled, _ := s.saw()
	if code != command.ExitFailure || !canceled || !strings.Contains(stdout, ": canceled in") ||
		!strings.Contains(stderr, "canceling replay 3; ^C again leaves at once\n") || !strings.Contains(stderr, "it was canceled") {
		t.Errorf("exit %d, canceled %t, stdout %q, stderr %q", code, canceled, stdout, stderr)
	}

	s = newReplayServer(t, look(aReplay(past.StateRunning, 0.5)))
	code, _, _ = replayQuickly(ctx, nil, "--api", s.URL, "--from", "6h")
	if _, canceled, _ := s.saw(); code != command.ExitFailure || !canceled {
		t.Errorf("^C at the beginning: exit %d, canceled %t", code, canceled)
	}
}

// If the server does not get the cancellation, the command says so.
func TestReplayCancelOfALostServer(t *testing.T) {
	s := newReplayServer(t, look(aReplay(past.StateRunning, 0.5)))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.onLook = func(int) {
		s.Listener.Close()
		cancel()
	}
	code, _, stderr := replayQuickly(ctx, nil, "--api", s.URL, "--from", "6h")
	if code != command.ExitFailure || !strings.Contains(stderr, "pulse replay: replay 3 is not canceled and goes on: ") {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

// The command gives up a server that stays away, but the replay continues.
func TestReplayPatience(t *testing.T) {
	s := newReplayServer(t, look(aReplay(past.StateRunning, 0.5)), breaksOff)
	code, stdout, stderr := replayQuickly(t.Context(), func(r *replayCommand) { r.patience = 50 * time.Millisecond }, "--api", s.URL, "--from", "6h")
	if code != command.ExitFailure || stdout != "" || !strings.Contains(stderr, "replay 3 goes on when it is back, "+s.URL+"/replay/3 tells how it does") {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	if looks, _, _ := s.saw(); looks < 3 {
		t.Errorf("it was asked %d times only", looks)
	}
}

// The certificate of a server with TLS is trusted if it was given with a flag.
func TestReplayTLS(t *testing.T) {
	s := &replayServer{looks: []func(http.ResponseWriter){look(aReplay(past.StateDone, 1))}}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(s.answer))
	defer s.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	if code, stdout, stderr := replayQuickly(t.Context(), nil, "--api", s.URL, "--tls-ca", ca, "--from", "6h"); code != command.ExitOK {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	if code, _, stderr := replayQuickly(t.Context(), nil, "--api", s.URL, "--from", "6h"); code != command.ExitFailure || !strings.Contains(stderr, "certificate") {
		t.Errorf("without --tls-ca: exit %d, %q", code, stderr)
	}
}

// Without a server the command does the replay itself, with the server's configuration.
func TestReplayWithoutAServer(t *testing.T) {
	nobody := httptest.NewServer(nil)
	nobody.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "pulse.json")
	writeFile(t, file, `{"data-dir": "`+dir+`", "influx-address": "http://127.0.0.1:1", "retention": 3, "token": "of the file"}`)
	for _, test := range []struct {
		name string
		args []string
		end  past.State
		err  error
		code int
	}{
		{"flags", []string{"--data-dir", dir, "--influx-address", "embedded", "--retention", "3", "--log-level", "warn"}, past.StateDone, nil, command.ExitOK},
		{"config file", []string{"--config-file", file}, past.StateDone, nil, command.ExitOK},
		{"canceled", []string{"--data-dir", dir, "--retention=3"}, past.StateCanceled, nil, command.ExitFailure},
		{"error", []string{"--data-dir", dir, "--retention=3"}, "", errors.New("another pulse uses the data dir"), command.ExitFailure},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got *Config
			code, stdout, stderr := replayQuickly(t.Context(), func(r *replayCommand) {
				r.offline = func(_ context.Context, config *Config, request past.Request, progress func(past.Job), log *slog.Logger) (past.Job, error) {
					got = config
					if back := time.Since(request.From).Round(time.Minute); back != 6*time.Hour || !request.To.IsZero() || request.Projections[0] != "aggregates" {
						t.Errorf("%+v", request)
					}
					progress(aReplay(past.StateRunning, 0.5))
					log.Warn("as it happens")
					return aReplay(test.end, 1), test.err
				}
			}, append([]string{"--api", nobody.URL, "--projection", "aggregates", "--from", "6h"}, test.args...)...)
			if code != test.code || got == nil || got.DataDir != dir || got.Retention != 3*7*24*time.Hour {
				t.Fatalf("exit %d, %+v, stderr %s", code, got, stderr)
			}
			if !strings.Contains(stderr, "no server answers at "+nobody.URL+": replaying from "+dir) || !strings.Contains(stderr, "replay 3: 50%") ||
				!strings.Contains(stderr, "as it happens") {
				t.Errorf("stderr %s", stderr)
			}
			if (test.err == nil) != strings.Contains(stdout, "replay 3, ") || test.err != nil && !strings.Contains(stderr, "pulse replay: "+test.err.Error()) {
				t.Errorf("stdout %q, stderr %q", stdout, stderr)
			}
		})
	}

	// If a server answers, it does the replay. The command uses the token of the config file.
	s := newReplayServer(t, look(aReplay(past.StateDone, 1)))
	if code, _, stderr := replayQuickly(t.Context(), nil, "--api", s.URL, "--from", "6h", "--config-file", file); code != command.ExitFailure || !strings.Contains(stderr, "--token") {
		t.Errorf("exit %d, %q", code, stderr)
	}
	writeFile(t, file, `{"token": "secret"}`)
	if code, _, stderr := replayQuickly(t.Context(), nil, "--api", s.URL, "--from", "6h", "--config-file", file); code != command.ExitOK {
		t.Errorf("exit %d, %q", code, stderr)
	}
}
