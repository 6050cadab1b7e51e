// Package procfs reads from Linux's /proc what processes use, for tests and the bench. On other
// systems its functions return errors.
package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of processor times in /proc: USER_HZ is 100 on every platform that Go runs on.
const tick = 10 * time.Millisecond

// CPU returns the processor time that a process has used, in user and kernel mode.
func CPU(pid int) (time.Duration, error) { return read(fmt.Sprintf("/proc/%d/stat", pid), parseStat) }

// Written returns how many bytes a process has caused to be written to disks.
func Written(pid int) (int64, error) {
	return read(fmt.Sprintf("/proc/%d/io", pid), func(text []byte) (int64, error) { return parseField(text, "write_bytes:") })
}

// RSS returns the resident memory of a process in bytes, now and at its peak.
func RSS(pid int) (now, peak int64, err error) {
	both, err := read(fmt.Sprintf("/proc/%d/status", pid), func(text []byte) ([2]int64, error) {
		now, err1 := parseField(text, "VmRSS:")
		peak, err2 := parseField(text, "VmHWM:")
		return [2]int64{now << 10, peak << 10}, errors.Join(err1, err2)
	})
	return both[0], both[1], err
}

// MachineCPU returns the processor time of all processes that was not idle, since the machine was
// started.
func MachineCPU() (time.Duration, error) { return read("/proc/stat", parseMachine) }

func read[T any](file string, parse func([]byte) (T, error)) (value T, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return value, err
	}
	if value, err = parse(text); err != nil {
		err = fmt.Errorf("%s: %w", file, err)
	}
	return value, err
}

// parseStat adds the fields utime and stime. The name of the process is in parentheses before them,
// and may itself contain spaces and parentheses.
func parseStat(text []byte) (time.Duration, error) {
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("no utime and stime in %q", text)
	}
	return sum(fields[11:13])
}

// parseMachine adds the fields of the first line, except idle and iowait.
func parseMachine(text []byte) (time.Duration, error) {
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("the first line is %q", line)
	}
	busy, err1 := sum(fields[1:4])  // user, nice, system
	other, err2 := sum(fields[6:9]) // irq, softirq, steal
	return busy + other, errors.Join(err1, err2)
}

func sum(fields []string) (time.Duration, error) {
	var ticks int64
	for _, field := range fields {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// parseField returns the number after a name that begins a line.
func parseField(text []byte, name string) (int64, error) {
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == name {
			return strconv.ParseInt(fields[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("no line %s", name)
}
