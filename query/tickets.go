package query

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"sync"
	"time"
)

const (
	// ticketLife is how long a ticket is valid after it was issued, and after the last stream that it
	// opened has ended: a browser that lost its connection comes back with the same address.
	ticketLife = time.Minute
	maxTickets = 1024
)

var errTooManyTickets = errors.New("too many tickets are valid: wait a minute")

// tickets stand in for the token where no header can be sent: a browser's EventSource. They are
// kept in memory and end with the server. They are kept by hash, so that the time of a look-up does
// not depend on other tickets.
type tickets struct {
	mu    sync.Mutex
	valid map[[sha256.Size]byte]*ticket
}

type ticket struct {
	expires time.Time // while no stream is open
	open    int       // streams
}

func newTickets() *tickets { return &tickets{valid: make(map[[sha256.Size]byte]*ticket)} }

// issue makes a ticket.
func (t *tickets) issue(now time.Time) (name string, expires time.Time, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.valid) >= maxTickets {
		for k, one := range t.valid {
			if one.open == 0 && !now.Before(one.expires) {
				delete(t.valid, k)
			}
		}
	}
	if len(t.valid) >= maxTickets {
		return "", time.Time{}, errTooManyTickets
	}
	name, expires = rand.Text()+rand.Text(), now.Add(ticketLife)
	t.valid[sha256.Sum256([]byte(name))] = &ticket{expires: expires}
	return name, expires, nil
}

// enter reports whether a ticket is valid. It stays valid until leave is called.
func (t *tickets) enter(name string, now time.Time) (leave func(now time.Time), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := sha256.Sum256([]byte(name))
	one := t.valid[k]
	if one == nil {
		return nil, false
	}
	if one.open == 0 && !now.Before(one.expires) {
		delete(t.valid, k)
		return nil, false
	}
	one.open++
	return func(now time.Time) {
		t.mu.Lock()
		defer t.mu.Unlock()
		one.open--
		one.expires = now.Add(ticketLife)
	}, true
}
