package mist

import (
	"context"
	"errors"
	"time"

	"github.com/nanopack/pulse/internal/retry"
)

const (
	// flushTimeout is how long a stop may take to send what is queued.
	flushTimeout = time.Second
	// connectTimeout bounds the dial and the first answer together.
	connectTimeout = 5 * time.Second
	// After a session that lasted for steady the pauses begin at the shortest again. After one that
	// ends sooner, they go on growing.
	steady = 10 * time.Second
)

// backoff is the pause after a failure.
var backoff = retry.Backoff{First: 250 * time.Millisecond, Last: 5 * time.Second}

var (
	errStarted = errors.New("mist: a Sink can be started once only")
	errStopped = errors.New("mist: the Sink is stopped")
)

// Start connects and publishes in a goroutine of its own, until Stop. It does not wait for the
// connection. The error is that the sink was started or stopped before.
func (m *Sink) Start() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.started {
		return errStarted
	}
	m.started = true
	go m.loop()
	return nil
}

// Stop sends what is queued and waits for mist to say that it has read it, for at most a second,
// and ends every goroutine. What is left is dropped and counted. If ctx ends first, Stop does not
// wait for mist any longer and returns ctx's error. It may be called again; a Sink that was never
// started is stopped at once.
func (m *Sink) Stop(ctx context.Context) error {
	m.mu.Lock()
	if !m.started {
		m.started = true
		m.drop(m.metrics.stopped, m.queue.close())
		close(m.done)
	}
	m.mu.Unlock()
	m.stop()
	t := time.NewTimer(flushTimeout)
	defer t.Stop()
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
	case <-t.C:
	}
	m.cut()
	<-m.done
	return ctx.Err()
}

// loop keeps a connection until a stop, and then for as long as there is something to send, or a
// second.
func (m *Sink) loop() {
	defer close(m.done)
	m.batch, m.buf = make([]message, batchMessages), make([]byte, 0, batchBytes+4<<10)
	failures := 0 // in a row; a connection that held for a moment does not end them
	for m.stopping.Err() == nil || m.queue.len() > 0 {
		began := time.Now()
		err := m.session()
		if m.stopping.Err() != nil {
			break // what was lost while stopping is not connected again
		}
		if time.Since(began) >= steady {
			failures = 0
		}
		m.failed(err)
		failures++
		retry.Sleep(m.stopping, backoff.Pause(failures))
	}
	m.setStatus(Status{LastError: errStopped.Error()})
	if left := m.queue.close(); left > 0 {
		m.drop(m.metrics.stopped, left)
		m.log.Info("readings that mist did not take in time are not published", "count", left)
	}
}

// session is one connection, from the dial to its end.
func (m *Sink) session() error {
	c, err := m.connect()
	if err != nil {
		return err
	}
	m.up()
	defer m.metrics.connected.Set(0)
	err = c.serve()
	c.close(err)
	return err
}

// up notes that mist has answered on a new connection.
func (m *Sink) up() {
	if m.links++; m.links > 1 {
		m.metrics.reconnects.Inc()
	}
	m.metrics.connected.Set(1)
	m.setStatus(Status{Connected: true, Since: time.Now()})
	if _, logged := m.failures.End(); m.links == 1 || logged {
		m.log.Info("connected to mist")
	}
}

// failed notes that there is no connection, and logs the error at most once a minute.
func (m *Sink) failed(err error) {
	m.metrics.failures.Inc()
	m.setStatus(Status{LastError: err.Error()})
	m.failures.Add()
	if m.failures.MayLog() {
		m.failures.Logged()
		m.log.Warn("readings are not published live; it is tried again", "error", err)
	}
}
