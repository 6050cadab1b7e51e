package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	_ "time/tzdata" // containers often have no zones of their own

	"github.com/nanopack/pulse/internal/nearest"
)

// A zone is where local times are of: the slots of /daily, and dates without a zone of their own.
type zone struct {
	location *time.Location
	warning  string // why it is not the one that was meant; "" if it is
}

// localZone finds the zone that the environment asks for, as Go and libc do: TZ is a zone's name, a rule of
// POSIX or the path of a file, each with or without a colon before it, or empty for UTC; without TZ it is what
// /etc/localtime says. Unlike theirs, a TZ that names nothing is an error.
func localZone() (zone, error) {
	tz, ok := os.LookupEnv("TZ")
	if !ok {
		return systemZone("/etc/localtime"), nil
	}
	name := strings.TrimPrefix(tz, ":")
	switch {
	case name == "":
		return zone{location: time.UTC}, nil
	case filepath.IsAbs(name):
		location, err := fileZone(name)
		if err != nil {
			return zone{}, fmt.Errorf("TZ: %q is no file of a time zone: %w", tz, err)
		}
		return zone{location: location}, nil
	}
	if location, err := time.LoadLocation(name); err == nil && name != "Local" {
		return zone{location: location}, nil
	}
	if location := ruleZone(name); location != nil {
		return zone{location: location}, nil
	}
	if meant := nearest.Name(name, zoneNames("/usr/share/zoneinfo")); meant != "" {
		return zone{}, fmt.Errorf("TZ: there is no time zone %q; did you mean %q?", tz, meant)
	}
	return zone{}, fmt.Errorf("TZ: there is no time zone %q; names are like Europe/Berlin, and UTC for none", tz)
}

// systemZone is the zone of a host. Where there is none it is UTC.
func systemZone(path string) zone {
	location, err := fileZone(path)
	if err == nil && path == "/etc/localtime" {
		return zone{location: time.Local} // Go has read it too
	}
	if err == nil {
		return zone{location: location}
	}
	target, linkErr := os.Readlink(path)
	if errors.Is(err, fs.ErrNotExist) && linkErr != nil {
		return zone{location: time.UTC}
	}
	// A link into a directory of zones that is not installed: its name says which zone is meant.
	if _, name, ok := strings.Cut(target, "zoneinfo/"); ok {
		if location, err := time.LoadLocation(name); err == nil {
			return zone{location: location}
		}
	}
	return zone{time.UTC, fmt.Sprintf("%s is no time zone, so local times are UTC: %v", path, err)}
}

func fileZone(path string) (*time.Location, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return time.LoadLocationFromTZData(path, data)
}

// posixRule is the beginning of a rule such as CET-1CEST,M3.5.0,M10.5.0/3.
var posixRule = regexp.MustCompile(`^([A-Za-z]{3,}|<[A-Za-z0-9+-]{3,}>)[+-]?[0-9]`)

// ruleZone is the zone of a POSIX rule, nil if it is none. Package time reads such a rule at the end of a zone's
// file: so it is given a file of version 2 (RFC 9636) with nothing before the rule but one zone of the name "?".
func ruleZone(rule string) *time.Location {
	if !posixRule.MatchString(rule) {
		return nil
	}
	header := func(types, characters uint32) []byte {
		b := append([]byte("TZif2"), make([]byte, 15+4*4)...)
		return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, types), characters)
	}
	data := append(header(0, 0), header(1, 2)...)
	data = append(data, 0, 0, 0, 0, 0, 0) // offset, daylight saving, index of its name
	data = append(data, "?\x00\n"+rule+"\n"...)
	location, err := time.LoadLocationFromTZData(rule, data)
	if err != nil {
		return nil
	}
	if name, _ := time.Unix(0, 0).In(location).Zone(); name == "?" { // the rule was not understood
		return nil
	}
	return location
}

// zoneNames are the names of the zones that this host has; none if it has none.
func zoneNames(dir string) (names []string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if name, err := filepath.Rel(dir, path); err == nil && d != nil && !d.IsDir() {
			names = append(names, name)
		}
		return nil // what cannot be read is only not suggested
	})
	return names
}
