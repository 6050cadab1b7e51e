package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/nanopack/pulse/internal/command"
)

// FuzzConfigFile checks that an accepted config file is exactly one JSON object with known keys,
// each once. Every error is a line that names the flag.
func FuzzConfigFile(f *testing.F) {
	for _, text := range []string{`{"poll-interval": 5, "insecure": "false", "host-stats": true}`, `{"token": "a\u0000\n"}`, `{"token": 1e400}`, `{}`, `{} {}`, `{} }`, `{}]`, `[]`, `null`, ``,
		`{"token": "a", "token": "b"}`, `{"Token": "a"}`, `{"t\u006fken": "a"}`, `{"token": null}`, `{"token": {"a": 1}}`, `{"config-file": "x"}`, "\xef\xbb\xbf{}", `{"poll-interval": 1.0}`, `{"retention": 00}`,
		`{"edges": {"ams1": {"token": "a"}, "ber1": {"token": "b"}}}`, `{"edges": {}}`, `{"edges": "ams1=a"}`, `{"edges": {"a": {"token": "a,b"}}}`, `{"edges": {"a": null, "a\n": 1}}`} {
		f.Add([]byte(text))
	}
	all := options()
	file := command.ConfigFile{Command: "pulse", Keys: command.Names(flagTable(all)), Example: configExample, Objects: map[string]command.ObjectReader{"edges": edgesObject}}
	f.Fuzz(func(t *testing.T, text []byte) {
		given := make(map[string]string)
		err := file.Parse("pulse.json", text, func(name, value string, line int) error {
			if _, twice := given[name]; twice || !slices.ContainsFunc(all, func(o option) bool { return o.long == name && name != "config-file" }) {
				t.Fatalf("%q gives %q (twice: %t)", text, name, twice)
			}
			if line < 1 || line > 1+bytes.Count(text, []byte("\n")) {
				t.Fatalf("%q: %q is on line %d", text, name, line)
			}
			given[name] = value
			return nil
		})
		if err != nil {
			if !strings.HasPrefix(err.Error(), "--config-file: ") || strings.ContainsAny(err.Error(), "\r\n") {
				t.Fatalf("%q: the error is %q", text, err)
			}
			return
		}
		var object map[string]json.RawMessage // as a number may be too large for any type
		if err := json.Unmarshal(text, &object); err != nil || object == nil || len(object) != len(given) {
			t.Fatalf("%q was taken, with the keys %v: %v", text, given, err)
		}
		c := &Config{values: make(map[string]string)}
		for _, o := range all {
			if value, is := given[o.long]; is {
				if err := o.set(c, value); err != nil && strings.TrimSpace(err.Error()) == "" {
					t.Fatalf("--%s=%q is refused without a word", o.long, value)
				}
			}
		}
	})
}

// FuzzArgs checks that the short forms of flags become the long ones, whatever the arguments. The
// value of a flag is never treated as a flag.
func FuzzArgs(f *testing.F) {
	for _, text := range []string{"-s\n-p\n5", "-p5", "-p=5", "-sI", "--poll-interval\n-s", "--token\n--help", "-t\n-h", "--", "-", "-sp", "--=x", "-s=", "-é", "--server=false\nx"} {
		f.Add(text)
	}
	all := options()
	f.Fuzz(func(t *testing.T, text string) {
		args := strings.Split(text, "\n")
		before := slices.Clone(args)
		long, err := command.LongArgs(args, flagTable(all))
		if !slices.Equal(args, before) {
			t.Fatalf("%q has become %q", before, args)
		}
		if err != nil {
			if err.Error() == "" {
				t.Fatalf("%q is refused without a word", args)
			}
			return
		}
		again, err := command.LongArgs(long, flagTable(all))
		if err != nil || !slices.Equal(again, long) {
			t.Fatalf("%q became %q, and that %q, %v", args, long, again, err)
		}
	})
}
