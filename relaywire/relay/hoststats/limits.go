package hoststats

import (
	"time"

	"github.com/nanopack/pulse/relaywire/relay"
)

// limits are what a container may use, and has used. A field that is 0 has no limit, or could not be
// read.
type limits struct {
	memory, used uint64  // bytes; used is without what the kernel can take back at once
	processors   float64 // how many the container may use at the same time
	// Processor time used since the container's start. user and system are 0 where only cpu is known.
	cpu, user, system time.Duration
}

// quotaCollector measures the processor time of a container as a percentage of its quota, from its
// creation to the first poll, and then from poll to poll.
func quotaCollector(h host) relay.CollectorFunc {
	last, at := h.limits(), h.now()
	return func() map[string]float64 {
		before, beforeAt := last, at
		last, at = h.limits(), h.now()
		may := at.Sub(beforeAt).Seconds() * last.processors
		if may <= 0 || before.processors == 0 || last.cpu < before.cpu || last.user < before.user || last.system < before.system {
			return nil
		}
		share := func(now, before time.Duration) float64 { return percent((now - before).Seconds(), may) }
		values := map[string]float64{"cpu_used": share(last.cpu, before.cpu)}
		if last.user+last.system > 0 {
			values["cpu_user"], values["cpu_system"] = share(last.user, before.user), share(last.system, before.system)
		}
		return values
	}
}
