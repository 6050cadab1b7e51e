package relaywire

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWriters(t *testing.T) {
	for want, got := range map[string][]byte{
		"id web1\n":                     AppendID(nil, "web1", ""),
		"id web 1 token:s3cret\n":       AppendID(nil, "web 1", "s3cret"),
		"id web1 token:t\n":             AppendID(nil, "web1", "token:t"),
		"add cpu:service:web1,guy\n":    AppendAdd(nil, "cpu", []string{"service:web1", "", "guy"}),
		"add ram:\n":                    AppendAdd(nil, "ram", nil),
		"remove ram\n":                  AppendRemove(nil, "ram"),
		"got cpu-used:0.25,a-b:1e+21\n": AppendGot(nil, []GotItem{{"cpu", "used", 0.25}, {"a", "nan", math.NaN()}, {"a", "inf", math.Inf(-1)}, {"a", "b", 1e21}}),
		"":                              AppendGot(nil, []GotItem{{"a", "nan", math.NaN()}}),
		"get cpu,ram\n":                 AppendGet(nil, []string{"", "cpu", "", "ram"}),
		"override 60 cpu:1,ram:0.25\n":  AppendOverride(nil, time.Minute, []OverrideItem{{"cpu", time.Second}, {"", time.Second}, {"ram", 250 * time.Millisecond}}),
		"override 2 cpu:0.001\n":        AppendOverride(nil, 1001*time.Millisecond, []OverrideItem{{"cpu", -1}}),
		"override 31622400 cpu:1\n":     AppendOverride(nil, math.MaxInt64, []OverrideItem{{"cpu", time.Second}}),
		"beat 30\n":                     AppendBeat(nil, 30*time.Second),
		"ping\n":                        AppendPing(nil),
		"pong\n":                        AppendPong(nil),
		"ok\n":                          AppendOK(nil),
		"flush\n":                       AppendFlush(nil),
		"close\n":                       AppendClose(nil),
		"error replaced\n":              AppendError(nil, "replaced"),
		"units a:bytes/s,b:h:m\n":       AppendUnits(nil, []UnitItem{{"a", "bytes/s"}, {"c", ""}, {"b", "h:m"}}),
	} {
		if string(got) != want {
			t.Errorf("wrote %q, want %q", got, want)
		}
	}
	if got := AppendGet(nil, nil); len(got) != 0 {
		t.Errorf("get of nothing: %q", got)
	}
	if got := string(AppendPing([]byte("ok\n"))); got != "ok\nping\n" {
		t.Errorf("appended to what was there: %q", got)
	}
}

// TestWritersNeverBreakTheProtocol gives the writers text that would be another message or another
// argument if it were sent unchanged.
func TestWritersNeverBreakTheProtocol(t *testing.T) {
	for want, got := range map[string][]byte{
		"id web1_close\n":                   AppendID(nil, "web1\nclose", ""),
		"id _web1_ token:_token_x\n":        AppendID(nil, " web1 ", " token x"),
		"id _\n":                            AppendID(nil, "", ""),
		"add a_b_c_d:a:b_c_d\n":             AppendAdd(nil, "a-b:c,d", []string{"a:b,c\nd"}),
		"add caf\u00e9_:_\n":                AppendAdd(nil, "caf\u00e9\xff", []string{"\x00"}),
		"remove _\n":                        AppendRemove(nil, " "),
		"got a_b-c_d:1\n":                   AppendGot(nil, []GotItem{{"a-b", "c:d", 1}}),
		"get a_b_close\n":                   AppendGet(nil, []string{"a,b\nclose"}),
		"override 1 a_b:1\n":                AppendOverride(nil, time.Second, []OverrideItem{{"a:b", time.Second}}),
		"error two_lines, one_reason-x:_\n": AppendError(nil, "two\nlines, one\rreason-x:\n"),
		"error _\n":                         AppendError(nil, ""),
		"units a_b:c_d,_:_\n":               AppendUnits(nil, []UnitItem{{"a:b", "c,d"}, {"", " "}}),
	} {
		if string(got) != want {
			t.Errorf("wrote %q, want %q", got, want)
		}
	}
	if line := AppendRemove(nil, strings.Repeat("\u00e9", 200)); len(line) != len("remove \n")+254 || !ValidName(string(line[7:len(line)-1])) {
		t.Errorf("a name of 400 bytes is cut to %d bytes, %q", len(line)-8, line)
	}
	many := AppendAdd(nil, "cpu", slices.Repeat([]string{strings.Repeat("t", 600)}, 100))
	if name, tags, err := ParseAdd(Parse(many).Args); err != nil || string(name) != "cpu" || len(slices.Collect(tags)) != MaxTags {
		t.Errorf("100 tags of 600 bytes: %v", err)
	}
}

