package processes

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nanopack/pulse/relaywire/relay/source"
)

const (
	// tick is the unit of processor times in /proc: USER_HZ is 100 on every platform that Go runs on.
	tick = 10 * time.Millisecond
	// commSize is where Linux cuts the name of a program.
	commSize = 15
)

var errStat = errors.New("processes: /proc/PID/stat is not understood")

// lister reads /proc. Its buffer is used again, because a machine has hundreds of processes.
type lister struct{ buffer [4096]byte }

// list returns the processes with the wanted names.
func (l *lister) list(wanted source.Globs) (all []process, err error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close() // it was only read
	for {
		names, err := dir.Readdirnames(256)
		for _, name := range names {
			if name[0] < '0' || name[0] > '9' {
				continue
			}
			p, ok, err := l.process(name, wanted)
			if err != nil {
				return nil, err
			}
			if ok {
				all = append(all, p)
			}
		}
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// process reads one process. ok is false if it is not wanted, or has ended.
func (l *lister) process(pid string, wanted source.Globs) (p process, ok bool, err error) {
	text, err := l.read("/proc/" + pid + "/stat")
	if err != nil {
		return p, false, nil // it has ended
	}
	comm, fields, ok := cutStat(text)
	if !ok {
		return p, false, fmt.Errorf("%w: %.100q", errStat, text)
	}
	name := string(comm)
	if len(comm) < commSize && !wanted.Match(name) {
		return p, false, nil
	}
	p, alive, err := parseStat(fields)
	if err != nil || !alive {
		return p, false, err
	}
	if p.id.pid, err = strconv.Atoi(pid); err != nil {
		return p, false, nil // the name of a file that is no process
	}
	if len(comm) == commSize { // fields has been read; the buffer is free
		if line, err := l.read("/proc/" + pid + "/cmdline"); err == nil {
			name = fullName(name, line)
		}
	}
	p.name = name
	return p, wanted.Match(name), nil
}

// read reads the beginning of a file. It does not use os.File, which costs more than the reading.
func (l *lister) read(name string) ([]byte, error) {
	fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd) // it was only read
	for {
		n, err := syscall.Read(fd, l.buffer[:])
		if err == syscall.EINTR {
			continue
		}
		return l.buffer[:max(n, 0)], err
	}
}

// cutStat splits proc_pid_stat(5) into the name of the program and the fields after it. The name is
// in parentheses, and may itself hold spaces and parentheses.
func cutStat(text []byte) (comm, fields []byte, ok bool) {
	begin, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if begin < 0 || end < begin {
		return nil, nil, false
	}
	return text[begin+1 : end], text[end+1:], true
}

// parseStat reads the fields from the third on: state, ..., utime (14th), stime, ..., starttime
// (22nd), vsize, rss. alive is false for a zombie.
func parseStat(fields []byte) (p process, alive bool, err error) {
	var number [25]uint64
	n := 3
	for word := range bytes.FieldsSeq(fields) {
		if n == 3 && (word[0] == 'Z' || word[0] == 'X') {
			return p, false, nil
		}
		if n == 14 || n == 15 || n == 22 || n == 24 {
			if number[n], err = strconv.ParseUint(string(word), 10, 63); err != nil {
				return p, false, fmt.Errorf("%w: %.100q", errStat, fields)
			}
		}
		if n++; n == len(number) {
			p.cpu = time.Duration(number[14]+number[15]) * tick
			p.id.started = number[22]
			p.rss = float64(number[24]) * float64(os.Getpagesize())
			return p, true, nil
		}
	}
	return p, false, fmt.Errorf("%w: %.100q", errStat, fields)
}

// fullName returns the name of a program from its command line, if comm is the beginning of it.
func fullName(comm string, cmdline []byte) string {
	first, _, _ := strings.Cut(string(cmdline), "\x00")
	if name := path.Base(first); strings.HasPrefix(name, comm) {
		return name
	}
	return comm
}
