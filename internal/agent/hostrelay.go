package agent

import (
	"errors"
	"fmt"
	"sync"

	"github.com/nanopack/pulse/relaywire/relay"
	"github.com/nanopack/pulse/relaywire/relay/source"
)

// A HostRelay is a relay that offers what sources find on this host, and follows what comes and
// goes. One goroutine at a time may change and close it.
type HostRelay struct {
	*relay.Relay
	options relay.Options
	tags    []string
	sources Sources
	claims  *claims

	mu      sync.Mutex            // guards running; whoever changes it may read it without
	running map[string]*gathering // by the name of the kind
}

// NewHostRelay makes a relay whose readings have the tags. It connects in the background.
func NewHostRelay(o relay.Options, tags []string, sources Sources) (*HostRelay, error) {
	r, err := relay.New(o)
	if err != nil {
		return nil, err
	}
	h := &HostRelay{Relay: r, options: o, tags: tags, claims: newClaims(o.Logger), running: make(map[string]*gathering)}
	if err := h.SetSources(sources); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// SetSources changes what is gathered. Sources whose options are the same run on. After an error the
// source that it names is not there.
func (h *HostRelay) SetSources(next Sources) error {
	var failed []error
	for _, k := range h.sources.changed(&next) {
		if g := h.running[k.name]; g != nil {
			g.end()
			h.set(k.name, nil)
		}
		made, err := k.make(&next, h.options.Logger)
		if err == nil && made != nil {
			var g *gathering
			if g, err = h.gather(made, k); err == nil {
				h.set(k.name, g)
			}
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("--%s: %w", k.name, err))
		}
	}
	h.sources = next
	return errors.Join(failed...)
}

func (h *HostRelay) set(kind string, g *gathering) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running[kind] = g; g == nil {
		delete(h.running, kind)
	}
}

// rejected returns what the sources left out, by the name of the kind and by reason.
func (h *HostRelay) rejected() map[string]map[string]uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := map[string]map[string]uint64{"agent": h.claims.rejects.Counts()}
	for name, g := range h.running {
		if rejects, ok := g.source.(interface{ Rejected() map[string]uint64 }); ok {
			all[name] = rejects.Rejected()
		}
	}
	return all
}

// Close ends the sources and disconnects.
func (h *HostRelay) Close() error {
	for _, g := range h.running {
		g.watcher.Close()
	}
	return h.Relay.Close()
}

// A gathering is a running source, and the collectors that the relay has of it.
type gathering struct {
	host    *HostRelay
	source  source.Source
	kind    kind
	watcher *source.Watcher

	mu    sync.Mutex // guards names
	names map[string]bool
}

func (h *HostRelay) gather(s source.Source, k kind) (g *gathering, err error) {
	g = &gathering{host: h, source: s, kind: k, names: make(map[string]bool)}
	if g.watcher, err = source.Watch(g, h.tags, s); err != nil {
		g.remove()
		return nil, err
	}
	return g, nil
}

// AddCollector adds a collector, with the units of its stats, to the relay, and remembers it.
func (g *gathering) AddCollector(name string, tags []string, c relay.Collector) error {
	err := g.host.AddCollector(name, tags, relay.WithUnits(g.host.claims.collector(name, tags, g.kind.rank(), c), g.kind.unit))
	if err == nil {
		g.mu.Lock()
		g.names[name] = true
		g.mu.Unlock()
	}
	return err
}

// RemoveCollector removes a collector of this source.
func (g *gathering) RemoveCollector(name string) {
	g.host.RemoveCollector(name)
	g.host.claims.release(name)
	g.mu.Lock()
	delete(g.names, name)
	g.mu.Unlock()
}

// end ends the source and removes its collectors.
func (g *gathering) end() {
	g.watcher.Close()
	g.remove()
}

func (g *gathering) remove() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for name := range g.names {
		g.host.RemoveCollector(name)
		g.host.claims.release(name)
	}
	clear(g.names)
}
