package relay

import (
	"math/rand/v2"
	"time"
)

const (
	firstPause = 50 * time.Millisecond
	// eagerPause is the longest pause for the first eagerFor of an outage, so that a restarted
	// server has its relays back within a second.
	eagerPause = 500 * time.Millisecond
	eagerFor   = time.Minute
	// longestPause is the longest pause after eagerFor. It applies at once when the server refused
	// the relay.
	longestPause = 5 * time.Second
	// settled is how long a session has to last for the next outage to begin with firstPause.
	settled = 5 * time.Second
)

// backoff computes the pause before the next attempt: capped doubling. Half of the pause is random,
// so that the relays of a restarted server do not all reconnect at the same time.
type backoff struct {
	pause time.Duration
	since time.Time // of the outage
}

// next returns the pause to make now. lasted is how long the session that ended was up; 0 if the
// server did not accept it.
func (b *backoff) next(now time.Time, lasted time.Duration, refused bool) time.Duration {
	if lasted >= settled {
		*b = backoff{}
		refused = false // a server that announces its restart
	}
	if b.since.IsZero() {
		b.since = now
	}
	limit := eagerPause
	if refused || now.Sub(b.since) >= eagerFor {
		limit = longestPause
	}
	b.pause = min(max(2*b.pause, firstPause), limit)
	return b.pause/2 + rand.N(b.pause/2)
}

// onceAMinute limits a log message to one a minute, so that a server that comes and goes does not
// fill the log.
type onceAMinute struct{ last time.Time }

func (o *onceAMinute) may(now time.Time) bool {
	if !o.last.IsZero() && now.Sub(o.last) < time.Minute {
		return false
	}
	o.last = now
	return true
}
