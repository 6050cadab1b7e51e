package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/migrations"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
)

const (
	rawEvents, rawEventsLong = 50_000, 300_000
	// rawBatch is how many points the projection puts into a write.
	rawBatch = 5000
	// rawLeast is how much of InfluxDB's own speed the projection must reach.
	rawLeast = 0.9
	// rawRounds is how often each way is measured.
	rawRounds = 5
)

// runRaw compares a replay of a journal into InfluxDB with writing the same points straight into
// it. These points are prepared before, and written in batches of the same size, one after the
// other.
func (b *bench) runRaw(ctx context.Context) (err error) {
	f := &fill{events: rawEvents, relays: 1000, stats: 10, end: time.Now().UnixNano()}
	if b.long {
		f.events = rawEventsLong
	}
	f.span = time.Duration(f.events/f.relays) * 10 * time.Second
	p, err := b.openPast(ctx, "raw", f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close(ctx)) }()
	points, err := p.points(ctx)
	if err != nil {
		return err
	}

	inside := &rawTarget{past: p, name: "the embedded engine"}
	dir := filepath.Join(b.dir, "raw-influx")
	inside.open = func(context.Context) (influx.Store, error) {
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
		return embedded.Open(embedded.Options{Dir: dir})
	}
	inside.straight = func(ctx context.Context, store influx.Store) error {
		for from := 0; from < len(points); from += rawBatch {
			batch := points[from:min(from+rawBatch, len(points))]
			if res, err := store.Write(ctx, influx.PolicyRaw, batch); err != nil || res != (influx.WriteResult{}) {
				return fmt.Errorf("%+v: %w", res, err)
			}
		}
		return nil
	}
	if err := b.compareRaw(ctx, inside); err != nil {
		return err
	}

	tb := &tools{}
	defer tb.end(&err)
	server := testtools.StartInfluxd(tb, testtools.InfluxDB18)
	outside := &rawTarget{past: p, name: "a real InfluxDB 1.8"}
	outside.open = func(ctx context.Context) (influx.Store, error) {
		store, err := influx.OpenExternal(influx.ExternalOptions{Address: server.Addr})
		if err != nil {
			return nil, err
		}
		_, err = store.Query(ctx, fmt.Sprintf("DROP DATABASE %q", influx.Database), nil)
		return store, err
	}
	bodies := encoded(points)
	outside.straight = func(ctx context.Context, _ influx.Store) error { return post(ctx, server.Addr, bodies) }
	return b.compareRaw(ctx, outside)
}

// A rawTarget is an InfluxDB and the two ways to write into it.
type rawTarget struct {
	past     *past
	name     string
	open     func(context.Context) (influx.Store, error) // returns an empty store
	straight func(context.Context, influx.Store) error   // writes the points
}

func (b *bench) compareRaw(ctx context.Context, t *rawTarget) error {
	best, err := quickest(rawRounds,
		func() (time.Duration, error) { return t.write(ctx, t.replay) },
		func() (time.Duration, error) {
			return t.write(ctx, func(ctx context.Context, store influx.Store) (time.Duration, error) {
				began := time.Now()
				err := t.straight(ctx, store)
				return time.Since(began), err
			})
		})
	if err != nil {
		return err
	}
	n := t.past.readings
	b.compare(fmt.Sprintf("raw: %d readings from the journal into %s, each", n, t.name), best[1].Seconds()/best[0].Seconds(), rawLeast,
		each(best[0], n), each(best[1], n)+" straight")
	return nil
}

// write writes all points in one way into an empty InfluxDB, and checks that they are there.
func (t *rawTarget) write(ctx context.Context, way func(context.Context, influx.Store) (time.Duration, error)) (took time.Duration, err error) {
	store, err := t.open(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if _, err := migrations.EnsureInflux(ctx, store, migrations.Schema{Aggregates: 7 * 24 * time.Hour}, nil); err != nil {
		return 0, err
	}
	if took, err = way(ctx, store); err != nil {
		return 0, err
	}
	rows, err := store.Query(ctx, `SELECT count("stat_0") FROM "one_day"."stat_0"`, nil)
	if err != nil || len(rows) == 0 {
		return 0, fmt.Errorf("nothing was stored: %w", err)
	}
	if n := rows[0].Values[0][1]; n != float64(t.past.readings/10) {
		return 0, fmt.Errorf("%v points of stat_0 were stored, not %d", n, t.past.readings/10)
	}
	return took, nil
}

func (t *rawTarget) replay(ctx context.Context, store influx.Store) (time.Duration, error) {
	raw, err := influx.NewRaw(influx.RawOptions{Store: store, Retention: migrations.RawRetention})
	if err != nil {
		return 0, err
	}
	return t.past.project(ctx, raw)
}

// points returns the journal's readings as InfluxDB points.
func (p *past) points(ctx context.Context) ([]influx.Point, error) {
	tags := make(map[string]*influx.TagSet) // by relay
	points := make([]influx.Point, 0, p.readings)
	fields := make([]influx.Field, 0, p.readings)
	_, err := p.read(ctx, func(records []journal.Record) {
		for i := range records {
			e := records[i].Event
			if e == nil {
				continue
			}
			if tags[e.Relay] == nil {
				tags[e.Relay] = influx.NewTagSet(influx.Tag{Key: "host", Value: e.Relay})
			}
			for _, s := range e.Collectors[0].Stats {
				n := len(fields)
				fields = append(fields, influx.Field{Key: s.ID, Value: s.Value})
				points = append(points, influx.Point{Series: tags[e.Relay].Series(s.ID), Fields: fields[n : n+1 : n+1], Time: e.Time})
			}
		}
	})
	return points, err
}

// encoded returns the bodies of the writes.
func encoded(points []influx.Point) [][]byte {
	var bodies [][]byte
	var res influx.WriteResult
	for from := 0; from < len(points); from += rawBatch {
		var body []byte
		for i := from; i < min(from+rawBatch, len(points)); i++ {
			body = influx.AppendLine(body, &points[i], &res)
		}
		bodies = append(bodies, body)
	}
	return bodies
}

// post writes bodies into the retention policy of raw points, as any client would.
func post(ctx context.Context, addr string, bodies [][]byte) error {
	to := addr + "/write?" + url.Values{"db": {influx.Database}, "rp": {string(influx.PolicyRaw)}, "precision": {"ns"}}.Encode()
	for _, body := range bodies {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(io.LimitReader(response.Body, math.MaxInt16))
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusNoContent {
			return fmt.Errorf("InfluxDB answered %d %s: %w", response.StatusCode, text, err)
		}
	}
	return nil
}
