package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/influxdata/influxdb1-client/models"

	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/influx"
)

// outageLogEvery is the time between two lines about an InfluxDB that does not answer.
const outageLogEvery = 10 * time.Minute

// A watchedStore is an InfluxDB on the network. It logs, once for all callers, that nothing answers
// there, and later that something does again. Callers get a ToldError, which they do not log. They
// log what InfluxDB answers, also a refusal. The methods may be called from many goroutines.
type watchedStore struct {
	influx.Store
	address string // without a password
	log     *slog.Logger

	mu     sync.Mutex // guards what follows
	since  time.Time  // when nothing answered for the first time; zero while something does
	logged time.Time
}

// Ping implements influx.Store.
func (s *watchedStore) Ping(ctx context.Context) (string, error) {
	version, err := s.Store.Ping(ctx)
	return version, s.watch(err)
}

// Query implements influx.Store.
func (s *watchedStore) Query(ctx context.Context, statement string, params map[string]any) ([]models.Row, error) {
	rows, err := s.Store.Query(ctx, statement, params)
	return rows, s.watch(err)
}

// Read implements influx.Store.
func (s *watchedStore) Read(ctx context.Context, r influx.ReadRequest, visit func(influx.ReadResult) error) error {
	return s.watch(s.Store.Read(ctx, r, visit))
}

// Write implements influx.Store.
func (s *watchedStore) Write(ctx context.Context, policy influx.Policy, points []influx.Point) (influx.WriteResult, error) {
	result, err := s.Store.Write(ctx, policy, points)
	return result, s.watch(err)
}

// watch notes how a request ended, and returns the error for the caller.
func (s *watchedStore) watch(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if influx.Unanswered(err) {
		now := time.Now()
		if s.since.IsZero() {
			s.since = now
		}
		if s.logged.IsZero() || now.Sub(s.logged) >= outageLogEvery {
			s.logged = now
			attrs := []any{"error", errors.Unwrap(err)}
			if away := now.Sub(s.since).Round(time.Second); away > 0 {
				attrs = append(attrs, "for", away)
			}
			s.log.Warn(fmt.Sprintf("nothing answers at --influx-address %s; the journal keeps the readings until something does, and --influx-address embedded needs no InfluxDB", s.address),
				attrs...)
		}
		return &projector.ToldError{Err: err}
	}
	e, failed := errors.AsType[*influx.Error](err)
	if answered := err == nil || failed && e.Status != 0; answered && !s.since.IsZero() {
		s.log.Info("InfluxDB answers again", "address", s.address, "after", time.Since(s.since).Round(time.Second))
		s.since, s.logged = time.Time{}, time.Time{}
	}
	return err
}
