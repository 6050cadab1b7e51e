package relaywire

import (
	"bytes"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// FuzzReader feeds any input, cut in any way. The lines must be the parts between the newlines, and
// the memory must stay within the bound. No argument parser may panic or return anything that the
// Valid functions refuse.
func FuzzReader(f *testing.F) {
	f.Add([]byte("id web1\nadd cpu:a:b,c\r\ngot cpu-used:1.5,x:2,\nping\n"), uint16(3))
	f.Add([]byte("override 60 cpu:1,ram:5\nbeat 30\nget cpu,,ram\nremove cpu"), uint16(1))
	f.Add([]byte("got a:0,25,b:1,#INF,_connected:1,c:3,,4,d\nadd _connected:x"), uint16(7))
	f.Add([]byte("got a-b-c:5,noval,:,-:,x:0x1p-2,y:nan,z:1e999\n\n\r\n \n"), uint16(512))
	f.Add([]byte("spool 5f2a00c1 3 0 1795416968123\nkept 5f2a00c1 1-2\nrecall 7\ntook 1 2 a:1\npast 1 9223372036854775807 1 a-b:2"), uint16(9))
	f.Add(append(bytes.Repeat([]byte("x"), 600), "\nok\n"...), uint16(511))
	f.Add(append(bytes.Repeat([]byte("got a:1,"), 9000), '\n'), uint16(4096))
	f.Fuzz(func(t *testing.T, data []byte, chunk uint16) {
		r := NewReader(&chunks{data: data, size: int(chunk)%1500 + 1})
		rest := data
		for {
			m, err := r.Read()
			if len(r.buf) > MaxLine || r.Buffered() > MaxLine {
				t.Fatalf("a buffer of %d bytes", len(r.buf))
			}
			i := bytes.IndexByte(rest, '\n')
			switch {
			case err == nil:
				if want := Parse(rest[:i+1]); m.Verb != want.Verb || !bytes.Equal(m.Args, want.Args) {
					t.Fatalf("read %v %q, want %v %q", m.Verb, m.Args, want.Verb, want.Args)
				}
				rest = rest[i+1:]
				parseAll(t, m.Args)
				continue
			case err == ErrLineTooLong:
				if i >= 0 && i < MaxLine || i < 0 && len(rest) < MaxLine {
					t.Fatalf("a line of %d bytes (%d left) is too long", i, len(rest))
				}
			case err == io.ErrUnexpectedEOF:
				if i >= 0 || len(rest) == 0 {
					t.Fatalf("unexpected EOF before %q", rest)
				}
			case err == io.EOF:
				if len(rest) != 0 {
					t.Fatalf("%q was not read", rest)
				}
			default:
				t.Fatal(err)
			}
			return
		}
	})
}

type chunks struct {
	data []byte
	size int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.size)], c.data)
	c.data = c.data[n:]
	return n, nil
}

// parseAll gives args to every parser and checks the parsers' promises. No parser may write to
// args.
func parseAll(t *testing.T, args []byte) {
	before := string(args)
	for _, withToken := range []bool{false, true} {
		if id, token, err := ParseID(args, withToken); err == nil && (!ValidID(string(id)) || bytes.ContainsRune(token, ' ')) {
			t.Fatalf("id %q token %q of %q", id, token, args)
		}
	}
	if name, tags, err := ParseAdd(args); err == nil {
		if !ValidName(string(name)) {
			t.Fatalf("add %q of %q", name, args)
		}
		n := 0
		for tag := range tags {
			if n++; !ValidTag(string(tag)) || n > MaxTags {
				t.Fatalf("tag %d %q of %q", n, tag, args)
			}
		}
	}
	if name, err := ParseRemove(args); err == nil && !ValidName(string(name)) {
		t.Fatalf("remove %q of %q", name, args)
	}
	for name := range Names(args) {
		if len(name) == 0 || bytes.ContainsRune(name, ',') {
			t.Fatalf("name %q of %q", name, args)
		}
	}
	if d, items, err := ParseOverride(args); err == nil {
		n := 0
		for name, every := range items {
			if n++; !ValidName(string(name)) || every <= 0 || every > MaxDuration {
				t.Fatalf("override %q %v of %q", name, every, args)
			}
		}
		if n == 0 || d <= 0 || d > MaxDuration {
			t.Fatalf("override for %v of %d in %q", d, n, args)
		}
	}
	if d, err := ParseBeat(args); err == nil && (d <= 0 || d > MaxDuration) {
		t.Fatalf("beat %v of %q", d, args)
	}
	if s, err := ParseSpool(args); err == nil && (len(s.ID.String()) != 8 || s.Now < 0) {
		t.Fatalf("spool %+v of %q", s, args)
	}
	if _, r, err := ParseKept(args); err == nil && (r.First < 1 || r.First > r.Seq) {
		t.Fatalf("kept %+v of %q", r, args)
	}
	if n, err := ParseRecall(args); err == nil && (n < 0 || n > MaxRecall) {
		t.Fatalf("recall %d of %q", n, args)
	}
	if r, ms, items, err := ParsePast(args); err == nil && (r.First < 1 || r.First > r.Seq || ms < 0 || len(items) >= len(args)) {
		t.Fatalf("past %+v %d %q of %q", r, ms, items, args)
	}
	for r := range Readings(args) {
		switch {
		case r.Err == nil && (!ValidName(string(r.Collector)) || !ValidName(string(r.Stat)) || math.IsNaN(r.Value) || math.IsInf(r.Value, 0)):
			t.Fatalf("reading %q %q %v of %q", r.Collector, r.Stat, r.Value, args)
		case r.Err != nil && r.Value != 0:
			t.Fatalf("a rejected value %v of %q", r.Value, args)
		}
	}
	if string(args) != before {
		t.Fatalf("%q has become %q", before, args)
	}
}

