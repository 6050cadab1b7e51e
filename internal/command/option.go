package command

import (
	"fmt"
	"slices"
	"strings"
)

// An Option is one flag, as help texts, completion scripts and manual pages show it.
type Option struct {
	Long    string
	Short   string // one letter, or none
	Kind    string // as -h prints it: "int", "string"; "" is a switch
	Default string
	Help    string
}

// Names returns the long names of options.
func Names(all []Option) []string {
	names := make([]string, len(all))
	for i, o := range all {
		names[i] = o.Long
	}
	return names
}

// A Value keeps the text of a flag as it was given. Whoever reads the text checks it later, so that
// the error is the same for flags, the environment and the config file.
type Value struct {
	Text   string
	Switch bool         // whether the flag is given without a value
	Object ObjectReader // of a config file; nil: it takes no object
	From   string       // the variable or the line that it comes from; "" for the command line and the default
}

// Origin returns where the value comes from, for the end of an error.
func (v *Value) Origin() string {
	if v.From == "" {
		return ""
	}
	return " (" + v.From + ")"
}

// String returns the text.
func (v *Value) String() string { return v.Text }

// Set takes any text.
func (v *Value) Set(s string) error { v.Text = s; return nil }

// IsBoolFlag tells package flag which flags have no value.
func (v *Value) IsBoolFlag() bool { return v.Switch }

// LongArgs rewrites the short forms -p 5, -p5, -p=5 and -sI to long ones, so that a key has the
// same name in every source.
func LongArgs(args []string, all []Option) ([]string, error) {
	var out []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return append(out, args[i:]...), nil
		}
		if len(arg) < 2 || arg[0] != '-' || arg[1] == '-' {
			out = append(out, arg)
			name, isLong := strings.CutPrefix(arg, "--")
			if !isLong || name == "help" {
				continue
			}
			name, _, hasValue := strings.Cut(name, "=")
			o := slices.IndexFunc(all, func(o Option) bool { return o.Long == name })
			switch {
			case o < 0:
				return nil, fmt.Errorf("unknown flag --%s%s", name, DidYouMean(name, Names(all), "--", "pulse"))
			case all[o].Kind == "" || hasValue:
			case i+1 >= len(args):
				return nil, fmt.Errorf("--%s needs a value", name)
			default:
				i++ // its value, whatever it looks like
				out = append(out, args[i])
			}
			continue
		}
		if arg == "-h" || arg == "-help" {
			return []string{"--help"}, nil
		}
		if name, _, _ := strings.Cut(arg[1:], "="); len(name) > 1 && slices.Contains(Names(all), name) {
			return nil, fmt.Errorf("unknown flag -%s; did you mean --%s?", name, name) // not -p with the value "oll-interval"
		}
		for rest := arg[1:]; rest != ""; {
			o := slices.IndexFunc(all, func(o Option) bool { return o.Short == rest[:1] })
			if o < 0 {
				return nil, fmt.Errorf("unknown flag -%s in %q: pulse -h lists the flags", rest[:1], arg)
			}
			value := strings.TrimPrefix(rest[1:], "=")
			isBool := all[o].Kind == ""
			switch {
			case isBool && !strings.HasPrefix(rest[1:], "="):
				out, rest = append(out, "--"+all[o].Long), rest[1:]
				continue
			case value == "" && !isBool && !strings.HasPrefix(rest[1:], "="):
				if i+1 >= len(args) {
					return nil, fmt.Errorf("--%s (-%s) needs a value", all[o].Long, all[o].Short)
				}
				i++
				value = args[i]
			}
			out, rest = append(out, "--"+all[o].Long+"="+value), ""
		}
	}
	return out, nil
}