// TestLongListsBecomeSeveralLines: no item is lost or doubled, and no line is longer than the other
// side accepts.
func TestLongListsBecomeSeveralLines(t *testing.T) {
	for _, size := range []int{1, 6, 200, MaxName} {
		var items []GotItem
		var names []string
		var overrides []OverrideItem
		for i := range 10_000 {
			name := fmt.Sprintf("%0*d", max(size, 5), i)
			names = append(names, name)
			items = append(items, GotItem{Collector: name, Stat: "s", Value: float64(i)})
			overrides = append(overrides, OverrideItem{Name: name, Interval: time.Duration(i+1) * time.Second})
		}
		const before = "ok\n" // bytes that were in the buffer before do not count towards the line
		text := AppendOverride(AppendGet(AppendGot([]byte(before), items), names), time.Hour, overrides)
		r := NewReader(bytes.NewReader(text))
		var got []string
		var gotItems, gotOverrides, lines int
		for {
			m, err := r.Read()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			lines++
			switch m.Verb {
			case VerbGot:
				for reading := range Readings(m.Args) {
					if reading.Err != nil || reading.Value != float64(gotItems) || string(reading.Collector) != names[gotItems] {
						t.Fatalf("reading %d is %q %v %v", gotItems, reading.Collector, reading.Value, reading.Err)
					}
					gotItems++
				}
			case VerbGet:
				for name := range Names(m.Args) {
					got = append(got, string(name))
				}
			case VerbOverride:
				d, list, err := ParseOverride(m.Args)
				if err != nil || d != time.Hour {
					t.Fatalf("override of %v: %v", d, err)
				}
				for name, every := range list {
					if string(name) != names[gotOverrides] || every != time.Duration(gotOverrides+1)*time.Second {
						t.Fatalf("override %d is %q %v", gotOverrides, name, every)
					}
					gotOverrides++
				}
			}
		}
		if !slices.Equal(got, names) || gotItems != len(items) || gotOverrides != len(overrides) {
			t.Errorf("names of %d bytes: %d names, %d readings, %d overrides of 10,000 each", size, len(got), gotItems, gotOverrides)
		}
		// A line is broken only when the next item would not have fitted.
		if most := 1 + 3*(1+(size+40)*10_000/(MaxLine-2*MaxName-40)); lines > most {
			t.Errorf("names of %d bytes: %d lines, expected at most %d", size, lines, most)
		}
	}
}

func TestWritingDoesNotAllocate(t *testing.T) {
	items := []GotItem{{"cpu", "used", 0.3697}, {"cpu", "idle", 99.6303}, {"bad\nname", "x", 1e-9}}
	names, tags := []string{"cpu", "ram"}, []string{"service:web1", "guy"}
	overrides := []OverrideItem{{"cpu", time.Second}, {"ram", 500 * time.Millisecond}}
	buf := make([]byte, 0, 4096)
	if allocs := testing.AllocsPerRun(100, func() {
		buf = AppendID(buf[:0], "web1", "token")
		buf = AppendAdd(buf, "cpu", tags)
		buf = AppendRemove(buf, "cpu")
		buf = AppendGot(buf, items)
		buf = AppendGet(buf, names)
		buf = AppendOverride(buf, time.Minute, overrides)
		buf = AppendBeat(buf, time.Minute)
		buf = AppendError(buf, "replaced\n")
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestValid(t *testing.T) {
	long := strings.Repeat("x", MaxName)
	for _, c := range []struct {
		s                    string
		name, id, tag, token bool
	}{
		{"cpu_used", true, true, true, true},
		{"caf\u00e9", true, true, true, true},
		{"my cpu", true, true, true, false},
		{"web-1", false, true, true, true},
		{"service:web1", false, true, true, true},
		{"a,b", false, true, false, true},
		{"web1 token:x", false, false, true, false},
		{"token:x", false, false, true, true},
		{"token:", false, false, true, false},
		{"token:x web1", false, true, true, false},
		{Reserved, false, true, true, true},
		{"", false, false, false, false},
		{" a", false, false, false, false},
		{"a ", false, false, false, false},
		{"a\tb", false, false, false, false},
		{"a\x7fb", false, false, false, false},
		{"a\nb", false, false, false, false},
		{"a\xffb", false, false, false, false},
		{long, true, true, true, true},
		{long + "x", false, false, true, false},
		{strings.Repeat("x", MaxTag+1), false, false, false, false},
	} {
		if n, i, ta, to := ValidName(c.s), ValidID(c.s), ValidTag(c.s), ValidToken(c.s); n != c.name || i != c.id || ta != c.tag || to != c.token {
			t.Errorf("%.40q: name %v, id %v, tag %v, token %v", c.s, n, i, ta, to)
		}
	}
}

func TestSplitTag(t *testing.T) {
	for tag, want := range map[string][2]string{
		"service:web1": {"service", "web1"}, "mount:C:\\": {"mount", "C:\\"}, "guy": {}, "service:": {}, ":web1": {}, "": {}, ":": {},
	} {
		key, value, ok := SplitTag(tag)
		if key != want[0] || value != want[1] || ok != (want[0] != "") {
			t.Errorf("%q: %q %q %v", tag, key, value, ok)
		}
	}
}

func BenchmarkAppendGot10(b *testing.B) {
	items := make([]GotItem, 10)
	for i := range items {
		items[i] = GotItem{Collector: "cpu", Stat: "stat_" + string(rune('a'+i)), Value: 0.3697 * float64(i+1)}
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendGot(buf[:0], items)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(items)), "ns/reading")
}
