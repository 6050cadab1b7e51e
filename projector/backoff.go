package projector

import (
	"math/rand/v2"
	"time"
)

// The pause after a failure doubles from backoffFirst to backoffLast. While draining it is at most
// backoffDrain: the deadline is near, and a sink that comes back just in time should be found.
const (
	backoffFirst = 250 * time.Millisecond
	backoffLast  = 30 * time.Second
	backoffDrain = time.Second
)

// backoff is the pause after the n-th failure in a row (n counts from 1), with a jitter of a fifth down, so
// that the projections do not hit a returning sink together.
func backoff(n int) time.Duration {
	d := backoffLast
	if n < 8 { // 250 ms << 7 = 32 s
		d = min(backoffFirst<<(n-1), backoffLast)
	}
	return d - time.Duration(rand.Int64N(int64(d)/5))
}
