package source

import (
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/nanopack/pulse/relaywire"
)

// maxName leaves room in a name for a prefix and for what makes it unique.
const maxName = relaywire.MaxName - 32

func same(a, b Collector) bool {
	return a.Name == b.Name && a.Identity == b.Identity && slices.Equal(a.Tags, b.Tags)
}

// joined returns the common tags before a collector's own. Of two tags with one key the server counts
// only the first, so a common tag makes way for the collector's own one of that key. Common tags that
// are too many are left out.
func joined(common, own []string) []string {
	tags := make([]string, 0, len(common)+len(own))
	for _, tag := range common {
		key, _, ok := relaywire.SplitTag(tag)
		taken := ok && slices.ContainsFunc(own, func(tag string) bool { k, _, _ := relaywire.SplitTag(tag); return k == key })
		if !taken && len(tags)+len(own) < relaywire.MaxTags {
			tags = append(tags, tag)
		}
	}
	return append(tags, own...)
}

func sortedNames(m map[string]Collector) []string { return slices.Sorted(maps.Keys(m)) }

// Name makes text a part of a collector's or a stat's name: characters that a name may not hold, and
// those that are not ASCII, become underscores, and long text is cut.
func Name(text string) string {
	text = clean(text, "-:,")
	return text[:min(len(text), maxName)] // clean leaves ASCII only
}

// Tag returns key:value. It replaces what a tag may not hold and cuts the tag to its maximum
// length.
func Tag(key, value string) string {
	key = clean(key, ",:")
	t := key + ":" + value
	if relaywire.ValidTag(t) {
		return t
	}
	if t = key + ":" + strings.TrimSpace(strings.Map(tagRune, value)); relaywire.ValidTag(t) {
		return t
	}
	t = key + ":" + clean(value, ",")
	return t[:min(len(t), relaywire.MaxTag)]
}

// tagRune keeps what a tag may hold, with a semicolon for the comma.
func tagRune(c rune) rune {
	switch {
	case c == ',':
		return ';'
	case c < ' ', c == 0x7f:
		return ' '
	}
	return c
}

// clean replaces spaces, control characters, characters that are not ASCII and the reserved
// characters by underscores.
func clean(s, reserved string) string {
	return strings.Map(func(c rune) rune {
		if c <= ' ' || c >= 0x7f || strings.ContainsRune(reserved, c) {
			return '_'
		}
		return c
	}, s)
}

// Distinct makes the names of collectors that were found together distinct. Where several have one
// name, each of them gets a hash of its tags behind the name, so that a collector's name does not
// depend on the order in which they were found.
func Distinct(all []Collector) {
	count := make(map[string]int, len(all))
	for _, c := range all {
		count[c.Name]++
	}
	for i := range all {
		if count[all[i].Name] < 2 {
			continue
		}
		h := fnv.New64a()
		for _, tag := range all[i].Tags {
			h.Write([]byte(tag + ",")) // a hash never returns an error
		}
		all[i].Name += "_" + strconv.FormatUint(h.Sum64()>>32, 16)
	}
}

// Round rounds to two decimals, for percentages and other values of which more digits mean nothing.
func Round(v float64) float64 { return math.Round(v*100) / 100 }

// Globs are patterns in which * stands for any text, slashes included, and ? for one character.
type Globs []string

// Match reports whether any of the patterns matches all of s.
func (g Globs) Match(s string) bool {
	return slices.ContainsFunc(g, func(pattern string) bool { return match(pattern, s) })
}

// match goes back only to the last star, so that no pattern takes more than len(pattern)*len(s)
// steps.
func match(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// Filter chooses things by their names.
type Filter struct {
	// Include are the names to take; none means all.
	Include Globs
	// Exclude are the names to leave out. Nil means the default, which is nothing if Include is
	// given.
	Exclude Globs
}

// Allows reports whether the filter takes a name, with standard as the default for Exclude.
func (f Filter) Allows(name string, standard Globs) bool {
	exclude := f.Exclude
	if exclude == nil && len(f.Include) == 0 {
		exclude = standard
	}
	return (len(f.Include) == 0 || f.Include.Match(name)) && !exclude.Match(name)
}
