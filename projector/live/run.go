package live

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// flushTimeout is how long a stop may take to send what is queued.
	flushTimeout = time.Second
	// connectTimeout bounds the dial and the first answer together.
	connectTimeout = 5 * time.Second
	logEvery       = time.Minute // how often a failure that goes on is logged

	// The pause after a failure doubles from backoffFirst to backoffLast. A connection that lasted for steady
	// makes it begin anew; one that is lost sooner, again and again, does not.
	backoffFirst = 250 * time.Millisecond
	backoffLast  = 5 * time.Second
	steady       = 10 * time.Second
)

var (
	errStarted = errors.New("live: a Mist can be run once only")
	errStopped = errors.New("live: the Mist is stopped")
)

// Start connects and publishes in a goroutine of its own, until Stop. It does not wait for the connection. The
// error is that it was started or stopped before.
func (m *Mist) Start() error {
	ctx, err := m.begin(context.Background())
	if err != nil {
		return err
	}
	go m.run(ctx)
	return nil
}

// Run connects and publishes until ctx ends or Stop is called, then sends what is queued for at most a second,
// and returns when all its goroutines have ended. The error is that it was started or stopped before.
func (m *Mist) Run(ctx context.Context) error {
	ctx, err := m.begin(ctx)
	if err != nil {
		return err
	}
	m.run(ctx)
	return nil
}

func (m *Mist) begin(ctx context.Context) (context.Context, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.started {
		return nil, errStarted
	}
	m.started = true
	ctx, m.cancel = context.WithCancel(ctx)
	return ctx, nil
}

// Stop sends what is queued and waits for mist to say that it has read it, for at most a second, and ends every
// goroutine. What is left is dropped and counted. If ctx ends first it is cut short, which is the error. It may be called
// again; a Mist that was never started is stopped at once.
func (m *Mist) Stop(ctx context.Context) error {
	m.mu.Lock()
	if !m.started {
		m.started = true
		m.drop(m.metrics.stopped, m.queue.close())
		close(m.done)
	}
	if m.cancel != nil {
		m.cancel()
	}
	m.mu.Unlock()
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
		m.cutOnce.Do(func() { close(m.cut) })
		<-m.done
		return ctx.Err()
	}
}

// run keeps a connection until soft ends, and then for as long as there is something to send, or a second.
func (m *Mist) run(soft context.Context) {
	defer close(m.done)
	hard, kill := context.WithCancel(context.WithoutCancel(soft))
	var wg sync.WaitGroup
	wg.Go(func() {
		m.limitFlush(soft, hard)
		kill()
	})
	defer wg.Wait()
	defer kill()
	m.batch, m.buf = make([]message, batchMessages), make([]byte, 0, batchBytes+4<<10)
	for failures := 0; soft.Err() == nil || m.queue.len() > 0; {
		l, err := m.connect(soft, hard)
		if err == nil {
			began := time.Now()
			m.up()
			err = l.serve(soft)
			m.metrics.connected.Set(0)
			if time.Since(began) >= steady {
				failures = 0
			}
		}
		if soft.Err() != nil {
			break // what was lost while stopping is not made again
		}
		m.failed(err)
		failures++
		pause(soft, backoff(failures))
	}
	m.setStatus(Status{LastError: errStopped.Error()})
	if left := m.queue.close(); left > 0 {
		m.drop(m.metrics.stopped, left)
		m.log.Info("readings that mist did not take in time are not published", "count", left)
	}
}

// limitFlush returns when the time is up that a stop has for what is queued, or when hard ends.
func (m *Mist) limitFlush(soft, hard context.Context) {
	select {
	case <-soft.Done():
	case <-hard.Done():
		return
	}
	t := time.NewTimer(flushTimeout)
	defer t.Stop()
	select {
	case <-t.C:
	case <-m.cut:
	case <-hard.Done():
	}
}

// up notes that mist has answered on a new connection.
func (m *Mist) up() {
	if m.links++; m.links > 1 {
		m.metrics.reconnects.Inc()
	}
	m.metrics.connected.Set(1)
	m.setStatus(Status{Connected: true, Since: time.Now()})
	if m.links == 1 || m.logged {
		m.logged = false
		m.log.Info("connected to mist")
	}
}

// failed notes that there is no connection, and says so at most once a minute.
func (m *Mist) failed(err error) {
	m.metrics.failures.Inc()
	m.setStatus(Status{LastError: err.Error()})
	if m.loggedAt.IsZero() || time.Since(m.loggedAt) >= logEvery {
		m.loggedAt, m.logged = time.Now(), true
		m.log.Warn("readings are not published live; it is tried again", "error", err)
	}
}

func (m *Mist) setStatus(s Status) {
	m.mu.Lock()
	m.status = s
	m.mu.Unlock()
}

// backoff is the pause after the n-th failure in a row (n counts from 1), with a jitter of a fifth down.
func backoff(n int) time.Duration {
	d := backoffLast
	if n < 6 { // 250 ms << 5 = 8 s
		d = min(backoffFirst<<(n-1), backoffLast)
	}
	return d - time.Duration(rand.Int64N(int64(d)/5))
}

// pause waits until d is over or ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
