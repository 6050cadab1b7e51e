// Package timezone finds the time zone that a process should use. It follows the rules of Go and
// libc, with one difference: a TZ that names no zone is an error, not UTC. The binary contains the
// zones of the IANA database, because containers often have none of their own.
package timezone

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

// A Zone is the requested time zone, or UTC with a warning that gives the reason.
type Zone struct {
	Location *time.Location
	Warning  string // "" if Location is the requested zone
}

// Local returns the zone that the environment requests. TZ is the name of a zone, a rule of POSIX,
// or the path of a file, each with or without a colon in front, or empty for UTC. Without TZ the
// zone is that of /etc/localtime. The error is one line; it names TZ and the nearest name that
// exists.
func Local() (Zone, error) {
	tz, ok := os.LookupEnv("TZ")
	if !ok {
		return ofHost("/etc/localtime"), nil
	}
	name := strings.TrimPrefix(tz, ":")
	switch {
	case name == "":
		return Zone{Location: time.UTC}, nil
	case filepath.IsAbs(name):
		location, err := ofFile(name)
		if err != nil {
			return Zone{}, fmt.Errorf("TZ: %q is no file of a time zone: %w", tz, err)
		}
		return Zone{Location: location}, nil
	}
	if location, err := time.LoadLocation(name); err == nil && name != "Local" {
		return Zone{Location: location}, nil
	}
	if location := ofRule(name); location != nil {
		return Zone{Location: location}, nil
	}
	if meant := nearest.Name(name, names("/usr/share/zoneinfo")); meant != "" {
		return Zone{}, fmt.Errorf("TZ: there is no time zone %q; did you mean %q?", tz, meant)
	}
	return Zone{}, fmt.Errorf("TZ: there is no time zone %q; "+
		"names are like Europe/Berlin, and UTC for none", tz)
}

// ofHost returns the zone of a host whose /etc/localtime is at path. A host without that file is in
// UTC.
func ofHost(path string) Zone {
	location, err := ofFile(path)
	if err == nil && path == "/etc/localtime" {
		return Zone{Location: time.Local} // Go has read the same file
	}
	if err == nil {
		return Zone{Location: location}
	}
	target, linkErr := os.Readlink(path)
	if errors.Is(err, fs.ErrNotExist) && linkErr != nil {
		return Zone{Location: time.UTC}
	}
	// The path may be a link into a directory of zones that is not installed. The target of the
	// link then names the zone.
	if _, name, ok := strings.Cut(target, "zoneinfo/"); ok {
		if location, err := time.LoadLocation(name); err == nil {
			return Zone{Location: location}
		}
	}
	return Zone{time.UTC, fmt.Sprintf("%s is no time zone, so local times are UTC: %v", path, err)}
}

func ofFile(path string) (*time.Location, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return time.LoadLocationFromTZData(path, data)
}

// posixRule matches the beginning of a rule such as CET-1CEST,M3.5.0,M10.5.0/3.
var posixRule = regexp.MustCompile(`^([A-Za-z]{3,}|<[A-Za-z0-9+-]{3,}>)[+-]?[0-9]`)

// ofRule returns the zone of a POSIX rule, or nil if rule is not one. Package time reads such a
// rule only at the end of a zone's file. So ofRule builds a file of version 2 (RFC 9636) that holds
// the rule and one zone named "?".
func ofRule(rule string) *time.Location {
	if !posixRule.MatchString(rule) {
		return nil
	}
	header := func(types, characters uint32) []byte {
		b := append([]byte("TZif2"), make([]byte, 15+4*4)...)
		b = binary.BigEndian.AppendUint32(b, types)
		return binary.BigEndian.AppendUint32(b, characters)
	}
	data := append(header(0, 0), header(1, 2)...)
	data = append(data, 0, 0, 0, 0, 0, 0) // offset, daylight saving, index of the name
	data = append(data, "?\x00\n"+rule+"\n"...)
	location, err := time.LoadLocationFromTZData(rule, data)
	if err != nil {
		return nil
	}
	if name, _ := time.Unix(0, 0).In(location).Zone(); name == "?" { // time did not understand the rule
		return nil
	}
	return location
}

// names returns the names of the zones below dir on this host; there may be none.
func names(dir string) (list []string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if name, err := filepath.Rel(dir, path); err == nil && d != nil && !d.IsDir() {
			list = append(list, name)
		}
		return nil // files that cannot be read are only not suggested
	})
	return list
}
