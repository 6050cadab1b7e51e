package kapa

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/cut"
	"github.com/nanopack/pulse/internal/retry"
	"github.com/nanopack/pulse/internal/seal"
)

const (
	postTimeout  = 10 * time.Second
	postAge      = 24 * time.Hour // after which a post is given up
	postRefusals = 5              // answers of 4xx after which a post is given up
	maxPosting   = 32             // at the same time, one per alert
	maxPerHost   = 4              // of them to one receiver, so that one that hangs holds up its own only
	maxRedirects = 3
)

// postPause is the pause between two attempts to post.
var postPause = retry.Backoff{First: time.Second, Last: 5 * time.Minute}

// deliverer posts what is queued: in order per alert, several alerts at a time. Its goroutine decides; each post has a goroutine.
type deliverer struct {
	store   *Store
	http    *http.Client
	own     *http.Transport // nil if it is somebody else's
	log     *slog.Logger
	now     func() time.Time
	poked   chan struct{} // holds one: the queue changed, or a post ended
	metrics delivererMetrics

	mu    sync.Mutex          // guards what follows
	tries map[string]*attempt // by alert, of those that have something to post
}

type attempt struct {
	busy     bool
	host     string // of the receiver, from when it is due until the attempt has ended
	failures int    // in a row, of the first in the queue
	refusals int
	next     time.Time
}

type delivererMetrics struct{ delivered, failures, dropped prometheus.Counter }

func newDeliverer(store *Store, o Options) *deliverer {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "pulse_kapa_" + name, Help: help})
		o.Registerer.MustRegister(c)
		return c
	}
	d := &deliverer{store: store, log: o.Logger, now: o.Now, poked: make(chan struct{}, 1), tries: map[string]*attempt{},
		metrics: delivererMetrics{
			delivered: counter("delivered_posts_total", "Posts that were taken."),
			failures:  counter("delivery_failures_total", "Attempts to post that failed."),
			dropped:   counter("dropped_posts_total", "Posts given up: too old, refused, or too many waiting."),
		}}
	transport := o.Transport
	if transport == nil {
		d.own = newTransport()
		transport = d.own
	}
	d.http = &http.Client{Transport: transport, CheckRedirect: checkRedirect}
	return d
}

func (d *deliverer) poke() {
	select {
	case d.poked <- struct{}{}:
	default:
	}
}

