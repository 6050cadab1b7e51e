package relaywire

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"unsafe"
)

func readAll(t *testing.T, src io.Reader) (lines []string, last error) {
	t.Helper()
	r := NewReader(src)
	for {
		m, err := r.Read()
		if err != nil {
			return lines, err
		}
		if m.Verb == VerbUnknown {
			lines = append(lines, string(m.Args))
		} else {
			lines = append(lines, strings.TrimSuffix(m.Verb.String()+" "+string(m.Args), " "))
		}
	}
}

// TestReaderHoweverItArrives reads the same lines, of all sizes around the buffers' sizes, from
// sources that deliver the lines in different pieces.
func TestReaderHoweverItArrives(t *testing.T) {
	var want []string
	for _, n := range []int{1, 2, 100, smallBuffer - 2, smallBuffer - 1, smallBuffer, smallBuffer + 1, 3, mediumBuffer - 1, mediumBuffer, mediumBuffer + 1,
		5, 300, 300, largeBuffer - 1, largeBuffer, largeBuffer + 1, MaxLine - 1, 7, MaxLine - 1, MaxLine - 2, 1} {
		want = append(want, strings.Repeat("x", n-1)+string(rune('a'+len(want))))
	}
	text := strings.Join(want, "\n") + "\n"
	for name, src := range map[string]io.Reader{
		"at once":           strings.NewReader(text),
		"byte by byte":      iotest.OneByteReader(strings.NewReader(text)),
		"by halves":         iotest.HalfReader(strings.NewReader(text)),
		"error with data":   iotest.DataErrReader(strings.NewReader(text)),
		"a line at a time":  &lineSource{text: text},
		"nothing each time": &hesitant{src: strings.NewReader(text)},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readAll(t, src)
			if err != io.EOF {
				t.Errorf("ended with %v", err)
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("read %d lines that differ from the %d written", len(got), len(want))
			}
		})
	}
}

// lineSource delivers lines as most connections do: one line a read, if the reader has room for it.
type lineSource struct {
	text string
	at   int
	loop bool
}

func (s *lineSource) Read(p []byte) (int, error) {
	if s.at == len(s.text) {
		if !s.loop {
			return 0, io.EOF
		}
		s.at = 0
	}
	n := strings.IndexByte(s.text[s.at:], '\n') + 1
	n = copy(p, s.text[s.at:s.at+n])
	s.at += n
	return n, nil
}

// hesitant returns nothing, without an error, before each byte.
type hesitant struct {
	src   io.Reader
	yield bool
}

func (h *hesitant) Read(p []byte) (int, error) {
	if h.yield = !h.yield; h.yield {
		return 0, nil
	}
	return h.src.Read(p)
}

func TestReaderErrors(t *testing.T) {
	long := strings.Repeat("x", MaxLine)
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		src   io.Reader
		lines int
		err   error
	}{
		"nothing":                    {strings.NewReader(""), 0, io.EOF},
		"a cut line":                 {strings.NewReader("ping\nget cp"), 1, io.ErrUnexpectedEOF},
		"a line one byte too long":   {strings.NewReader("ping\n" + long + "\nping\n"), 1, ErrLineTooLong},
		"no newline ever":            {endless{}, 0, ErrLineTooLong},
		"a broken source":            {io.MultiReader(strings.NewReader("ping\nx"), iotest.ErrReader(broken)), 1, broken},
		"a source that never speaks": {silent{}, 0, io.ErrNoProgress},
	} {
		t.Run(name, func(t *testing.T) {
			lines, err := readAll(t, c.src)
			if len(lines) != c.lines || !errors.Is(err, c.err) {
				t.Errorf("%d lines, then %v; want %d, then %v", len(lines), err, c.lines, c.err)
			}
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, nil }

// TestReaderTooLongIsFinal: text after a line that is too long is never taken for a message.
func TestReaderTooLongIsFinal(t *testing.T) {
	r := NewReader(strings.NewReader(strings.Repeat("x", MaxLine) + "\nclose\n"))
	for range 3 {
		if m, err := r.Read(); err != ErrLineTooLong {
			t.Fatalf("%v %q, %v", m.Verb, m.Args, err)
		}
	}
}

// TestReaderGoesOnAfterADeadline: half a line that was read before a deadline passed is not lost.
func TestReaderGoesOnAfterADeadline(t *testing.T) {
	r := NewReader(io.MultiReader(
		strings.NewReader("get c"), iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("pu\npin"))),
	))
	var got []string
	for range 10 {
		m, err := r.Read()
		if errors.Is(err, iotest.ErrTimeout) {
			got = append(got, "timeout")
			continue
		}
		if err != nil {
			got = append(got, err.Error())
			break
		}
		got = append(got, m.Verb.String()+" "+string(m.Args))
	}
	if s := strings.Join(got, "; "); s != "timeout; get cpu; unexpected EOF" {
		t.Errorf("read %s", s)
	}
}

