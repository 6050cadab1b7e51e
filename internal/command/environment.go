package command

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/nanopack/pulse/internal/nearest"
)

// givenFlags returns the names of the flags that were set.
func givenFlags(fs *flag.FlagSet) map[string]bool {
	given := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	return given
}

// EnvironmentName returns the environment variable of a flag: PULSE_POLL_INTERVAL for
// poll-interval.
func EnvironmentName(prefix, name string) string {
	return prefix + "_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// SetFromEnvironment sets the flags that the command line did not set, from their environment
// variables. A variable that is set but empty means the empty text, as --flag= and "flag": "" do.
// Package ff would treat it as not set.
func SetFromEnvironment(fs *flag.FlagSet, prefix string) (err error) {
	given := givenFlags(fs)
	fs.VisitAll(func(f *flag.Flag) {
		name := EnvironmentName(prefix, f.Name)
		value, ok := os.LookupEnv(name)
		if !ok || given[f.Name] || err != nil {
			return
		}
		from := name
		if value == "" {
			from += " is set, but empty; unset it for the default"
		}
		if v, ok := f.Value.(*Value); ok {
			v.From = from
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

// UnknownEnvironment returns a warning for each variable with the prefix that belongs to no flag,
// because its name is most likely misspelled. A warning does not repeat the value, which may be a
// secret.
func UnknownEnvironment(prefix string, flags, environ []string) (warnings []string) {
	known := make([]string, len(flags))
	for i, name := range flags {
		known[i] = EnvironmentName(prefix, name)
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
