// Package source is what the sources of an agent share: hoststats, processes, textfile, commands. A
// source finds collectors on the machine while the agent runs; [Watch] adds them to a relay and
// removes those that have vanished. A new kind of source implements [Source] and nothing else.
//
// Promise: a source that hangs, floods or makes no sense harms only its own readings. Watch asks
// each source in a goroutine of its own. A [Cached] value is made in the background, so that a poll
// waits for it a quarter of a second at most. Whatever a source leaves out it counts by reason in
// its [Rejects], which are logged at most once a minute.
package source

import (
	"context"
	"sync"
	"time"

	"github.com/nanopack/pulse/relaywire/relay"
)

// Source finds collectors. Watch calls Look from one goroutine.
type Source interface {
	// Look returns the collectors that there are now, in groups: always the same groups in the same
	// order. It may block.
	Look() []Group
	// Close ends what the source runs in the background. Close may be called while Look runs, and
	// does not wait for it.
	Close()
}

// Group holds the collectors that one part of a look found. If Err is set, that part of the look
// failed, and its collectors stay as they were.
type Group struct {
	Collectors []Collector
	Err        error
}

// Collector is a collector that a source has found, before it is made.
type Collector struct {
	// Name and Tags are those to add it with.
	Name string
	Tags []string
	// Identity changes when another thing has taken the name, such as another disk at the same
	// path. The relay then gets a new collector.
	Identity uint64
	// New makes the collector. It is called once each time that the collector is added.
	New func() relay.Collector
}

// Relay is what Watch needs of a relay: *relay.Relay implements it.
type Relay interface {
	AddCollector(name string, tags []string, c relay.Collector) error
	RemoveCollector(name string)
}

const (
	// lookInterval is how often a Watcher asks its sources.
	lookInterval = 20 * time.Second
	// firstLook is how long Watch waits for a source's first look.
	firstLook = 2 * time.Second
)

// Watcher keeps a relay's collectors up to date with some sources.
type Watcher struct {
	sources []*watched
	cancel  context.CancelFunc
	ended   sync.WaitGroup
}

// Watch adds the collectors of the sources to r, with tags before their own, and keeps them up to
// date until Close. The error is that of the first collector that r refuses; the sources are closed
// then. A collector of the same name that the program itself, or another source, has added stays. A
// source that has found nothing after two seconds goes on in the background.
func Watch(r Relay, tags []string, sources ...Source) (*Watcher, error) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Watcher{cancel: cancel}
	for _, s := range sources {
		one := &watched{s: s, r: r, tags: tags}
		one.look()
		w.sources = append(w.sources, one)
	}
	timeout := time.NewTimer(firstLook)
	defer timeout.Stop()
	for _, s := range w.sources {
		select {
		case all := <-s.seen:
			s.seen = nil
			if err := s.apply(all); err != nil {
				w.Close()
				return nil, err
			}
		case <-timeout.C:
			timeout.Reset(0)
		}
	}
	for _, s := range w.sources {
		w.ended.Go(func() { s.run(ctx) })
	}
	return w, nil
}

// Close ends the watching and closes the sources. The collectors that were added stay with the
// relay.
func (w *Watcher) Close() {
	w.cancel()
	for _, s := range w.sources {
		s.s.Close()
	}
	w.ended.Wait()
}

// watched is a source and the collectors that the relay has of it. One goroutine uses it.
type watched struct {
	s    Source
	r    Relay
	tags []string
	have []map[string]Collector // by group and name
	seen chan []Group           // of the running look; nil while none runs
}

// look starts a look. A file system that hangs blocks every reader, so a look has a goroutine of
// its own, for which nobody waits.
func (w *watched) look() {
	seen := make(chan []Group, 1)
	w.seen = seen
	go func() { seen <- w.s.Look() }()
}

func (w *watched) run(ctx context.Context) {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if w.seen == nil {
				w.look()
			}
		case all := <-w.seen:
			w.seen = nil
			_ = w.apply(all) // a name that the program has taken; it may be free at the next look
		case <-ctx.Done():
			return
		}
	}
}

// apply makes the relay's collectors those that were seen. It returns the first refusal and
// continues with the other collectors.
func (w *watched) apply(seen []Group) (err error) {
	for len(w.have) < len(seen) {
		w.have = append(w.have, map[string]Collector{})
	}
	for i, g := range seen {
		if g.Err != nil {
			continue
		}
		have, next := w.have[i], make(map[string]Collector, len(g.Collectors))
		for _, c := range g.Collectors {
			if old, ok := have[c.Name]; ok && same(old, c) {
				next[c.Name] = c
			}
		}
		for _, name := range sortedNames(have) {
			if _, ok := next[name]; !ok {
				w.r.RemoveCollector(name)
			}
		}
		for _, c := range g.Collectors {
			if _, ok := next[c.Name]; ok {
				continue
			}
			if refused := w.r.AddCollector(c.Name, joined(w.tags, c.Tags), c.New()); refused == nil {
				next[c.Name] = c
			} else if err == nil {
				err = refused
			}
		}
		w.have[i] = next
	}
	return err
}