// TestReaderMemory: an idle Reader holds half a kilobyte, even after the longest line, and a Reader
// never holds more than MaxLine.
func TestReaderMemory(t *testing.T) {
	if size := unsafe.Sizeof(Reader{}); size > 640 {
		t.Errorf("an idle Reader takes %d bytes", size)
	}
	src := &lineSource{text: strings.Repeat("x", MaxLine-1) + "\nping\n"}
	r := NewReader(src)
	if m, err := r.Read(); err != nil || len(m.Args) != MaxLine-1 || len(r.buf) != MaxLine {
		t.Fatalf("the longest line: %d bytes, buffer %d, %v", len(m.Args), len(r.buf), err)
	}
	if m, err := r.Read(); err != nil || m.Verb != VerbPing || len(r.buf) != smallBuffer || r.Buffered() != 0 {
		t.Errorf("the line after it: %v, buffer %d, %d buffered, %v", m.Verb, len(r.buf), r.Buffered(), err)
	}
	// A peer that sent a part of a short line and then nothing does not hold a large buffer either.
	r = NewReader(io.MultiReader(&lineSource{text: strings.Repeat("x", 5000) + "\n"}, strings.NewReader("get cp"), iotest.ErrReader(os.ErrDeadlineExceeded)))
	if _, err := r.Read(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(); !errors.Is(err, os.ErrDeadlineExceeded) || len(r.buf) != smallBuffer || r.Buffered() != 6 {
		t.Errorf("half a short line: buffer %d, %d buffered, %v", len(r.buf), r.Buffered(), err)
	}
}

func gotLine(readings int) string {
	items := make([]GotItem, readings)
	for i := range items {
		items[i] = GotItem{Collector: "cpu", Stat: "stat_" + string(rune('a'+i%26)), Value: 0.3697 * float64(i+1)}
	}
	return string(AppendGot(nil, items))
}

// TestReadingDoesNotAllocate checks the promise of the package comment for lines that fit in the
// small buffer and for longer ones.
func TestReadingDoesNotAllocate(t *testing.T) {
	for _, readings := range []int{10, 100, 1000} {
		r := NewReader(&lineSource{text: gotLine(readings) + "ping\nget cpu,ram\nadd cpu:service:web1,guy\nfoo\n", loop: true})
		sum, n := 0.0, 0
		allocs := testing.AllocsPerRun(100, func() {
			for range 5 {
				m, err := r.Read()
				if err != nil {
					t.Fatal(err)
				}
				switch m.Verb {
				case VerbGot:
					for reading := range Readings(m.Args) {
						if reading.Err != nil {
							t.Fatal(reading.Err)
						}
						sum += reading.Value
						n++
					}
				case VerbGet:
					for name := range Names(m.Args) {
						n += len(name)
					}
				}
			}
		})
		if allocs != 0 || n == 0 {
			t.Errorf("five lines, one of them with %d readings: %v allocations", readings, allocs)
		}
	}
}

// TestRejectingDoesNotAllocate: a relay that sends only rubbish costs no more than an honest one.
func TestRejectingDoesNotAllocate(t *testing.T) {
	args := []byte("noval,a-b-c:5,cpu-x:abc,cpu-y:NaN,:1,a:,a\x01b:1,caf\xc3:1")
	rejected := 0
	allocs := testing.AllocsPerRun(100, func() {
		for r := range Readings(args) {
			if r.Err == nil {
				t.Fatalf("%q is accepted", r.Collector)
			}
			rejected++
		}
	})
	if allocs != 0 || rejected != 8*101 {
		t.Errorf("%v allocations, %d rejected", allocs, rejected)
	}
}

func BenchmarkReadGot10(b *testing.B)  { benchmarkReadGot(b, 10) }
func BenchmarkReadGot100(b *testing.B) { benchmarkReadGot(b, 100) }

func benchmarkReadGot(b *testing.B, readings int) {
	line := gotLine(readings)
	r := NewReader(&lineSource{text: line, loop: true})
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	sum := 0.0
	for b.Loop() {
		m, err := r.Read()
		if err != nil {
			b.Fatal(err)
		}
		for reading := range Readings(m.Args) {
			sum += reading.Value
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*readings), "ns/reading")
}
