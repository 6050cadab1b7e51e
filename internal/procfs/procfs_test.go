package procfs

import (
	"os"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	const stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 123 45 7 8 20 0 9 0 100 1000 200\n"
	if d, err := parseStat([]byte(stat)); err != nil || d != 1680*time.Millisecond {
		t.Errorf("stat: %v, %v", d, err)
	}
	const machine = "cpu  100 20 30 5000 600 7 8 9 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"
	if d, err := parseMachine([]byte(machine)); err != nil || d != 1740*time.Millisecond {
		t.Errorf("machine: %v, %v", d, err)
	}
	// cancelled_write_bytes and wchar are not what reached the disk.
	const io = "rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: 5\nwrite_bytes: 4096\ncancelled_write_bytes: 7\n"
	if n, err := parseField([]byte(io), "write_bytes:"); err != nil || n != 4096 {
		t.Errorf("io: %v, %v", n, err)
	}
	for _, bad := range []string{"", "42 (a) S 1 2", "42 (a) S 1 42 42 0 -1 0 0 0 0 0 x 45 7"} {
		if d, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("stat %q: %v", bad, d)
		}
		if d, err := parseMachine([]byte(bad)); err == nil {
			t.Errorf("machine %q: %v", bad, d)
		}
		if n, err := parseField([]byte(bad), "write_bytes:"); err == nil {
			t.Errorf("io %q: %v", bad, n)
		}
	}
}

// The kernel's own text can be parsed, and it says what this process does.
func TestSelf(t *testing.T) {
	pid := os.Getpid()
	before, err := CPU(pid)
	if err != nil {
		t.Fatal(err)
	}
	machine, err := MachineCPU()
	if err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); ; {
		now, err := CPU(pid)
		if err != nil {
			t.Fatal(err)
		}
		used, err := MachineCPU()
		if err != nil {
			t.Fatal(err)
		}
		if now > before && used > machine {
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatal("a minute of work took no processor time")
		}
	}
	if rss, peak, err := RSS(pid); err != nil || rss < 1<<20 || peak < rss/2 {
		t.Errorf("RSS %d, peak %d: %v", rss, peak, err)
	}
	if _, err := Written(pid); err != nil {
		t.Error(err)
	}
	if _, err := CPU(0); err == nil {
		t.Error("a process that does not exist has a processor time")
	}
}
