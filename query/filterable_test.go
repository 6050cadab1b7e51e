package query

import (
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/tagfilter"
)

// TestCheckFilter checks that tagfilter.Check and the routes agree: an accepted filter is a filter on
// every route, and a refused one is not a filter on all of them.
func TestCheckFilter(t *testing.T) {
	filters := []struct {
		key, value string
		ok         bool
	}{
		{"service", "web1", true}, {"rack", "7", true}, {"a=b", "c:d", true}, {"Host", "x", true}, {"Start", "x", true}, {"caf\u00e9", "\u00e9", true}, {strings.Repeat("k", 256), "v", true},
		{"stat", "x", true}, {"value", "x", true}, {"limit", "x", true},
		{"verb", "mean", false}, {"start", "1h", false}, {"stop", "0", false}, {"backfill", "1", false}, {"step", "1m", false}, {"by", "host", false}, {"ticket", "x", false}, {"X-AUTH-TOKEN", "x", false},
		{"x-auth-token", "x", false}, {"last-event-id", "7", false}, {"time", "x", false}, {"TIME", "x", false}, {"now()", "x", false}, {"_name", "x", false},
		{"_tagKey", "x", false}, {"_fieldkey", "x", false}, {strings.Repeat("k", 257), "v", false}, {"a\u0085b", "v", false}, {"a", "\u0085", false}, {"\ufeffa", "v", false},
		{"a", strings.Repeat("v", 1025), false},
	}
	for _, f := range filters {
		query := url.Values{f.key: {f.value}}.Encode()
		is := func(fs []string, err error) bool { return err == nil && slices.Contains(fs, f.key) }
		latest, err1 := parseSelection(query, 0, testNow, time.UTC)
		history, err2 := parseSelection(query, time.Hour*24, testNow, time.UTC)
		ranged, err4 := parseRange(query, testNow, time.UTC)
		live, err3 := parseLive(httptest.NewRequest("GET", "/live?"+query, nil), "")
		var inLive []string
		for key := range live.Filters {
			inLive = append(inLive, key)
		}
		all := is(keysOf(latest.filters), err1) && is(keysOf(history.filters), err2) && is(inLive, err3) && is(keysOf(ranged.filters), err4)
		if err := tagfilter.Check(f.key, f.value); (err == nil) != f.ok || all != f.ok {
			t.Errorf("%.40q: %v; a filter everywhere: %v, want %v", f.key, err, all, f.ok)
		}
	}
}

func keysOf(fs filters) (keys []string) {
	for _, f := range fs {
		keys = append(keys, f.key)
	}
	return keys
}
