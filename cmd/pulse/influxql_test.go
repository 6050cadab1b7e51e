package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	client "github.com/influxdata/influxdb1-client/v2"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// queried starts a server with the embedded InfluxDB and two relays, and waits for readings in it.
func queried(t *testing.T, args ...string) *pulseproc.Server {
	t.Helper()
	s := serverOf(t, pulseproc.Options{DataDir: t.TempDir(), Args: append([]string{"--influx-address", "embedded", "-p", "1"}, args...)})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: 2, Stats: 2})
	t.Cleanup(fleet.Stop)
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := client.NewHTTPClient(client.HTTPConfig{Addr: "http://" + s.HTTPAddr, Username: "any", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	await(t, s, "readings in /query", time.Minute, func() error {
		answer, err := c.Query(client.NewQuery(`SELECT count("stat_0") FROM "stat_0" GROUP BY "host"`, "statistics", "ms"))
		if err == nil {
			err = answer.Error()
		}
		if err == nil && len(answer.Results[0].Series) < 2 {
			err = errors.New("there are none yet")
		}
		return err
	})
	return s
}

// The influx command of InfluxDB 1.6, as Debian has it, works with the embedded engine.
func TestInfluxCommand(t *testing.T) {
	t.Parallel()
	s := queried(t)
	host, port, _ := strings.Cut(s.HTTPAddr, ":")
	path := testtools.Path(t, "influx-1.6")
	run := func(args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, path, append([]string{"-host", host, "-port", port, "-username", "any", "-password", "secret"}, args...)...)
		cmd.Env = []string{"HOME=" + t.TempDir()}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	relay := relaytest.FleetID(0)
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"-execute", "SHOW DATABASES"}, []string{"name: databases\nname\n----\nstatistics\n"}},
		{[]string{"-execute", "USE statistics\nSHOW MEASUREMENTS\nSHOW TAG KEYS\nSHOW TAG VALUES WITH KEY = host"},
			[]string{"Using database statistics", "stat_0\nstat_1\n", "tagKey\n------\nhost\n", "host " + relay}},
		{[]string{"-execute", "USE statistics.one_week\nSHOW RETENTION POLICIES"}, []string{"Using retention policy one_week", "one_day  8h0m0s   1h0m0s"}},
		{[]string{"-database", "statistics", "-precision", "rfc3339", "-execute", `SELECT "stat_0" FROM "stat_0" LIMIT 1; SHOW FIELD KEYS FROM "stat_1"`},
			[]string{"name: stat_0\ntime ", time.Now().UTC().Format("2006-"), "fieldKey fieldType\n-------- ---------\nstat_1   float\n"}},
		{[]string{"-database", "statistics", "-format", "csv", "-precision", "s", "-execute", `SELECT last("stat_1") FROM "stat_1" GROUP BY "host"`},
			[]string{"name,tags,time,last\nstat_1,host=" + relay + ",1"}},
		{[]string{"-database", "statistics", "-format", "json", "-execute", `SHOW SERIES FROM "stat_0"`}, []string{`{"results":[{"series":[{"columns":["key"],"values":[["stat_0,host=` + relay + `"]`}},
	} {
		out, err := run(c.args...)
		if err != nil {
			t.Errorf("%q: %v\n%s", c.args, err, out)
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%q gives\n%s\nwithout\n%s", c.args, out, want)
			}
		}
	}
	for _, statement := range []string{"DROP DATABASE statistics", "USE other", "INSERT stat_0 stat_0=1", "SHOW USERS", `USE statistics` + "\n" + `SELECT * INTO "x" FROM "stat_0"`} {
		out, _ := run("-execute", statement)
		if !strings.Contains(out, "ERR: ") {
			t.Errorf("%s:\n%s", statement, out)
		}
	}
	if out, err := run("-password", "wrong", "-execute", "SHOW DATABASES"); err == nil || !strings.Contains(out, "unauthorized") {
		t.Errorf("a wrong password: %v\n%s", err, out)
	}
}

// The Go client of InfluxDB pings, queries, and reads an answer in chunks.
func TestInfluxClient(t *testing.T) {
	t.Parallel()
	s := queried(t)
	c, err := client.NewHTTPClient(client.HTTPConfig{Addr: "http://" + s.HTTPAddr, Username: "any", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, timeout := range []time.Duration{0, time.Second} {
		if _, version, err := c.Ping(timeout); err != nil || !strings.HasPrefix(version, "1.8") {
			t.Errorf("ping: %q, %v", version, err)
		}
	}
	q := client.NewQueryWithParameters(`SELECT "stat_0" FROM "stat_0" WHERE "host" = $host`, "statistics", "ns", client.Params{"host": client.StringValue(relaytest.FleetID(1))})
	answer, err := c.Query(q)
	if err != nil || answer.Error() != nil {
		t.Fatal(err, answer.Error())
	}
	n := len(answer.Results[0].Series[0].Values)
	q.Chunked, q.ChunkSize = true, 1
	chunks, err := c.QueryAsChunk(q)
	if err != nil {
		t.Fatal(err)
	}
	defer chunks.Close()
	rows := 0
	for {
		chunk, err := chunks.NextResponse()
		if err != nil {
			break // io.EOF
		}
		if chunk.Error() != nil || len(chunk.Results[0].Series[0].Values) != 1 {
			t.Fatalf("%+v", chunk)
		}
		rows++
	}
	if rows < n || n == 0 {
		t.Errorf("%d rows in chunks, %d before", rows, n)
	}
	answer, err = c.Query(client.NewQuery(`DROP DATABASE "statistics"`, "", ""))
	if err == nil && answer.Error() == nil || !strings.Contains(fmt.Sprint(err, answer), "DROP DATABASE is refused") {
		t.Errorf("%v, %v", answer, err)
	}
}
