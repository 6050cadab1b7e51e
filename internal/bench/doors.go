package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nanopack/pulse/projector/mist/misttest"
	"github.com/nanopack/pulse/projector/stream/streamtest"
)

// An ear listens at one door and notes the age of the readings that it hears.
type ear struct {
	began time.Time     // the relays' clock starts here
	heard chan struct{} // closed at the first fresh reading; mist gets missed readings first

	mu    sync.Mutex
	once  bool // whether heard is closed
	notes bool // whether ages are noted
	took  timings
}

// note starts or stops the noting of ages.
func (e *ear) note(notes bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.notes = notes
}

// hear takes a reading. Its value is the time at which the relay wrote it.
func (e *ear) hear(value string) error {
	sent, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return fmt.Errorf("a reading that no relay has sent: %q", value)
	}
	took := time.Since(e.began) - time.Duration(sent)*time.Microsecond
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.once && took < liveTail {
		e.once = true
		close(e.heard)
	}
	if e.notes {
		e.took = append(e.took, took)
	}
	return nil
}

// sorted returns the noted ages in ascending order.
func (e *ear) sorted() timings {
	e.mu.Lock()
	defer e.mu.Unlock()
	slices.Sort(e.took)
	return e.took
}

// hearMist listens as mist: it accepts a connection and answers pings.
func hearMist(ctx context.Context, e *ear, mist *misttest.Mist) error {
	failed := make(chan error, 1)
	mist.Script(func(c *misttest.Conn) {
		for {
			message, err := c.Next()
			if err != nil {
				return // the connection has ended
			}
			switch message.Command {
			case "ping":
				err = c.Pong()
			case "publish":
				err = e.hear(message.Data)
			}
			if err != nil {
				select {
				case failed <- err:
				default:
				}
				return
			}
		}
	})
	mist.Refuse(false)
	defer func() {
		mist.Refuse(true)
		mist.Kick()
	}()
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// hearNATS listens as a client of pulse.live.<relay>.<stat>.
func hearNATS(ctx context.Context, e *ear, address string) error {
	conn, err := nats.Connect(address, nats.UserInfo("pulse", "secret"))
	if err != nil {
		return err
	}
	defer conn.Close()
	failed := make(chan error, 1)
	_, err = conn.Subscribe("pulse.live.*.*", func(m *nats.Msg) {
		if err := e.hear(between(m.Data, `"value":`, ",")); err != nil {
			select {
			case failed <- err:
			default:
			}
		}
	})
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// hearSSE listens as a client of /live.
func hearSSE(ctx context.Context, e *ear, address string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/live", nil)
	if err != nil {
		return err
	}
	request.Header.Set("X-AUTH-TOKEN", "secret")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("/live answered %s", response.Status)
	}
	for events := streamtest.NewEvents(response.Body); ; {
		event, err := events.Next()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		switch event.Type {
		case "gap", "dropped", "stopping":
			return fmt.Errorf("the stream says %s: %s", event.Type, event.Data)
		case "readings":
		default:
			continue
		}
		// This reads the values of the event without encoding/json, which would cost CPU beside the
		// server that is measured.
		for data := []byte(event.Data); ; {
			at := bytes.Index(data, []byte(`"value":`))
			if at < 0 {
				break
			}
			data = data[at:]
			if err := e.hear(between(data, `"value":`, ",")); err != nil {
				return err
			}
			data = data[1:]
		}
	}
}

// between returns the text between before and after.
func between(text []byte, before, after string) string {
	_, rest, _ := bytes.Cut(text, []byte(before))
	found, _, _ := bytes.Cut(rest, []byte(after))
	return string(found)
}
