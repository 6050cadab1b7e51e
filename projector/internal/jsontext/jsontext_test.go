package jsontext

import (
	"encoding/json"
	"maps"
	"testing"

	"github.com/nanopack/pulse/projector/internal/lookup"
)

// FuzzAppendString checks that encoding/json reads back the string that was appended, whatever its
// bytes were.
func FuzzAppendString(f *testing.F) {
	f.Add("host0", "a\nb\"\\\x00\x7f")
	f.Add("\xff\xed\xa0\x80", "\xc3\x28\u2028\U0010ffff\ufffd")
	f.Fuzz(func(t *testing.T, key, value string) {
		var s string
		if err := json.Unmarshal(AppendString(nil, value), &s); err != nil || s != string([]rune(value)) {
			t.Fatalf("%q became %q: %v", value, s, err)
		}
		var m map[string]string
		text := AppendTags(nil, []lookup.Tag{{Key: "a" + key, Value: value}, {Key: "b", Value: key}})
		want := map[string]string{"a" + string([]rune(key)): s, "b": string([]rune(key))}
		if err := json.Unmarshal(text, &m); err != nil || !maps.Equal(m, want) {
			t.Fatalf("%q: %v", text, err)
		}
	})
}