var decimal = regexp.MustCompile(`^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$`)

// FuzzValue checks that exactly the decimal numbers are accepted, and that each is the float64 that
// strconv reads.
func FuzzValue(f *testing.F) {
	for _, s := range []string{"0", "-0", "1.5", "+.5", "5.", "1e3", "1E-3", "00012.500", "123456789012345", "1234567890123456", "9007199254740993", "0.1e23",
		"1e22", "1e23", "1e-22", "1e-23", "4.9e-324", "1.7976931348623157e308", "1.8e308", "1e-400", "0e999999999999", "0x1p-2", "1_000", "nan", "-Inf", "infinity",
		"", ".", "-", "e5", "1e", "1e+", "1.2.3", "1 2", "\u0661", "0.3697", "99.6303", "1e99999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := parseValue([]byte(s))
		if !decimal.MatchString(s) {
			if err == nil || v != 0 {
				t.Fatalf("%q is accepted as %v", s, v)
			}
			return
		}
		want, wantErr := strconv.ParseFloat(s, 64)
		switch {
		case wantErr != nil && err != ErrNotFinite:
			t.Fatalf("%q: %v, strconv says %v", s, err, wantErr)
		case wantErr == nil && (err != nil || math.Float64bits(v) != math.Float64bits(want)):
			t.Fatalf("%q: %v %v, strconv says %v", s, v, err, want)
		}
	})
}

// FuzzWriters checks that each call with any arguments writes one whole line with the call's verb,
// and that arguments that can be sent unchanged are read back unchanged.
func FuzzWriters(f *testing.F) {
	f.Add("web1", "cpu", "service:web1", "guy", 1.5, int64(time.Second))
	f.Add("web 1", "a-b", "a,b", "", math.Copysign(0, -1), int64(time.Millisecond))
	f.Add(" web1\n", "cpu\nclose", "\xff", "x\r\n", math.Inf(1), int64(-5))
	f.Add(strings.Repeat("\u00e9", 200), strings.Repeat("x", 300), strings.Repeat("y", 700), "z", math.NaN(), int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, id, name, tag, other string, v float64, d int64) {
		every := time.Duration(d)
		for verb, line := range map[Verb][]byte{
			VerbID: AppendID(nil, id, other), VerbAdd: AppendAdd(nil, name, []string{tag, other}), VerbRemove: AppendRemove(nil, name),
			VerbGot: AppendGot(nil, []GotItem{{name, other, 1}, {name, tag, v}}), VerbGet: AppendGet(nil, []string{"x", name, other}),
			VerbOverride: AppendOverride(nil, every, []OverrideItem{{name, every}, {"x", every}}), VerbBeat: AppendBeat(nil, every), VerbError: AppendError(nil, tag),
		} {
			m, err := NewReader(iotest.OneByteReader(bytes.NewReader(line))).Read()
			if err != nil || m.Verb != verb || bytes.Count(line, []byte("\n")) != 1 || len(line) > MaxLine {
				t.Fatalf("%v: %q reads as %v, %v", verb, line, m.Verb, err)
			}
			if verb == VerbAdd || verb == VerbRemove || verb == VerbOverride || verb == VerbBeat {
				mustParse(t, m)
			}
			for r := range Readings(m.Args) {
				if verb == VerbGot && r.Err != nil && r.Err != ErrReserved {
					t.Fatalf("%q holds a reading that is refused: %v", line, r.Err)
				}
			}
		}
		if got, token, err := ParseID(Parse(AppendID(nil, id, "tok")).Args, true); ValidID(id) && (string(got) != id || string(token) != "tok" || err != nil) {
			t.Fatalf("id %q reads back as %q %q, %v", id, got, token, err)
		}
		for _, withToken := range []bool{false, true} {
			if got, _, _ := ParseID(Parse(AppendID(nil, "web1", other)).Args, withToken); string(got) != "web1" {
				t.Fatalf("with the token %q the id web1 reads back as %q", other, got)
			}
		}
		if got, _, err := ParseID(Parse(AppendID(nil, id, "")).Args, false); ValidID(id) && (string(got) != id || err != nil) {
			t.Fatalf("id %q reads back as %q, %v", id, got, err)
		}
		if ValidName(name) && ValidTag(tag) {
			got, tags, err := ParseAdd(Parse(AppendAdd(nil, name, []string{tag, "x"})).Args)
			if err != nil || string(got) != name {
				t.Fatalf("add %q reads back as %q, %v", name, got, err)
			}
			want := []string{tag, "x"}
			for got := range tags {
				if len(want) == 0 || string(got) != want[0] {
					t.Fatalf("tag %q reads back as %q", tag, got)
				}
				want = want[1:]
			}
		}
		if ValidName(name) && ValidName(other) && !math.IsNaN(v) && !math.IsInf(v, 0) {
			n := 0
			for r := range Readings(Parse(AppendGot(nil, []GotItem{{name, other, v}})).Args) {
				n++
				if r.Err != nil || string(r.Collector) != name || string(r.Stat) != other || math.Float64bits(r.Value) != math.Float64bits(v) {
					t.Fatalf("%q %q %v reads back as %q %q %v %v", name, other, v, r.Collector, r.Stat, r.Value, r.Err)
				}
			}
			if n != 1 {
				t.Fatalf("%d readings", n)
			}
		}
	})
}

