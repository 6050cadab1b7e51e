package ingest

import (
	"context"
	"time"

	"github.com/nanopack/pulse/internal/retry"
)

const (
	// storeDelay is how long a change waits for others to be written with it.
	storeDelay = 200 * time.Millisecond
	// aliveEvery is how often it is written which relays are connected and when each was heard
	// last: what a crash makes wrong of it. What could not be written is tried again as often.
	aliveEvery = 5 * time.Second
	// sweepEvery is how often what has become too old is looked for.
	sweepEvery = time.Minute
)

// keeper writes what changes to the state file, and forgets what has become too old. What a crash
// loses is a fraction of a second of registrations, which relays repeat when they reconnect, and a
// few seconds of who was connected and heard.
type keeper struct {
	env      *env
	registry *registry
	store    *relayStore
}

// run keeps until ctx ends.
func (k *keeper) run(ctx context.Context) {
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	failing := false
	for {
		var err error
		wake := k.env.changes.wake
		if failing {
			wake = nil // until the next alive
		}
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			k.sweep()
			continue
		case <-alive.C:
			err = k.write()
		case <-wake:
			if !retry.Sleep(ctx, storeDelay) {
				return
			}
			err = k.store.flush()
		}
		switch {
		case err != nil && !failing:
			k.env.log.Error("the registry cannot be stored; trying again until it can", "error", err)
		case err == nil && failing:
			k.env.log.Info("the registry is stored again")
		}
		failing = err != nil
	}
}

// write writes everything: the relays that have changed, and then who is connected.
func (k *keeper) write() error {
	// In this order: a relay that leaves after this line has a record that is newer than alive, and
	// counts as changed before it is missing.
	alive := k.registry.alive()
	if err := k.store.flush(); err != nil {
		return err
	}
	return k.store.writeAlive(alive)
}

// sweep forgets what has become too old. The first time is a minute after the start: relays that
// had nobody to connect to can come back before they are forgotten.
func (k *keeper) sweep() {
	k.registry.expire()
	k.env.overrides.change.Lock()
	defer k.env.overrides.change.Unlock()
	if err := k.env.overrides.expire(k.env.tick()); err != nil {
		k.env.log.WarnRarely("expire", "ended overrides cannot be deleted; trying again", "error", err)
	}
}
