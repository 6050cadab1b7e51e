package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/peterbourgon/ff/v3"

	"github.com/nanopack/pulse/internal/jsonmistake"
)

const (
	// maxConfigFile bounds the config file, in bytes. A longer file is no config file.
	maxConfigFile = 1 << 20
	configExample = `{"server": true, "poll-interval": 60}`
)

// A fileError is a mistake in the config file. It does not repeat what the file holds, because that
// may be a secret.
type fileError struct {
	path string
	line int // 0: of the whole file
	text string
}

func (e *fileError) Error() string {
	if e.line == 0 {
		return fmt.Sprintf("--config-file: %s %s", e.path, e.text)
	}
	return fmt.Sprintf("--config-file: line %d of %s: %s", e.line, e.path, e.text)
}

// readConfigFile calls set for each key of the config file, with the line of the key, until set fails.
func readConfigFile(path string, r io.Reader, all []option, set func(key, value string, line int) error) error {
	text, err := io.ReadAll(io.LimitReader(r, maxConfigFile+1))
	if err != nil {
		return fmt.Errorf("--config-file: %w", err)
	}
	return parseConfigFile(path, text, all, set)
}

// parseConfigFile reads one flat JSON object whose keys are long flag names. A key may be there once:
// of two values one would be ignored without a word.
func parseConfigFile(path string, text []byte, all []option, set func(key, value string, line int) error) error {
	if len(text) > maxConfigFile {
		return &fileError{path, 0, fmt.Sprintf("is longer than %d bytes: is it the config file?", maxConfigFile)}
	}
	if line, mistake := jsonmistake.Find(text, configExample); mistake != "" {
		return &fileError{path, line, mistake}
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	_, err := d.Token() // the opening brace, which jsonmistake.Find has seen
	seen := make(map[string]bool)
	for err == nil && d.More() {
		var token json.Token
		if token, err = d.Token(); err != nil {
			break
		}
		key, _ := token.(string) // the decoder takes nothing else for a key
		line := jsonmistake.Line(text, int(d.InputOffset()))
		var value any
		if err = d.Decode(&value); err != nil {
			break
		}
		wrong := ""
		switch {
		case key == "config-file":
			wrong = `"config-file" cannot be a key of the config file itself`
		case !slices.ContainsFunc(all, func(o option) bool { return o.long == key }):
			wrong = fmt.Sprintf("unknown key %.100q%s", key, didYouMean(key, flagNames(all), ""))
		case seen[key]:
			wrong = fmt.Sprintf("the key %q is given twice", key)
		case kindOf(value) != "":
			wrong = fmt.Sprintf("the value of %q must be a text, a number, true or false, not %s", key, kindOf(value))
		}
		if wrong != "" {
			return &fileError{path, line, wrong}
		}
		seen[key] = true
		if err := set(key, fmt.Sprint(value), line); err != nil {
			return err
		}
	}
	if err != nil {
		return &fileError{path, 0, "is not valid JSON"} // not after jsonmistake.Find
	}
	return nil
}

// kindOf names the kind of a JSON value that no key can have, "" if value is fine.
func kindOf(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return ""
}

// setFromFile sets the flags that neither the command line nor the environment has set, from the file
// of --config-file.
func setFromFile(fs *flag.FlagSet) error {
	given, path := givenFlags(fs), fs.Lookup("config-file").Value.String()
	var all []option
	fs.VisitAll(func(f *flag.Flag) { all = append(all, option{long: f.Name}) })
	parse := func(r io.Reader, set func(name, value string) error) error {
		return readConfigFile(path, r, all, func(key, text string, line int) error {
			from := fmt.Sprintf("line %d of %s", line, path)
			if err := set(key, text); err != nil { // of a switch; the text of another may be anything, and a secret
				return fmt.Errorf("--%s: must be true or false (%s)", key, from)
			}
			if v, ok := fs.Lookup(key).Value.(*rawValue); ok && !given[key] {
				v.from = from
			}
			return nil
		})
	}
	err := ff.Parse(fs, nil, ff.WithConfigFileFlag("config-file"), ff.WithConfigFileParser(parse))
	if pathErr, ok := errors.AsType[*os.PathError](err); ok {
		return fmt.Errorf("--config-file: %w", pathErr)
	}
	return err
}
