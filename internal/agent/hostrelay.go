package agent

import (
	"errors"

	"github.com/nanopack/pulse/relaywire/relay"
	"github.com/nanopack/pulse/relaywire/relay/hoststats"
)

// A HostRelay is a relay that offers the stats of this host, and follows the disks and interfaces
// that come and go.
type HostRelay struct {
	*relay.Relay
	watcher *hoststats.Watcher
}

// NewHostRelay makes a relay whose readings have the tags. It connects in the background. The error
// is only about the options.
func NewHostRelay(o relay.Options, tags []string) (*HostRelay, error) {
	r, err := relay.New(o)
	if err != nil {
		return nil, err
	}
	watcher, err := hoststats.Watch(r, tags)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return &HostRelay{r, watcher}, nil
}

// Close disconnects.
func (r *HostRelay) Close() error {
	r.watcher.Close()
	return r.Relay.Close()
}
