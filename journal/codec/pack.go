package codec

import "slices"

// Pack returns copies of events that share their memory: a handful of allocations for all of them.
// Collectors of an event that have the same tags one after the other share the list. So the copies
// must not be changed.
func Pack(events []Event) []Event {
	var collectors, stats, tags int
	for i := range events {
		list := events[i].Collectors
		collectors += len(list)
		for k := range list {
			stats += len(list[k].Stats)
			if !sameTags(list, k) {
				tags += len(list[k].Tags)
			}
		}
	}
	packed := make([]Event, len(events))
	allCollectors := make([]Collector, 0, collectors)
	allStats := make([]Stat, 0, stats)
	allTags := make([]string, 0, tags)
	for i := range events {
		e := &events[i]
		first := len(allCollectors)
		for k := range e.Collectors {
			c := Collector{Name: e.Collectors[k].Name}
			allStats, c.Stats = add(allStats, e.Collectors[k].Stats)
			if sameTags(e.Collectors, k) {
				c.Tags = allCollectors[len(allCollectors)-1].Tags
			} else {
				allTags, c.Tags = add(allTags, e.Collectors[k].Tags)
			}
			allCollectors = append(allCollectors, c)
		}
		packed[i] = *e
		packed[i].Collectors = slices.Clip(allCollectors[first:])
	}
	return packed
}

// sameTags reports whether the collector at k has the tags of the one before it.
func sameTags(list []Collector, k int) bool {
	return k > 0 && slices.Equal(list[k].Tags, list[k-1].Tags)
}

// add appends a list to all, which has room for it, and returns both.
func add[T any](all, list []T) (longer, added []T) {
	longer = append(all, list...)
	return longer, slices.Clip(longer[len(all):])
}
