package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/influxdata/influxdb1-client/models"

	"github.com/nanopack/pulse/internal/freeport"
	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/query"
)

// fakeInflux fails with err.
type fakeInflux struct{ err error }

func (*fakeInflux) Flush(context.Context, influx.Policy) error { return nil }

func (f *fakeInflux) Ping(context.Context) (string, error) { return "1.8", f.err }
func (f *fakeInflux) Write(context.Context, influx.Policy, []influx.Point) (influx.WriteResult, error) {
	return influx.WriteResult{}, f.err
}
func (f *fakeInflux) Query(context.Context, string, map[string]any) ([]models.Row, error) {
	return nil, f.err
}
func (f *fakeInflux) Read(context.Context, influx.ReadRequest, func(influx.ReadResult) error) error {
	return f.err
}
func (f *fakeInflux) Close() error { return nil }

// An InfluxDB that does not answer is logged at once, and then every ten minutes, however many
// callers use it. The callers log what InfluxDB answers.
func TestInfluxThatIsNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		lines := func() (out []string) {
			for line := range strings.Lines(log.String()) {
				_, said, _ := strings.Cut(line, "level=")
				out = append(out, strings.TrimSpace(said))
			}
			log.Reset()
			return out
		}
		sink := &fakeInflux{}
		s := &watchedStore{Store: sink, address: "http://db:8086", log: slog.New(slog.NewTextHandler(&log, nil))}
		ask := func() (err error) {
			_, err = s.Ping(t.Context())
			_, err1 := s.Query(t.Context(), "", nil)
			_, err2 := s.Write(t.Context(), "", nil)
			err3 := s.Read(t.Context(), influx.ReadRequest{}, nil)
			if (err == nil) != (err1 == nil) || (err == nil) != (err2 == nil) || (err == nil) != (err3 == nil) {
				t.Errorf("%v, %v, %v, %v", err, err1, err2, err3)
			}
			return err
		}
		refused := &influx.Error{Op: "query", Err: &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}}
		if err := ask(); err != nil || log.Len() > 0 {
			t.Errorf("%v, %q", err, lines())
		}
		sink.err = refused
		for range 60 * 25 { // a query every second for 25 minutes
			err := ask()
			if _, told := errors.AsType[*projector.ToldError](err); !told || !errors.Is(err, syscall.ECONNREFUSED) || influx.KindOf(err) != influx.Temporary {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		said := lines()
		if len(said) != 3 {
			t.Fatalf("%d lines in 25 minutes: %q", len(said), said)
		}
		const first = `WARN msg="nothing answers at --influx-address http://db:8086; the journal keeps the readings until something does, and --influx-address embedded needs no InfluxDB" error="dial tcp: connection refused"`
		if said[0] != first || !strings.HasSuffix(said[2], "for=20m0s") {
			t.Errorf("it says %q", said)
		}
		for _, answered := range []error{nil, &influx.Error{Op: "write", Status: 503, Err: errors.New("busy")}} {
			sink.err = answered
			if err := ask(); err != answered {
				t.Errorf("%v has become %v", answered, err)
			}
			if said := lines(); len(said) != 1 || !strings.HasPrefix(said[0], `INFO msg="InfluxDB answers again" address=http://db:8086 after=`) {
				t.Errorf("it says %q", said)
			}
			sink.err = refused
			_ = ask()
			if said := lines(); len(said) != 1 || said[0] != first {
				t.Errorf("the next time it says %q", said)
			}
		}
		for _, other := range []error{&influx.Error{Op: "query", Err: context.DeadlineExceeded}, &influx.Error{Op: "query", Err: context.Canceled}} {
			sink.err = other // says nothing about whether InfluxDB is there
			if err := ask(); err != other || log.Len() > 0 {
				t.Errorf("%v has become %v: %q", other, err, lines())
			}
		}
	})
}

// Without an InfluxDB the log of a whole server has one line about it, which says what to do.
// /status has all the details.
func TestServerWithoutInflux(t *testing.T) {
	t.Parallel()
	said := &transcript{}
	address := freeport.Of(t)
	s := serverOf(t, pulseproc.Options{DataDir: t.TempDir(), Output: said,
		Args: []string{"--influx-address", "http://joe:pw-" + mark + "@" + address, "--host-stats", "-p", "1", "-a", "1"}})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, s, "/status to say it all", time.Minute, func() error {
		var status query.Status
		if err := s.Get("/status", &status); err != nil {
			return err
		}
		for _, p := range status.Projections {
			if p.Name == "influx_raw" && p.State == "failing" && strings.Contains(p.LastError, "connection refused") &&
				status.State == "degraded" && !status.Influx.Reachable && strings.Contains(status.Influx.Error, "connection refused") {
				return nil
			}
		}
		return fmt.Errorf("%+v", status)
	})
	_ = s.Stop() // journaled events are not written; the log is complete now
	warnings := regexp.MustCompile(`(?m)^.*level=(WARN|ERROR).*$`).FindAllString(said.String(), -1)
	if len(warnings) != 1 || !strings.Contains(warnings[0], "nothing answers at --influx-address http://joe:********@"+address+";") || !strings.Contains(warnings[0], "--influx-address embedded needs no InfluxDB") {
		t.Errorf("the log warns of %q", warnings)
	}
	said.check(t, 5)
}
