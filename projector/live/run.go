package live

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nanopack/pulse/internal/retry"
)

const (
	// flushTimeout is how long a stop may take to send what is queued.
	flushTimeout = time.Second
	// connectTimeout bounds the dial and the first answer together.
	connectTimeout = 5 * time.Second
	// A connection that lasted for steady makes the pauses begin again at the shortest; one that is lost sooner, again
	// and again, does not.
	steady = 10 * time.Second
)

// backoff is the pause after a failure.
var backoff = retry.Backoff{First: 250 * time.Millisecond, Last: 5 * time.Second}

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
	inARow := 0 // failures: a connection that held for a moment does not end them
	for soft.Err() == nil || m.queue.len() > 0 {
		l, err := m.connect(soft, hard)
		if err == nil {
			began := time.Now()
			m.up()
			err = l.serve(soft)
			m.metrics.connected.Set(0)
			if time.Since(began) >= steady {
				inARow = 0
			}
		}
		if soft.Err() != nil {
			break // what was lost while stopping is not made again
		}
		m.failed(err)
		inARow++
		retry.Sleep(soft, backoff.Pause(inARow))
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
	if _, logged := m.failures.End(); m.links == 1 || logged {
		m.log.Info("connected to mist")
	}
}

// failed notes that there is no connection, and says so at most once a minute.
func (m *Mist) failed(err error) {
	m.metrics.failures.Inc()
	m.setStatus(Status{LastError: err.Error()})
	m.failures.Add()
	if m.failures.MayLog() {
		m.failures.Logged()
		m.log.Warn("readings are not published live; it is tried again", "error", err)
	}
}

func (m *Mist) setStatus(s Status) {
	m.mu.Lock()
	m.status = s
	m.mu.Unlock()
}
