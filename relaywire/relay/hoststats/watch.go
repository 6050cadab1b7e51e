package hoststats

import (
	"context"
	"sync"
	"time"

	"github.com/nanopack/pulse/relaywire/relay"
)

// lookInterval is how often a Watcher examines the machine.
const lookInterval = 20 * time.Second

// Watcher keeps a relay's collectors up to date with the machine. Only its goroutine uses its
// fields.
type Watcher struct {
	h    host
	r    offers
	tags []string
	have [][]found // by kind, as look has them

	cancel context.CancelFunc
	ended  sync.WaitGroup
}

// offers is what a Watcher needs of a relay.
type offers interface {
	AddCollector(name string, tags []string, c relay.Collector) error
	RemoveCollector(name string)
}

// Watch adds all of [Collectors] to r, with tags before their own, and keeps them up to date with
// the machine until Close. The error is that of the first collector that r refuses. A collector of
// the same name that the program itself has added stays.
func Watch(r *relay.Relay, tags []string) (*Watcher, error) { return watch(thisHost(), r, tags) }

func watch(h host, r offers, tags []string) (*Watcher, error) {
	w := &Watcher{h: h, r: r, tags: tags}
	if err := w.apply(look(h)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	w.ended.Go(func() { w.run(ctx) })
	return w, nil
}

// Close ends the watching. The collectors that were added stay with the relay.
func (w *Watcher) Close() {
	w.cancel()
	w.ended.Wait()
}

func (w *Watcher) run(ctx context.Context) {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		seen := make(chan []kind, 1)
		// A file system that hangs blocks every reader. Close does not wait for this goroutine.
		go func() { seen <- look(w.h) }()
		select {
		case all := <-seen:
			_ = w.apply(all) // a name that the program has taken; it may be free at the next look
		case <-ctx.Done():
			return
		}
	}
}

// apply makes the relay's collectors those that were seen. It returns the first refusal and
// continues with the other collectors.
func (w *Watcher) apply(seen []kind) (err error) {
	if w.have == nil {
		w.have = make([][]found, len(seen))
	}
	for i, k := range seen {
		if k.err != nil {
			continue
		}
		var have []found
		for _, f := range w.have[i] {
			if !contains(k.found, f) {
				w.r.RemoveCollector(f.name)
				continue
			}
			have = append(have, f)
		}
		for _, f := range k.found {
			if contains(have, f) {
				continue
			}
			c := f.named(w.tags)
			if refused := w.r.AddCollector(c.Name, c.Tags, c.Collector); refused == nil {
				have = append(have, f)
			} else if err == nil {
				err = refused
			}
		}
		w.have[i] = have
	}
	return err
}

func contains(list []found, f found) bool {
	for _, g := range list {
		if f.same(g) {
			return true
		}
	}
	return false
}
