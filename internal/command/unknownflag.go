package command

import (
	"cmp"
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/nanopack/pulse/internal/nearest"
)

// MeantBy returns the name that was probably meant by one that does not exist: the name that it
// misspells, or the name that begins with it. It returns "" if there is none.
func MeantBy(name string, names []string) string {
	return cmp.Or(nearest.Name(name, names), longestBeginning(name, names))
}

// DidYouMean returns the end of an error about a flag or key that does not exist. prefix is what a
// flag begins with. command is the command whose -h lists them.
func DidYouMean(name string, names []string, prefix, command string) string {
	if meant := MeantBy(name, names); meant != "" {
		return fmt.Sprintf("; did you mean %q?", prefix+meant)
	}
	return "; " + command + " -h lists them"
}

// longestBeginning returns the name that shares the longest beginning with a wrong one, or "" if no
// name shares three letters.
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

// unknownFlag returns an error about the first flag in args that a command does not have, or nil.
// The error says which flag was probably meant; that of package flag would not. shorts are short flags
// that the command does not have, with the long ones that they suggest.
func unknownFlag(fs *flag.FlagSet, shorts map[string]string, args []string) error {
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
			meant := MeantBy(name, names)
			if long := shorts[name]; slices.Contains(names, long) {
				meant = long
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
