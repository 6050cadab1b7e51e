package main

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nanopack/pulse/internal/command"
)

// The error about a mistake in the config file names the line and describes the mistake in words.
// It never shows the file's content, because there are secrets in the file.
func TestConfigFileMistakes(t *testing.T) {
	const secret = "5ecret"
	for name, test := range map[string]struct{ text, want string }{
		"a byte order mark":          {"\xef\xbb\xbf{}", "line 1 of pulse.json: the file begins with a byte order mark"},
		"UTF-16":                     {"\xff\xfe{\x00}\x00", "pulse.json is not UTF-8 but UTF-16"},
		"UTF-16 without a mark":      {"\x00{\x00}", "pulse.json is not UTF-8 but UTF-16"},
		"Latin-1":                    {"{\n\"token\": \"5ecret\xe9\"}", "line 2 of pulse.json: a character is not UTF-8"},
		"an empty file":              {"", "pulse.json is empty"},
		"a file of blanks":           {" \n\n", "pulse.json is empty"},
		"a huge file":                {strings.Repeat(" ", command.MaxConfigFile+1), "pulse.json is longer than"},
		"a comment":                  {"{\n  \"token\": \"5ecret\", // mine\n  \"server\": true}", "line 2 of pulse.json: a comment"},
		"a comment first":            {"// mine\n{}", "line 1 of pulse.json: a comment"},
		"a comment last":             {"{}\n/* mine */", "line 2 of pulse.json: a comment"},
		"a hash":                     {"{\n# mine\n}", "line 2 of pulse.json: a comment"},
		"a trailing comma":           {"{\n\"server\": true,\n\n}", "line 2 of pulse.json: the comma before the closing }"},
		"a comma first":              {"{\n,\"server\": true}", "line 2 of pulse.json: a comma too many"},
		"two commas":                 {"{\"server\": true,\n,\"token\":\"5ecret\"}", "line 2 of pulse.json: a comma too many"},
		"a comma missing":            {"{\n\"server\": true\n\"token\": \"5ecret\"}", "line 2 of pulse.json: a comma is missing"},
		"a comma missing after text": {"{\n\"token\": \"5ecret\"\n\"server\": true}", "line 2 of pulse.json: a comma is missing"},
		"a colon missing":            {"{\n\"token\" \"5ecret\"}", "line 2 of pulse.json: a colon must stand"},
		"an equals sign":             {"{\n\"token\" = \"5ecret\"}", "line 2 of pulse.json: a colon must stand"},
		"a value missing":            {"{\n\"token\": ,\n\"server\": true}", "line 2 of pulse.json: a value is missing"},
		"a last value missing":       {"{\n\"token\":\n}", "line 2 of pulse.json: a value is missing"},
		"single quotes":              {"{\n'token': '5ecret'}", "line 2 of pulse.json: a quote that JSON does not know"},
		"a single-quoted value":      {"{\n\"token\": '5ecret'}", "line 2 of pulse.json: a quote that JSON does not know"},
		"typographic quotes":         {"{\n“token”: \"5ecret\"}", "line 2 of pulse.json: a quote that JSON does not know"},
		"a key without quotes":       {"{\ntoken: \"5ecret\"}", "line 2 of pulse.json: a key must be a text"},
		"a value without quotes":     {"{\n\"token\": 5ecret}", "line 2 of pulse.json: a value must be a text"},
		"True":                       {"{\"server\":\nTrue}", "line 2 of pulse.json: a value must be a text"},
		"a misspelled true":          {"{\n\"server\": ture}", "line 2 of pulse.json: a value must be a text"},
		"a number with a zero first": {"{\n\"retention\": 007}", "line 2 of pulse.json: a value must be a text"},
		"a number with a unit":       {"{\n\"poll-interval\": 5s}", "line 2 of pulse.json: a value must be a text"},
		"a brace missing":            {"{\n\"token\": \"5ecret\"\n\n", "line 2 of pulse.json: the closing } is missing"},
		"a brace missing in a word":  {"{\n\"server\": tr", "line 2 of pulse.json: the closing } is missing"},
		"the first brace missing":    {"\n\"token\": \"5ecret\"}", "line 2 of pulse.json: the file must be one JSON object"},
		"a quote missing":            {"{\n\"token\": \"5ecret,\n\"server\": true}", "line 2 of pulse.json: a text is not closed"},
		"a quote missing at the end": {"{\n\"token\": \"5ecret}", "line 2 of pulse.json: a text is not closed"},
		"a tab in a text":            {"{\n\"token\": \"5ecret\t\"}", "line 2 of pulse.json: a tab"},
		"a backslash":                {"{\n\"data-dir\": \"C:\\pulse\"}", "line 2 of pulse.json: a backslash"},
		"a second object":            {"{\"server\": true}\n{\"token\": \"5ecret\"}", "line 2 of pulse.json: something follows the JSON object"},
		"a list":                     {"\n[{\"token\": \"5ecret\"}]", "line 2 of pulse.json: the file must be one JSON object"},
		"null":                       {"null", "line 1 of pulse.json: the file must be one JSON object"},
		"yaml":                       {"token: 5ecret\n", "line 1 of pulse.json: the file must be one JSON object"},
		"a text alone":               {"\"5ecret\"", "line 1 of pulse.json: the file must be one JSON object"},
		"an unknown key":             {"{\n\"server\": true,\n\"poll_interval\": 5}", `line 3 of pulse.json: unknown key "poll_interval"; did you mean "poll-interval"?`},
		"the beginning of a key":     {"{\n\"poll\": 5}", `line 2 of pulse.json: unknown key "poll"; did you mean "poll-interval"?`},
		"a key of nothing":           {"{\n\"zzz\": 5}", `line 2 of pulse.json: unknown key "zzz"; pulse -h lists them`},
		"a key twice":                {"{\"token\": \"5ecret\",\n\"token\": \"5ecret2\"}", `line 2 of pulse.json: the key "token" is given twice`},
		"an object":                  {"{\n\"token\": {\"a\": \"5ecret\"}}", `line 2 of pulse.json: the value of "token" must be a text, a number, true or false, not an object`},
		"a list for a value":         {"{\n\"token\": [\"5ecret\"]}", `line 2 of pulse.json: the value of "token" must be a text, a number, true or false, not a list`},
		"null for a value":           {"{\n\"token\": null}", `line 2 of pulse.json: the value of "token" must be a text, a number, true or false, not null`},
		"a wrong type":               {"{\n\"poll-interval\": true}", "--poll-interval: must be a whole number from 1 to 86400, not \"true\" (line 2 of pulse.json)"},
		"a wrong value":              {"{\n\n\"log-level\": \"debg\"}", "did you mean DEBUG? (line 3 of pulse.json)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			writeFile(t, "pulse.json", test.text)
			var stdout, stderr bytes.Buffer
			code := run(context.Background(), []string{"--check-config", "-c", "pulse.json"}, &stdout, &stderr)
			got := stderr.String()
			if code != command.ExitUsage || !strings.Contains(got, test.want) || strings.Count(got, "\n") != 1 || strings.Contains(got, secret) {
				t.Errorf("exit %d, it says %q, want %q", code, got, test.want)
			}
		})
	}
}

// A path that is not a file is an error too.
func TestConfigFileThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{dir: "is a directory", filepath.Join(dir, "none"): "no such file"} {
		if _, err := ParseConfig([]string{"-c", path}); err == nil || !strings.HasPrefix(err.Error(), "--config-file: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
