package journal

import (
	"errors"
	"fmt"
	"time"
)

// Live publishes to outside clients what is not kept: subjects below pulse.live. Nothing is stored, and nothing
// reaches the journal's own account. It works over restarts of the server inside; while there is none nobody listens.
//
// Its methods are safe for concurrent use, and on a nil Live, to which nobody listens.
type Live struct{ j *Journal }

// Live is nil when no outside client is let in.
func (j *Journal) Live() *Live { return j.live }

// errNoLive means that there is nobody to publish to.
var errNoLive = errors.New("journal: live: no outside clients are let in at the moment")

// errManyCopies means that so many subscribe to what is live that the server is busy with copies.
var errManyCopies = errors.New("more copies are wanted than can be made")

func (l *Live) door() *door {
	if l == nil {
		return nil
	}
	if run := l.j.runs.current(); run != nil {
		return run.door
	}
	return nil
}

// Wanted tells whether anybody listens to any live subject. It takes some tens of nanoseconds.
func (l *Live) Wanted() bool {
	d := l.door()
	return d != nil && d.live.wanted()
}

// WantedSubject tells whether anybody listens to the subject. It takes some hundred nanoseconds and keeps nothing of it.
func (l *Live) WantedSubject(subject string) bool {
	d := l.door()
	return d != nil && d.live.account.SubscriptionInterest(subject)
}

// Publish hands the payload to whoever listens to the subject, which must begin with pulse.live. It keeps neither. It
// waits for the server inside at most, never for a client; what could not be handed over is counted, and the error.
func (l *Live) Publish(subject string, payload []byte) error {
	d := l.door()
	err := errNoLive
	switch {
	case d == nil:
	case !d.live.rate.AllowN(time.Now(), d.live.cost(subject)):
		err = errManyCopies
	default:
		err = d.live.conn.Publish(subject, payload)
	}
	if err == nil {
		return nil
	}
	if l != nil {
		l.j.m.liveDropped.Inc()
	}
	return fmt.Errorf("journal: publishing %s: %w", subject, err)
}
