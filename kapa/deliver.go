package kapa

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nanopack/pulse/internal/cut"
	"github.com/nanopack/pulse/internal/retry"
)

const (
	postTimeout  = 10 * time.Second
	postAge      = 24 * time.Hour // after which a post is given up
	postRefusals = 5              // answers of 4xx after which a post is given up
	maxPosting   = 32             // at the same time, one per alert
	maxPerHost   = 4              // of them to one receiver, so that a receiver that hangs holds up its own only
)

// postPause is the pause between two attempts to post.
var postPause = retry.Backoff{First: time.Second, Last: 5 * time.Minute}

// deliverer posts what is queued: in order per alert, several alerts at a time. One goroutine
// decides what is due. Each post has a goroutine.
type deliverer struct {
	store   *store
	http    *http.Client
	own     *http.Transport // nil if it is somebody else's
	log     *slog.Logger
	now     func() time.Time
	wakeup  // the queue changed, or a post ended
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

// wait is how long the next attempt has to wait. A clock that was set back must not stop
// deliveries.
func (t *attempt) wait(now time.Time) time.Duration {
	if wait := t.next.Sub(now); wait <= postPause.Last {
		return max(wait, 0)
	}
	return 0
}

func newDeliverer(store *store, o Options) *deliverer {
	d := &deliverer{store: store, log: o.Logger, now: o.Now, wakeup: newWakeup(), tries: map[string]*attempt{},
		metrics: newDelivererMetrics(o.Registerer)}
	transport := o.Transport
	if transport == nil {
		d.own = newTransport()
		transport = d.own
	}
	d.http = &http.Client{Transport: transport, CheckRedirect: checkRedirect}
	return d
}

// run delivers until ctx ends, and returns when the last post has ended.
func (d *deliverer) run(ctx context.Context) {
	var posts sync.WaitGroup
	for {
		pause, err := d.begin(ctx, &posts)
		if err != nil {
			d.log.Error("the posts of the alerts cannot be read from the state file; trying again", "error", err)
		}
		if !d.sleep(ctx, pause) {
			break
		}
	}
	posts.Wait()
	if d.own != nil {
		d.own.CloseIdleConnections()
	}
}

// changed follows a change of an alert. What waits is tried at once, because the change may have
// mended it.
func (d *deliverer) changed(id string) {
	d.mu.Lock()
	if t := d.tries[id]; t != nil && !t.busy {
		delete(d.tries, id)
	}
	d.mu.Unlock()
	d.poke()
}

// begin starts what is due, and returns how long until something else is.
func (d *deliverer) begin(ctx context.Context, posts *sync.WaitGroup) (time.Duration, error) {
	pause := time.Minute
	d.mu.Lock()
	defer d.mu.Unlock()
	// Under the lock that attempt takes posts off the queue with: a post that was just taken must not
	// be seen again.
	heads, err := d.store.heads()
	if err != nil {
		return pause, err
	}
	now := d.now()
	busy, toHost := d.forget(heads)
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
		if wait := t.wait(now); wait > 0 {
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

// forget forgets the alerts that have nothing to post any more. It returns how many posts are under
// way, in all and to each host. It needs mu.
func (d *deliverer) forget(heads []head) (busy int, toHost map[string]int) {
	waiting := make(map[string]bool, len(heads))
	for _, h := range heads {
		waiting[h.id] = true
	}
	toHost = map[string]int{}
	for id, t := range d.tries {
		if t.busy {
			busy++
			toHost[t.host]++
		} else if !waiting[id] {
			delete(d.tries, id)
		}
	}
	return busy, toHost
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
		err = d.store.finish(h, true, outcome{Delivered: now.UnixNano()})
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
	if storeErr := d.store.finish(h, giveUp, outcome{Error: cut.Text(err.Error(), maxSaid)}); storeErr != nil {
		return // the state file is unwell, or the alert is gone: the post is found again, or not
	}
	if giveUp {
		d.metrics.dropped.Inc()
		*t = attempt{}
	}
}

// post posts, and returns when the post was made.
func (d *deliverer) post(ctx context.Context, h head) (created time.Time, err error) {
	// The URL as it is now: a mistake in the URL is mended for what waits too.
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
	// The same for every attempt: a receiver that gets the post twice can see it.
	req.Header.Set("X-Pulse-Delivery", h.id+"-"+strconv.FormatUint(h.number(), 10))
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
	waiting, last := d.store.deliveries(id)
	s.Undelivered, s.LastDelivery = waiting, timeOf(last.Delivered)
	s.DeliveryError = cut.Text(last.Error, maxSaid) // an older release may have kept more
}
