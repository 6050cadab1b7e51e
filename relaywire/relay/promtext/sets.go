package promtext

import (
	"errors"
	"slices"
	"strings"

	"github.com/nanopack/pulse/relaywire"
	"github.com/nanopack/pulse/relaywire/relay/source"
)

// Further reasons why a sample is left out.
var (
	ErrName      = errors.New("name")
	ErrDuplicate = errors.New("duplicate")
	ErrTooMany   = errors.New("too many series")
)

// Set holds the values that have the same tags, by the stat's name.
type Set struct {
	Tags   []string // sorted by key
	Values map[string]float64
}

// Sets collects values by their tags: one set becomes one collector, because the tags of a collector
// belong to all its stats.
type Sets struct{ byTags map[string]*Set }

// NewSets returns an empty collection.
func NewSets() *Sets { return &Sets{map[string]*Set{}} }

// Series returns what identifies a sample's series: the name of the stat and the tags, sorted. Labels
// become tags key:value; the label host becomes exported_host, because host is always the relay's id.
// The error is ErrName.
func Series(s Sample) (stat string, tags []string, err error) {
	stat = source.Name(s.Name)
	if !relaywire.ValidName(stat) {
		return stat, nil, ErrName
	}
	for _, l := range s.Labels {
		name := l.Name
		if name == "host" {
			name = "exported_host"
		}
		tags = append(tags, source.Tag(name, l.Value))
	}
	slices.Sort(tags)
	return stat, tags, nil
}

// Add adds a value. The tags are sorted.
func (s *Sets) Add(tags []string, stat string, value float64) {
	key := Key(tags)
	set := s.byTags[key]
	if set == nil {
		set = &Set{Tags: tags, Values: map[string]float64{}}
		s.byTags[key] = set
	}
	set.Values[stat] = value
}

// Key identifies a set among others.
func Key(tags []string) string { return strings.Join(tags, ",") } // a tag holds no comma

// Get returns the set with exactly these tags, or nil.
func (s *Sets) Get(key string) *Set { return s.byTags[key] }

// All returns the sets, sorted by their tags.
func (s *Sets) All() []*Set {
	all := make([]*Set, 0, len(s.byTags))
	for _, set := range s.byTags {
		all = append(all, set)
	}
	slices.SortFunc(all, func(a, b *Set) int { return slices.Compare(a.Tags, b.Tags) })
	return all
}

// CollectorName makes a name of a prefix and the values of the tags, such as
// textfile_smartmon_dev_sda_sat. It holds letters, digits, dots and underscores only.
func (s *Set) CollectorName(prefix string) string {
	parts := []string{prefix}
	for _, tag := range s.Tags {
		_, value, _ := strings.Cut(tag, ":")
		parts = append(parts, strings.FieldsFunc(value, func(c rune) bool {
			return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_')
		})...)
	}
	return source.Name(strings.Join(parts, "_"))
}

// Unit returns the unit that Prometheus' naming rules give a stat, or "" where they give none.
func Unit(stat string) string {
	base := strings.TrimSuffix(stat, "_total")
	for _, suffix := range []string{"_bucket", "_count"} {
		if strings.HasSuffix(base, suffix) {
			return "count"
		}
	}
	base = strings.TrimSuffix(base, "_sum")
	for _, u := range [...]struct{ suffix, unit string }{
		{"_bytes", "bytes"}, {"_seconds", "seconds"}, {"_percent", "percent"}, {"_ratio", "ratio"}, {"_celsius", "celsius"}, {"_volts", "volts"},
		{"_amperes", "amperes"}, {"_joules", "joules"}, {"_watts", "watts"}, {"_grams", "grams"}, {"_meters", "meters"}, {"_hertz", "hertz"},
	} {
		if strings.HasSuffix(base, u.suffix) {
			return u.unit
		}
	}
	if base != stat {
		return "count"
	}
	return ""
}
