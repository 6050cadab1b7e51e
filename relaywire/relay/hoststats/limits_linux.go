package hoststats

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// cgroups is where control groups are mounted. Inside a container its top is the container's own
// group, so it has the container's limits. On a host it is the group of everything, which has none:
// the limits of a service, such as the agent's own, are further down and say nothing about the host.
const cgroups = "/sys/fs/cgroup"

func systemLimits() limits { return limitsAt(os.ReadFile) }

// limitsAt reads the limits of version 2 of control groups, else those of version 1.
func limitsAt(read func(file string) ([]byte, error)) (l limits) {
	text := func(file string) string {
		b, err := read(cgroups + "/" + file)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(b))
	}
	if text("cgroup.controllers") != "" {
		l.memory = number(text("memory.max")) // 0 for max, and where the file is missing, as on a host
		l.used = less(number(text("memory.current")), field(text("memory.stat"), "inactive_file"))
		quota, period, _ := strings.Cut(text("cpu.max"), " ")
		l.processors = ratio(number(quota), number(period))
		times := text("cpu.stat")
		l.cpu, l.user, l.system = micros(times, "usage_usec"), micros(times, "user_usec"), micros(times, "system_usec")
		return l
	}
	l.memory = number(text("memory/memory.limit_in_bytes")) // where there is no limit, it is more than any machine has
	l.used = less(number(text("memory/memory.usage_in_bytes")), field(text("memory/memory.stat"), "total_inactive_file"))
	for _, controller := range []string{"cpu", "cpu,cpuacct"} {
		if l.processors == 0 { // the quota is -1 where there is none
			l.processors = ratio(number(text(controller+"/cpu.cfs_quota_us")), number(text(controller+"/cpu.cfs_period_us")))
		}
	}
	for _, controller := range []string{"cpuacct", "cpu,cpuacct"} {
		if l.cpu == 0 {
			l.cpu = time.Duration(number(text(controller + "/cpuacct.usage")))
		}
	}
	if l.cpu == 0 {
		l.processors = 0 // a quota without the usage is of no use
	}
	return l
}

// number returns 0 for everything that is no number between 0 and the largest int64.
func number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0
	}
	return n
}

// field returns the number after a name that begins a line, or 0.
func field(text, name string) uint64 {
	for line := range strings.Lines(text) {
		if key, value, _ := strings.Cut(strings.TrimSpace(line), " "); key == name {
			return number(value)
		}
	}
	return 0
}

func micros(text, name string) time.Duration {
	const most = uint64(1<<63-1) / 1000
	return time.Duration(min(field(text, name), most)) * time.Microsecond
}

func less(a, b uint64) uint64 { return a - min(a, b) }

func ratio(a, b uint64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}
