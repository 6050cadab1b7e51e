package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/peterbourgon/ff/v3"

	"github.com/nanopack/pulse/internal/nearest"
)

// givenFlags are the names of the flags that were set.
func givenFlags(fs *flag.FlagSet) map[string]bool {
	given := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	return given
}

// environmentName is the environment variable of a flag: PULSE_POLL_INTERVAL of poll-interval.
func environmentName(prefix, name string) string {
	return prefix + "_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// setFromEnvironment sets the flags that the command line does not have from their environment variables. A
// variable that is set but empty is the empty text, as --flag= and "flag": "" are; ff would take it for unset.
func setFromEnvironment(fs *flag.FlagSet, prefix string) (err error) {
	given := givenFlags(fs)
	fs.VisitAll(func(f *flag.Flag) {
		name := environmentName(prefix, f.Name)
		value, ok := os.LookupEnv(name)
		if !ok || given[f.Name] || err != nil {
			return
		}
		from := name
		if value == "" {
			from += " is set, but empty; unset it for the default"
		}
		if v, ok := f.Value.(*rawValue); ok {
			v.from = from
		}
		if fs.Set(f.Name, value) == nil {
			return
		}
		if b, ok := f.Value.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() {
			err = fmt.Errorf("--%s: must be true or false, not %q (%s)", f.Name, value, from)
			return
		}
		err = fmt.Errorf("--%s: cannot be %q (%s)", f.Name, value, from)
	})
	return err
}

// setFromFile sets the flags that neither the command line nor the environment has from the file of --config-file, whose
// keys are their names.
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

// unknownEnvironment warns of each variable with the prefix that belongs to none of the flags: it is most
// likely a misspelled one. It does not repeat the value, which may be a secret.
func unknownEnvironment(prefix string, flags, environ []string) (warnings []string) {
	known := make([]string, len(flags))
	for i, name := range flags {
		known[i] = environmentName(prefix, name)
	}
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, prefix+"_") || slices.Contains(known, name) {
			continue
		}
		warning := name + ": no flag has this environment variable"
		if meant := nearest.Name(name, known); meant != "" {
			warning += "; did you mean " + meant + "?"
		}
		warnings = append(warnings, warning)
	}
	return warnings
}

// flagNames are the long names of options.
func flagNames(all []option) []string {
	names := make([]string, len(all))
	for i, o := range all {
		names[i] = o.long
	}
	return names
}

// meantBy is what was probably meant by a name that does not exist: the one that it misspells, or the one of
// which it is the beginning; "" if there is none.
func meantBy(name string, names []string) string {
	return cmp.Or(nearest.Name(name, names), longestBeginning(name, names))
}

// didYouMean is the end of an error about a flag or key that does not exist; prefix is what flags begin with.
func didYouMean(name string, names []string, prefix string) string {
	if meant := meantBy(name, names); meant != "" {
		return fmt.Sprintf("; did you mean %q?", prefix+meant)
	}
	return "; pulse -h lists them"
}

// longestBeginning is the name that shares the longest beginning with a wrong one, "" if none shares three letters.
func longestBeginning(name string, names []string) string {
	best, length := "", 2
	for _, candidate := range names {
		n := 0
		for n < min(len(name), len(candidate)) && strings.EqualFold(name[n:n+1], candidate[n:n+1]) {
			n++
		}
		if n > length {
			best, length = candidate, n
		}
	}
	return best
}

// unknownFlag is the error about the first flag in args that a command does not have, nil if it has them all.
// Package flag would name it without saying what was meant. The server's short flags, which the command does not
// have, stand for its long ones.
func unknownFlag(fs *flag.FlagSet, args []string) error {
	for i := 0; i < len(args); i++ {
		name := strings.TrimPrefix(strings.TrimPrefix(args[i], "-"), "-")
		if args[i] == "--" || name == args[i] || name == "" {
			return nil // flags end here
		}
		name, _, hasValue := strings.Cut(name, "=")
		f := fs.Lookup(name)
		if f == nil && name != "h" && name != "help" {
			given := args[i][:strings.Index(args[i], name)+len(name)] // with its dashes, without a value
			var names []string
			fs.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
			meant := meantBy(name, names)
			for _, o := range options() {
				if o.short == name && slices.Contains(names, o.long) {
					meant = o.long
				}
			}
			if meant != "" {
				return fmt.Errorf("unknown flag %s; did you mean --%s?", given, meant)
			}
			return fmt.Errorf("unknown flag %s; %s -h lists them", given, fs.Name())
		}
		if f == nil {
			return nil
		}
		if b, ok := f.Value.(interface{ IsBoolFlag() bool }); !hasValue && (!ok || !b.IsBoolFlag()) {
			i++ // its value, whatever it looks like
		}
	}
	return nil
}
