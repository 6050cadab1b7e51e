package command

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/peterbourgon/ff/v3"

	"github.com/nanopack/pulse/internal/jsonmistake"
	"github.com/nanopack/pulse/internal/strictjson"
)

// MaxConfigFile bounds the config file, in bytes. A longer file is no config file.
const MaxConfigFile = 1 << 20

// A ConfigFile says what a config file may hold.
type ConfigFile struct {
	Command string   // the command whose -h lists the keys
	Keys    []string // long names of flags
	// Lists are the keys that may also hold a list of texts, with what stands between these in the
	// value of the flag.
	Lists map[string]string
	// Objects are the keys that may also hold an object, with what makes the value of the flag of it.
	// A list and null are given to it as well, so that it says what is meant.
	Objects map[string]ObjectReader
	Example string // for a message about a file that is none
}

// An ObjectReader returns an object of the config file as the command line would have it. It fails for
// a list and for null. The error does not repeat what may be a secret.
type ObjectReader func(object json.RawMessage) (value string, err error)

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

// read calls set for each key of the config file, with the line of the key, until set fails.
func (c ConfigFile) read(path string, r io.Reader, set func(key, value string, line int) error) error {
	text, err := io.ReadAll(io.LimitReader(r, MaxConfigFile+1))
	if err != nil {
		return fmt.Errorf("--config-file: %w", err)
	}
	return c.Parse(path, text, set)
}

// Parse reads one JSON object whose keys are long flag names, and calls set for each key, with
// its line, until set fails. A key may be there once: of two values one would be ignored without a
// word. The errors name the path.
func (c ConfigFile) Parse(path string, text []byte, set func(key, value string, line int) error) error {
	if len(text) > MaxConfigFile {
		return &fileError{path, 0, fmt.Sprintf("is longer than %d bytes: is it the config file?", MaxConfigFile)}
	}
	if line, mistake := jsonmistake.Find(text, c.Example); mistake != "" {
		return &fileError{path, line, mistake}
	}
	fields, err := strictjson.Fields(text)
	if err != nil {
		return &fileError{path, 0, "is not valid JSON"} // jsonmistake.Find reports what can be wrong
	}
	for _, f := range fields {
		line, wrong := jsonmistake.Line(text, f.End), ""
		value, kind := configValue(f.Value)
		if separator, ok := c.Lists[f.Name]; ok && kind == "a list" {
			value, kind = listValue(f.Value, separator)
		}
		if read := c.Objects[f.Name]; read != nil && kind != "" {
			kind = ""
			if value, err = read(f.Value); err != nil {
				wrong = fmt.Sprintf("%q: %v", f.Name, err)
			}
		}
		switch {
		case f.Name == "config-file":
			wrong = `"config-file" cannot be a key of the config file itself`
		case !slices.Contains(c.Keys, f.Name):
			wrong = fmt.Sprintf("unknown key %.100q%s", f.Name, DidYouMean(f.Name, c.Keys, "", c.Command))
		case f.Again:
			wrong = fmt.Sprintf("the key %q is given twice", f.Name)
		case wrong != "":
		case kind != "":
			wrong = fmt.Sprintf("the value of %q must be a text, a number, true or false, not %s", f.Name, kind)
		}
		if wrong != "" {
			return &fileError{path, line, wrong}
		}
		if err := set(f.Name, value, line); err != nil {
			return err
		}
	}
	return nil
}

// configValue returns the value of a key as the command line would have it. kind names a value that
// no key can have; it is "" for one that can.
func configValue(raw json.RawMessage) (value, kind string) {
	switch raw[0] {
	case 'n':
		return "", "null"
	case '[':
		return "", "a list"
	case '{':
		return "", "an object"
	case '"':
		_ = json.Unmarshal(raw, &value) // it is a valid text
		return value, ""
	}
	return string(raw), ""
}

// listValue returns a list of texts as the command line would have it. kind says what the list must
// not be.
func listValue(raw json.RawMessage, separator string) (value, kind string) {
	var texts []string
	if err := json.Unmarshal(raw, &texts); err != nil {
		return "", "a list of other things than texts"
	}
	for _, text := range texts {
		if strings.Contains(text, separator) {
			return "", fmt.Sprintf("a list whose texts hold %q", separator)
		}
	}
	return strings.Join(texts, separator), ""
}

// SetFromFile sets the flags that neither the command line nor the environment has set, from the
// file of --config-file. example is a short config file, for a message about a file that is none.
func SetFromFile(fs *flag.FlagSet, example string) error {
	given, path := givenFlags(fs), fs.Lookup("config-file").Value.String()
	file := ConfigFile{Command: fs.Name(), Example: example, Lists: make(map[string]string), Objects: make(map[string]ObjectReader)}
	fs.VisitAll(func(f *flag.Flag) {
		file.Keys = append(file.Keys, f.Name)
		switch v := f.Value.(type) {
		case *List:
			file.Lists[f.Name] = v.Separator
		case *Value:
			file.Objects[f.Name] = v.Object
		}
	})
	parse := func(r io.Reader, set func(name, value string) error) error {
		return file.read(path, r, func(key, text string, line int) error {
			from := fmt.Sprintf("line %d of %s", line, path)
			if err := set(key, text); err != nil { // of a switch; the text of another may be anything, and a secret
				return fmt.Errorf("--%s: must be true or false (%s)", key, from)
			}
			if v, ok := fs.Lookup(key).Value.(*Value); ok && !given[key] {
				v.From = from
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
