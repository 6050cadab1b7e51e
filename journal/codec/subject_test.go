package codec

import "testing"

func TestToken(t *testing.T) {
	for relay, want := range map[string]string{"web-1_A": "web-1_A", "a.b": "a%2Eb", "a b": "a%20b", "*": "%2A", ">": "%3E", "é": "%C3%A9", "%41": "%2541", "@[`{/:": "%40%5B%60%7B%2F%3A", "": ""} {
		if got := Token(relay); got != want {
			t.Errorf("%q becomes %q, want %q", relay, got, want)
		}
	}
}