// run delivers until ctx ends, and returns when the last post has ended.
func (d *deliverer) run(ctx context.Context) {
	var posts sync.WaitGroup
	defer func() {
		posts.Wait()
		if d.own != nil {
			d.own.CloseIdleConnections()
		}
	}()
	for {
		pause, err := d.begin(ctx, &posts)
		if err != nil {
			d.log.Error("the posts of the alerts cannot be read from the state file; trying again", "error", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-d.poked:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// changed follows a change of an alert: what waits is tried at once, as the change may have mended it.
func (d *deliverer) changed(id string) {
	d.mu.Lock()
	if t := d.tries[id]; t != nil && !t.busy {
		delete(d.tries, id)
	}
	d.mu.Unlock()
	d.poke()
}

// begin starts what is due, and says how long until something else is.
func (d *deliverer) begin(ctx context.Context, posts *sync.WaitGroup) (time.Duration, error) {
	pause := time.Minute
	d.mu.Lock()
	defer d.mu.Unlock()
	// Under the lock that attempt takes posts off the queue with: one that was just taken must not be seen again.
	heads, err := d.store.heads()
	if err != nil {
		return pause, err
	}
	now := d.now()
	busy, toHost := 0, map[string]int{}
	waiting := map[string]bool{}
	for _, h := range heads {
		waiting[h.id] = true
	}
	for id, t := range d.tries {
		if t.busy {
			busy++
			toHost[t.host]++
		} else if !waiting[id] {
			delete(d.tries, id)
		}
	}
	var due []head
	for _, h := range heads {
		t := d.tries[h.id]
		if t == nil {
			t = &attempt{}
			d.tries[h.id] = t
		}
		if t.busy {
			continue
		}
		// A clock that was set back must not stop deliveries.
		if wait := t.next.Sub(now); wait > 0 && wait <= postPause.Last {
			pause = min(pause, wait)
			continue
		}
		due = append(due, h)
	}
	// Those that waited longest first, and before them the new: each has its turn.
	slices.SortStableFunc(due, func(a, b head) int { return d.tries[a.id].next.Compare(d.tries[b.id].next) })
	for _, h := range due {
		if busy == maxPosting {
			break // the end of one of them pokes
		}
		t := d.tries[h.id]
		if t.host == "" {
			t.host = d.store.receiver(h.id)
		}
		if toHost[t.host] == maxPerHost {
			continue // as well
		}
		busy++
		toHost[t.host]++
		t.busy = true
		posts.Go(func() {
			d.attempt(ctx, h, t)
			d.poke()
		})
	}
	return pause, nil
}

// attempt posts once and keeps the outcome.
func (d *deliverer) attempt(ctx context.Context, h head, t *attempt) {
	created, err := d.post(ctx, h)
	d.mu.Lock()
	defer d.mu.Unlock()
	t.busy, t.host = false, ""
	if err != nil && (ctx.Err() != nil || errors.Is(err, ErrNotFound)) {
		return // it is tried again after the next start; or the alert is gone, and its posts with it
	}
	now := d.now()
	if err == nil {
		err = d.store.finish(h, true, Outcome{Delivered: now.UnixNano()})
		if err == nil || errors.Is(err, ErrNotFound) {
			d.metrics.delivered.Inc()
			*t = attempt{}
			return
		}
	}
	d.metrics.failures.Inc()
	t.failures++
	var refused *refusedError
	if errors.As(err, &refused) && refused.permanent() {
		t.refusals++
	}
	giveUp := t.refusals >= postRefusals || now.Sub(created) > postAge
	if t.failures == 1 || giveUp {
		attrs := []any{"alert", h.id, "error", err, "given_up", giveUp}
		if cause := errors.Unwrap(err); cause != nil {
			attrs = append(attrs, "cause", cause)
		}
		d.log.Warn("an alert could not be posted", attrs...)
	}
	t.next = now.Add(postPause.Pause(t.failures))
	if storeErr := d.store.finish(h, giveUp, Outcome{Error: cut.Text(err.Error(), maxSaid)}); storeErr != nil {
		return // the state file is unwell, or the alert is gone: the post is found again, or not
	}
	if giveUp {
		d.metrics.dropped.Inc()
		*t = attempt{}
	}
}

// refusedError is an answer that is not 2xx.
type refusedError struct{ status int }

func (e *refusedError) Error() string {
	return fmt.Sprintf("the receiver answered %d %s", e.status, http.StatusText(e.status))
}

// permanent says that the same post will hardly be taken later.
func (e *refusedError) permanent() bool {
	switch e.status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return e.status >= 400 && e.status < 500
}

// post posts, and says when the post was made.
func (d *deliverer) post(ctx context.Context, h head) (created time.Time, err error) {
	// The URL as it is now: a mistake in it is mended for what waits too.
	a, body, created, err := d.store.load(h)
	if err != nil {
		return created, err
	}
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.Post, bytes.NewReader(body))
	if err != nil {
		return created, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "pulse")
	// The same for every attempt: a receiver that was told twice can see it.
	req.Header.Set("X-Pulse-Delivery", h.id+"-"+strconv.FormatUint(binary.BigEndian.Uint64([]byte(h.key[len(h.id)+1:])), 10))
	resp, err := d.http.Do(req)
	if err != nil {
		return created, describe(err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return created, &refusedError{resp.StatusCode}
	}
	return created, nil
}

// addStatus adds how the deliveries of an alert go.
func (d *deliverer) addStatus(id string, s *Status) {
	// What cannot be read is not shown; the goroutine says it.
	_ = d.store.db.View(func(tx *bbolt.Tx) error {
		s.Undelivered = len(keysOf(bucket(tx, queueBucket), id))
		var o Outcome
		if data := bucket(tx, outcomeBucket).Get([]byte(id)); data != nil && json.Unmarshal(seal.Open(data), &o) == nil {
			s.DeliveryError = cut.Text(o.Error, maxSaid) // a release of before may have kept more
			if o.Delivered != 0 {
				at := time.Unix(0, o.Delivered).UTC()
				s.LastDelivery = &at
			}
		}
		return nil
	})
}