// FuzzSpool checks that what is written of a spool reads back, and that items that do not fit in a
// line are left for the next one.
func FuzzSpool(f *testing.F) {
	f.Add(uint32(0x5f2a00c1), uint64(1), uint64(3), int64(1795416968123), "cpu", 2, 1.5)
	f.Add(uint32(0), uint64(9), uint64(9), int64(0), strings.Repeat("x", 255), 300, -1e300)
	f.Add(uint32(math.MaxUint32), uint64(math.MaxInt64), uint64(math.MaxInt64), int64(math.MaxInt64), "", 0, math.NaN())
	f.Fuzz(func(t *testing.T, id uint32, first, seq uint64, ms int64, name string, n int, v float64) {
		first, seq, ms, n = first&math.MaxInt64, seq&math.MaxInt64, ms&math.MaxInt64, n&1023
		first, seq = max(1, min(first, seq)), max(1, first, seq)
		s, r := SpoolState{SpoolID(id), first, seq, ms}, Record{first, seq}
		if got, err := ParseSpool(Parse(AppendSpool(nil, s)).Args); err != nil || got != s {
			t.Fatalf("%+v reads back as %+v, %v", s, got, err)
		}
		if got, k, err := ParseKept(Parse(AppendKept(nil, s.ID, r)).Args); err != nil || got != s.ID || k != r {
			t.Fatalf("%+v reads back as %v %+v, %v", r, got, k, err)
		}
		items := make([]GotItem, n)
		for i := range items {
			items[i] = GotItem{name, strconv.Itoa(i), v}
		}
		read := 0
		for left := items; len(left) > 0; {
			line, wrote := AppendPast([]byte("before"), r, ms, left)
			if wrote == 0 || len(line)-len("before") > MaxLine {
				t.Fatalf("a line of %d bytes with %d items", len(line), wrote)
			}
			left = left[wrote:]
			if line = line[len("before"):]; len(line) == 0 {
				continue
			}
			m, err := NewReader(bytes.NewReader(line)).Read()
			got, at, rest, bad := ParsePast(m.Args)
			if err != nil || bad != nil || m.Verb != VerbPast || got != r || at != ms {
				t.Fatalf("%q reads back as %v %+v %d, %v, %v", line, m.Verb, got, at, err, bad)
			}
			for g := range Readings(rest) {
				if ValidName(name) && (g.Err != nil || string(g.Collector) != name || string(g.Stat) != strconv.Itoa(read) || g.Value != v) {
					t.Fatalf("item %d reads back as %+v", read, g)
				}
				read++
			}
		}
		if want := n; !math.IsNaN(v) && !math.IsInf(v, 0) && read != want {
			t.Fatalf("%d of %d items", read, want)
		}
	})
}

func mustParse(t *testing.T, m Message) {
	var err error
	switch m.Verb {
	case VerbAdd:
		_, _, err = ParseAdd(m.Args)
	case VerbRemove:
		_, err = ParseRemove(m.Args)
	case VerbOverride:
		_, _, err = ParseOverride(m.Args)
	case VerbBeat:
		_, err = ParseBeat(m.Args)
	}
	if err != nil && !bytes.Contains(m.Args, []byte(Reserved)) {
		t.Fatalf("we wrote %v %q, which is refused: %v", m.Verb, m.Args, err)
	}
}
