package hoststats

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseDiskstats(t *testing.T) {
	const table = `   8       0 sda 4715 1214 364354 2134 8943 6532 543266 9234 0 8123 11368 0 0 0 0 1 2
   8       1 sda1 4700 1214 364000 2134 8943 6532 543266 9234 0 8000 11368
 104       0 cciss/c0d0 1 0 2 0 3 0 4 0 0 5 0
 x 0 bad 1 0 2 0 3 0 4 0 0 5 0
 8 0 short 1 2
`
	want := []blockDevice{
		{"sda", 0x800, false, 4715, 8943, 364354 * 512, 543266 * 512, 8123, true}, {"sda1", 0x801, false, 4700, 8943, 364000 * 512, 543266 * 512, 8000, true},
		{"cciss/c0d0", 0x6800, false, 1, 3, 1024, 2048, 5, true},
	}
	if got := parseDiskstats([]byte(table)); !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v\nwant %+v", got, want)
	}
}

func TestLimits(t *testing.T) {
	v2 := map[string]string{
		"cgroup.controllers": "cpuset cpu io memory pids\n", "memory.max": "536870912\n", "memory.current": "104857600\n",
		"memory.stat": "anon 1000\nfile 5000\ninactive_file 4857600\n", "cpu.max": "150000 100000\n",
		"cpu.stat": "usage_usec 5000000\nuser_usec 3000000\nsystem_usec 2000000\nnr_periods 0\n",
	}
	v1 := map[string]string{
		"memory/memory.limit_in_bytes": "536870912\n", "memory/memory.usage_in_bytes": "104857600\n", "memory/memory.stat": "cache 5\ntotal_inactive_file 4857600\n",
		"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n", "cpuacct/cpuacct.usage": "5000000000\n",
	}
	with := func(files map[string]string, pairs ...string) map[string]string {
		all := map[string]string{}
		for k, v := range files {
			all[k] = v
		}
		for i := 0; i < len(pairs); i += 2 {
			all[pairs[i]] = pairs[i+1]
		}
		return all
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  limits
	}{
		"v2":                {v2, limits{536870912, 100000000, 1.5, 5 * time.Second, 3 * time.Second, 2 * time.Second}},
		"v2 without limits": {with(v2, "memory.max", "max\n", "cpu.max", "max 100000\n"), limits{0, 100000000, 0, 5 * time.Second, 3 * time.Second, 2 * time.Second}},
		"v2 of a host":      {map[string]string{"cgroup.controllers": "cpu memory\n", "cpu.stat": "usage_usec 5\n"}, limits{cpu: 5 * time.Microsecond}},
		"v1":                {v1, limits{memory: 536870912, used: 100000000, processors: 1.5, cpu: 5 * time.Second}},
		"v1 together":       {map[string]string{"cpu,cpuacct/cpu.cfs_quota_us": "5\n", "cpu,cpuacct/cpu.cfs_period_us": "10\n", "cpu,cpuacct/cpuacct.usage": "7\n"}, limits{processors: 0.5, cpu: 7}},
		"v1 without limits": {with(v1, "memory/memory.limit_in_bytes", "9223372036854771712\n", "cpu/cpu.cfs_quota_us", "-1\n"), limits{memory: 9223372036854771712, used: 100000000, cpu: 5 * time.Second}},
		"nothing":           {nil, limits{}},
		"nonsense":          {map[string]string{"cgroup.controllers": "x", "memory.max": "-5", "cpu.max": "1 0", "memory.current": "x"}, limits{}},
	} {
		got := limitsAt(func(file string) ([]byte, error) {
			text, ok := c.files[strings.TrimPrefix(file, cgroups+"/")]
			if !ok {
				return nil, os.ErrNotExist
			}
			return []byte(text), nil
		})
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func FuzzParsers(f *testing.F) {
	f.Add([]byte("8 0 sda 4715 1214 364354 2134 8943 6532 543266 9234 0 8123 11368\n"))
	f.Add([]byte("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw\n"))
	f.Add([]byte("nodev\tproc\n\text4\n"))
	f.Add([]byte("150000 100000\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, d := range parseDiskstats(text) {
			if d.name == "" {
				t.Error(d)
			}
		}
		for _, m := range parseMounts(text, map[string]bool{"ext3": true}) {
			if m.path == "" {
				t.Error(m)
			}
		}
		parseFilesystems(text)
		if l := limitsAt(func(string) ([]byte, error) { return text, nil }); l.processors < 0 || l.cpu < 0 || l.user < 0 {
			t.Error(l)
		}
	})
}
