package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/command"
)

// TZ has the same meaning as for Go and libc.
func TestTimeZone(t *testing.T) {
	winter, summer := time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC), time.Date(2026, 7, 15, 12, 0, 0, 0, time.UTC)
	zones := map[string][2]string{
		"":                             {"12:00 UTC", "12:00 UTC"},
		":":                            {"12:00 UTC", "12:00 UTC"},
		"UTC":                          {"12:00 UTC", "12:00 UTC"},
		":UTC":                         {"12:00 UTC", "12:00 UTC"},
		"Etc/UTC":                      {"12:00 UTC", "12:00 UTC"},
		"Asia/Kolkata":                 {"17:30 IST", "17:30 IST"},
		":Asia/Kolkata":                {"17:30 IST", "17:30 IST"},
		"Europe/Berlin":                {"13:00 CET", "14:00 CEST"},
		"EST5EDT":                      {"07:00 EST", "08:00 EDT"},
		"CET-1CEST,M3.5.0,M10.5.0/3":   {"13:00 CET", "14:00 CEST"},
		"UTC0":                         {"12:00 UTC", "12:00 UTC"},
		"IST-5:30":                     {"17:30 IST", "17:30 IST"},
		"<+0330>-3:30":                 {"15:30 +0330", "15:30 +0330"},
		"AEST-10AEDT,M10.1.0,M4.1.0/3": {"23:00 AEDT", "22:00 AEST"},
		":NZST-12NZDT,M9.5.0,M4.1.0/3": {"01:00 NZDT", "00:00 NZST"},
	}
	if data, err := os.ReadFile("/usr/share/zoneinfo/Asia/Kolkata"); err == nil { // a host may have no zones
		file := filepath.Join(t.TempDir(), "kolkata")
		writeFile(t, file, string(data))
		zones[file], zones[":"+file] = zones["Asia/Kolkata"], zones["Asia/Kolkata"]
	}
	for tz, want := range zones {
		t.Setenv("TZ", tz)
		c, err := ParseConfig(nil)
		if err != nil {
			t.Errorf("TZ=%s: %v", tz, err)
			continue
		}
		got := [2]string{winter.In(c.zone.Location).Format("15:04 MST"), summer.In(c.zone.Location).Format("15:04 MST")}
		if got != want {
			t.Errorf("TZ=%s shows %q, want %q", tz, got, want)
		}
	}
	t.Setenv("TZ", ":/etc/localtime")
	if _, err := os.Stat("/etc/localtime"); err == nil {
		if _, err := ParseConfig(nil); err != nil {
			t.Error(err)
		}
	}
	if err := os.Unsetenv("TZ"); err != nil { // t.Setenv restores it
		t.Fatal(err)
	}
	if c, err := ParseConfig(nil); err != nil || c.zone.Location == nil {
		t.Errorf("without TZ: %+v, %v", c, err)
	}
}

// A TZ that names no zone is a wrong configuration, not UTC.
func TestTimeZoneThatDoesNotExist(t *testing.T) {
	junk := filepath.Join(t.TempDir(), "junk")
	writeFile(t, junk, "Europe/Berlin")
	for tz, want := range map[string]string{
		"Asia/Kolkatta":   `TZ: there is no time zone "Asia/Kolkatta"; did you mean "Asia/Kolkata"?`,
		":Asia/Kolkatta":  `TZ: there is no time zone ":Asia/Kolkatta"; did you mean`,
		"Local":           `TZ: there is no time zone "Local"`,
		"CETX":            `TZ: there is no time zone "CETX"`,
		"CET-":            `TZ: there is no time zone "CET-"`,
		"CET-1CEST,junk":  `TZ: there is no time zone "CET-1CEST,junk"`,
		"../etc/passwd":   `TZ: there is no time zone "../etc/passwd"`,
		"/nowhere/at/all": "TZ: \"/nowhere/at/all\" is no file of a time zone",
		":" + junk:        "is no file of a time zone",
		" UTC":            "TZ: there is no time zone",
	} {
		t.Setenv("TZ", tz)
		code, _, stderr := runCommand("--check-config")
		if code != command.ExitUsage || !strings.Contains(stderr, want) && !(strings.Contains(want, "did you mean") && strings.Contains(stderr, "names are like Europe/Berlin")) {
			t.Errorf("TZ=%s: exit %d, it says %q, want %q", tz, code, stderr, want)
		}
	}
	t.Setenv("TZ", "CETX")
	for _, args := range [][]string{{"consumers"}, {"relays"}, {"status"}, {"replay", "--from", "1d"}, {"check"}, {"backup", "x"}, {"restore", "x"}} {
		if code, _, stderr := runCommand(args...); code != command.ExitUsage || !strings.Contains(stderr, `there is no time zone "CETX"`) {
			t.Errorf("%q: exit %d, it says %q", args, code, stderr)
		}
	}
	if code, stdout, stderr := runCommand("version"); code != command.ExitOK || !strings.HasPrefix(stdout, "pulse ") {
		t.Errorf("version: exit %d, it says %q", code, stderr)
	}
}

// The binary contains the zones, because a container has none.
func TestZonesAreInTheBinary(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(strings.Fields(string(out)), "time/tzdata") {
		t.Error("time/tzdata is not imported")
	}
}
