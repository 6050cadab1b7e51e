package source

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/nanopack/pulse/relaywire"
	"github.com/nanopack/pulse/relaywire/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// offered holds a relay's collectors.
type offered struct {
	mu   sync.Mutex
	said []string
	have map[string]bool
}

func newOffered() *offered { return &offered{have: map[string]bool{}} }

func (o *offered) AddCollector(name string, tags []string, _ relay.Collector) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.have[name] {
		return relay.ErrDuplicate
	}
	o.have[name] = true
	o.said = append(o.said, "+"+name+" "+strings.Join(tags, ","))
	return nil
}

func (o *offered) RemoveCollector(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.have, name)
	o.said = append(o.said, "-"+name)
}

func (o *offered) take() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer func() { o.said = nil }()
	return o.said
}

// scripted is a source whose looks the test sets.
type scripted struct {
	mu     sync.Mutex
	groups []Group
	hang   chan struct{}
	closed bool
}

func (s *scripted) Look() []Group {
	s.mu.Lock()
	hang := s.hang
	s.mu.Unlock()
	if hang != nil {
		<-hang
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.groups
}

func (s *scripted) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

func (s *scripted) set(groups ...Group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.groups = groups
}

func some(names ...string) (g Group) {
	for _, name := range names {
		g.Collectors = append(g.Collectors, Collector{Name: name, Tags: []string{"is:" + name}, New: func() relay.Collector { return nil }})
	}
	return g
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, o := &scripted{}, newOffered()
		s.set(some("a", "b"), some("c"))
		w, err := Watch(o, []string{"rack:7"}, s)
		if err != nil {
			t.Fatal(err)
		}
		expect := func(want ...string) {
			t.Helper()
			if got := o.take(); !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		}
		next := func(groups ...Group) {
			s.set(groups...)
			time.Sleep(lookInterval)
			synctest.Wait()
		}
		expect("+a rack:7,is:a", "+b rack:7,is:b", "+c rack:7,is:c")
		next(some("a"), some("c", "d"))
		expect("-b", "+d rack:7,is:d")
		next(Group{Err: errors.New("unreadable")}, some("c"))
		expect("-d")
		other := some("a")
		other.Collectors[0].Identity = 5
		next(other, some("c"))
		expect("-a", "+a rack:7,is:a")
		w.Close()
		if !s.closed {
			t.Error("the source is not closed")
		}
	})
}

// TestWatchOfAHangingSource: a source that hangs keeps neither the others nor Close waiting, and is
// not asked twice at once.
func TestWatchOfAHangingSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck, quick, o := &scripted{hang: make(chan struct{})}, &scripted{}, newOffered()
		stuck.set(some("late"))
		quick.set(some("a"))
		begun := time.Now()
		w, err := Watch(o, nil, stuck, quick)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > firstLook {
			t.Error("Watch waited", took)
		}
		time.Sleep(10 * lookInterval)
		if got := o.take(); !slices.Equal(got, []string{"+a is:a"}) {
			t.Errorf("%q", got)
		}
		close(stuck.hang)
		synctest.Wait()
		if got := o.take(); !slices.Equal(got, []string{"+late is:late"}) {
			t.Errorf("%q", got)
		}
		stuck.mu.Lock()
		stuck.hang = make(chan struct{})
		stuck.mu.Unlock()
		time.Sleep(lookInterval)
		w.Close()
		close(stuck.hang)
	})
}

func TestRefusal(t *testing.T) {
	s, o := &scripted{}, newOffered()
	o.have["a"] = true
	s.set(some("a", "b"))
	if _, err := Watch(o, nil, s); !errors.Is(err, relay.ErrDuplicate) || !s.closed {
		t.Error(err, s.closed)
	}
}

func TestCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made, takes := 0, time.Duration(0)
		c := NewCached(10*time.Second, func() int {
			time.Sleep(takes)
			made++
			return made
		})
		get := func(want int, within time.Duration) {
			t.Helper()
			begun := time.Now()
			if got, ok := c.Get(); got != want || !ok {
				t.Errorf("got %d, %v, want %d", got, ok, want)
			}
			if took := time.Since(begun); took > within {
				t.Error("waited", took)
			}
		}
		get(1, 0)
		get(1, 0)
		time.Sleep(9 * time.Second)
		get(2, 0)
		takes = time.Minute
		time.Sleep(10 * time.Second)
		get(2, patience)
		get(2, 0) // the patience is over
		time.Sleep(30 * time.Second)
		if _, ok := c.Get(); ok {
			t.Error("a value that is too old")
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		takes = 0
		get(4, 0) // the minute gave 3, which is already old
	})
}

func TestRejectsAreSaidOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		r := NewRejects(slog.New(slog.NewTextHandler(&out, nil)), "textfile")
		for i := range 100 {
			r.Add("not a number", 1, fmt.Sprint("a.prom:", i))
		}
		r.Add("timestamp", 2, "b.prom:1")
		if n := strings.Count(out.String(), "\n"); n != 1 || !strings.Contains(out.String(), "a.prom:0") {
			t.Errorf("%d lines: %s", n, out.String())
		}
		time.Sleep(time.Minute)
		out.Reset()
		r.Say()
		r.Say()
		if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "99 of not a number, 2 of timestamp") || !strings.Contains(got, "a.prom:1") {
			t.Error(got)
		}
		if c := r.Counts(); c["not a number"] != 100 || c["timestamp"] != 2 {
			t.Error(c)
		}
	})
}

func TestGlobs(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"eth0", "eth0", true}, {"eth0", "eth01", false}, {"br-*", "br-1", true}, {"br-*", "br", false}, {"*", "", true}, {"", "", true},
		{"", "x", false}, {"/var/*", "/var/lib/x", true}, {"*a*b", "xaxbxb", true}, {"*a*b", "xaxbx", false}, {"s?a", "sda", true}, {"s?a", "sa", false},
		{strings.Repeat("*a", 50) + "b", strings.Repeat("a", 5000), false},
	} {
		if got := (Globs{"no", c.pattern}).Match(c.s); got != c.want {
			t.Errorf("%q of %q: %v", c.pattern, c.s, got)
		}
	}
}

func TestFilter(t *testing.T) {
	standard := Globs{"veth*"}
	for _, c := range []struct {
		f    Filter
		want string
	}{
		{Filter{}, "eth0"}, {Filter{Include: Globs{"*"}}, "eth0 veth1"}, {Filter{Exclude: Globs{}}, "eth0 veth1"},
		{Filter{Include: Globs{"*"}, Exclude: Globs{"eth*"}}, "veth1"}, {Filter{Exclude: Globs{"eth*"}}, "veth1"},
	} {
		var got []string
		for _, name := range []string{"eth0", "veth1"} {
			if c.f.Allows(name, standard) {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v: %q, want %q", c.f, got, c.want)
		}
	}
}

func TestNames(t *testing.T) {
	long := strings.Repeat("/x-y\u00e9,", 300)
	if got := Name("a-b:c,d e\u00e9"); got != "a_b_c_d_e_" {
		t.Errorf("%q", got)
	}
	if !relaywire.ValidName("process_" + Name(long) + "_12345678") {
		t.Error("long name")
	}
	for value, want := range map[string]string{"x": "k:x", "a,b": "k:a;b", "a\tb ": "k:a b", "\u00e9": "k:\u00e9", "\xff": "k:\ufffd"} {
		if got := Tag("k", value); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
	if got := Tag("k", long); !relaywire.ValidTag(got) {
		t.Errorf("%q", got)
	}
	all := []Collector{{Name: "a", Tags: []string{"x:1"}}, {Name: "b"}, {Name: "a", Tags: []string{"y:1"}}}
	Distinct(all)
	if all[0].Name == all[2].Name || all[1].Name != "b" || !strings.HasPrefix(all[0].Name, "a_") {
		t.Error(all)
	}
}

func TestJoinedTags(t *testing.T) {
	got := joined([]string{"a:1", "b:1", "word"}, []string{"b:2", "c:2"})
	if want := []string{"a:1", "word", "b:2", "c:2"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := joined(make([]string, 60), make([]string, 60)); len(got) != relaywire.MaxTags {
		t.Errorf("%d tags", len(got))
	}
}
