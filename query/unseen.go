package query

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nanopack/pulse/internal/influxnames"
	"github.com/nanopack/pulse/internal/nearest"
	"github.com/nanopack/pulse/kapa"
	"github.com/nanopack/pulse/projector/latest"
)

// seen is what readings there are, for one request: those in memory, and where those do not have a
// name, those that InfluxDB keeps. It is used by one goroutine, for one request.
type seen struct {
	server *Server
	ctx    context.Context
	stats  []string
	keys   []string
	hosts  map[string]bool                       // relays, with readings or without
	values map[string]map[string]map[string]bool // in memory: stat, key, value
	stored map[string][]string                   // what InfluxDB answered, by question
	failed bool                                  // InfluxDB did not answer
}

// warnOfUnseen adds a warning to each alert on a stat, a tag or a tag's value that no reading has.
// The name is probably misspelled, and the alert would watch nothing in silence.
func (s *Server) warnOfUnseen(ctx context.Context, alerts []kapa.View) {
	if len(alerts) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, namesTimeout)
	defer cancel()
	k := s.newSeen(ctx)
	for i := range alerts {
		k.warn(&alerts[i])
	}
}

// newSeen begins a request's questions.
func (s *Server) newSeen(ctx context.Context) *seen {
	k := &seen{server: s, ctx: ctx, stats: s.o.Latest.Stats(), keys: append(slices.Clip(s.o.Latest.TagKeys()), influxnames.Host),
		hosts: map[string]bool{}, values: map[string]map[string]map[string]bool{}, stored: map[string][]string{}}
	for _, r := range s.o.Relays.Relays() {
		k.hosts[r.ID] = true
	}
	return k
}

func (k *seen) warn(v *kapa.View) {
	var says []string
	if v.Warning != "" {
		says = append(says, v.Warning)
	}
	hasStat, like := k.hasStat(v.Metric)
	if !hasStat {
		says = append(says, fmt.Sprintf("no reading of %q is known%s", v.Metric, meant(v.Metric, like)))
	}
	keys := slices.Sorted(maps.Keys(v.Tags))
	for _, key := range v.By {
		if _, filtered := v.Tags[key]; !filtered {
			keys = append(keys, key)
		}
	}
	for _, key := range keys {
		if ok, like := k.hasKey(key); !ok {
			says = append(says, fmt.Sprintf("no reading is known that has the tag %q%s", key, meant(key, like)))
			continue
		}
		value, filtered := v.Tags[key]
		if !filtered || !hasStat {
			continue
		}
		if ok, like := k.hasTag(v.Metric, key, value); !ok {
			says = append(says, fmt.Sprintf("no reading of %q is known that has the tag %q%s", v.Metric, key+":"+value, meant(value, like)))
		}
	}
	v.Warning = strings.Join(says, "; ")
}

// hasStat reports whether there are readings of the stat, and names the stats that there are. Like
// hasKey and hasTag, it takes for known what InfluxDB would have to be asked about while it does not
// answer.
func (k *seen) hasStat(stat string) (ok bool, others []string) {
	if slices.Contains(k.stats, stat) {
		return true, nil
	}
	fields := slices.DeleteFunc(slices.Clone(k.ask(showFields, nil)), influxnames.IsCompanion)
	return slices.Contains(fields, k.server.o.Stored(stat)) || k.failed, slices.Concat(k.stats, fields)
}

// hasKey reports whether a reading has the tag, and names the tags that there are.
func (k *seen) hasKey(key string) (ok bool, others []string) {
	if slices.Contains(k.keys, key) {
		return true, nil
	}
	all := k.ask(showTags, nil)
	return slices.Contains(all, k.server.o.Stored(key)) || k.failed, slices.Concat(k.keys, all)
}

// hasTag reports whether a reading has the tag with the value, and names the values that readings
// of the stat in memory have.
func (k *seen) hasTag(stat, key, value string) (ok bool, others []string) {
	values := k.of(stat, key)
	return values[value] || k.hasValue(key, value) || k.failed, slices.Sorted(maps.Keys(values))
}

// of returns the values of a tag in the readings of the stat that are in memory.
func (k *seen) of(stat, key string) map[string]bool {
	tags := k.values[stat]
	if tags == nil {
		tags = map[string]map[string]bool{}
		k.server.o.Latest.Select(stat, nil, 0, func(r latest.Reading) {
			for _, tag := range r.Tags {
				if tags[tag.Key] == nil {
					tags[tag.Key] = map[string]bool{}
				}
				tags[tag.Key][tag.Value] = true
			}
		})
		k.values[stat] = tags
	}
	return tags[key]
}

// hasValue reports whether InfluxDB has a series with the tag, or a relay is the host.
func (k *seen) hasValue(key, value string) bool {
	if key == influxnames.Host && k.hosts[value] {
		return true
	}
	column := quote(k.server.o.Stored(key))
	return len(k.ask(`SHOW TAG VALUES `+onWindows+` WITH KEY = `+column+` WHERE `+column+` = $value`,
		map[string]any{"value": k.server.o.Stored(value)})) > 0
}

// ask asks InfluxDB the same question once. After InfluxDB failed to answer, it is not asked again.
func (k *seen) ask(statement string, params map[string]any) []string {
	question := fmt.Sprint(statement, params)
	names, asked := k.stored[question]
	if asked || k.failed {
		return names
	}
	names, err := k.server.askNames(k.ctx, statement, params)
	if err != nil {
		k.failed = true
		k.server.log.Debug("whether an alert's names are known is not known", "error", err)
	}
	k.stored[question] = names
	return names
}

// meant ends a sentence with the name that was probably meant.
func meant(name string, candidates []string) string {
	if like := nearest.Name(name, candidates); like != "" {
		return fmt.Sprintf(": did you mean %q?", like)
	}
	return ""
}
