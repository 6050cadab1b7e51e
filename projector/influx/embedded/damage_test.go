package embedded_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
)

// stored is the directory of a stopped store, and the points in it.
type stored struct {
	dir    string
	points map[cell]float64
}

type cell struct {
	policy influx.Policy
	host   string
	time   int64
}

// fill writes points of three hours into both policies, in several files each.
func fill(t *testing.T) stored {
	t.Helper()
	st := stored{dir: t.TempDir(), points: make(map[cell]float64)}
	s := open(t, embedded.Options{Dir: st.dir})
	exec(t, s, createRaw, createAggregates)
	now := time.Now()
	for hour := range 3 {
		for part := range 3 {
			from := now.Add(-time.Duration(hour)*time.Hour - time.Duration(part+1)*5*time.Minute)
			batch := points(fmt.Sprint(hour, part), from, 200)
			for _, policy := range []influx.Policy{influx.PolicyRaw, influx.PolicyAggregate} {
				if _, err := s.Write(t.Context(), policy, batch); err != nil {
					t.Fatal(err)
				}
				if err := s.Flush(t.Context(), policy); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	st.points = read(t, s)
	if len(st.points) != 2*3*3*200 {
		t.Fatalf("%d points", len(st.points))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return st
}

// read reads every point of both policies.
func read(t *testing.T, s influx.Store) map[cell]float64 {
	t.Helper()
	cells := make(map[cell]float64)
	for _, policy := range []influx.Policy{influx.PolicyRaw, influx.PolicyAggregate} {
		rows, err := s.Query(t.Context(), fmt.Sprintf(`SELECT "cpu" FROM "statistics".%q."cpu" GROUP BY "host"`, policy), nil)
		if err != nil && influx.KindOf(err) != influx.Schema {
			t.Fatal(err)
		}
		for _, row := range rows {
			for _, v := range row.Values {
				cells[cell{policy, row.Tags["host"], v[0].(int64)}] = v[1].(float64)
			}
		}
	}
	return cells
}

func (st stored) copy(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "influx")
	if err := os.CopyFS(dir, os.DirFS(st.dir)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// check opens a damaged copy of the store. The copy must hold no point that was not written, and
// its damages must cover every missing point.
func (st stored) check(t *testing.T, dir string, limit int64) []influx.Damage {
	t.Helper()
	o := embedded.Options{Dir: dir}
	o.SetVerifyLimit(limit)
	s, err := embedded.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Verified()
	got, damages := read(t, s), s.Damages()
	for c, v := range got {
		if want, ok := st.points[c]; !ok || v != want {
			t.Errorf("%v is %v, written was %v (%v)", c, v, want, ok)
			break
		}
	}
	for c := range st.points {
		if _, ok := got[c]; !ok && !slices.ContainsFunc(damages, func(d influx.Damage) bool {
			return d.Policy == c.policy && !time.Unix(0, c.time).Before(d.From) && !time.Unix(0, c.time).After(d.To)
		}) {
			t.Errorf("%v is missing and not told: %+v", c, damages)
			break
		}
	}
	for _, d := range damages {
		if _, err := os.Stat(filepath.Join(dir, d.Aside)); d.Aside != "" && err != nil {
			t.Errorf("%+v is not aside: %v", d, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	again := open(t, embedded.Options{Dir: dir})
	if d := again.Damages(); len(d) != len(damages) {
		t.Errorf("the second start finds other damages: %+v, the first %+v", d, damages)
	}
	return damages
}

// files returns the paths of the files below a directory.
func files(t *testing.T, dir string) (paths []string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			paths = append(paths, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return paths
}

// After a bit flip in any file the store returns only points that were written, and reports the
// missing ones.
func TestOneBit(t *testing.T) {
	st := fill(t)
	rng := rand.New(rand.NewPCG(1, 2))
	all := files(t, st.dir)
	slices.Sort(all)
	told := 0
	for i := range 60 {
		dir := st.copy(t)
		name, _ := filepath.Rel(st.dir, all[i%len(all)])
		path := filepath.Join(dir, name)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(content) == 0 {
			continue
		}
		bit := rng.IntN(8 * len(content))
		content[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		limit := int64(0)
		if i%2 == 1 {
			limit = -1 // verify all files while the engine runs
		}
		damages := st.check(t, dir, limit)
		if len(damages) > 0 {
			told++
		} else if !strings.Contains(name, "_series") && !strings.Contains(name, "fields.idx") && !strings.Contains(name, "meta.db") {
			t.Errorf("bit %d of %s is not told", bit, name)
		}
		if t.Failed() {
			t.Fatalf("bit %d of %s", bit, name)
		}
	}
	if told < 20 {
		t.Errorf("%d of 60 told", told)
	}
}

// A damaged block costs no other block: the damage covers the times of that block only, and every
// point of the file's other blocks is still there.
func TestDamagedBlockTakesNoOther(t *testing.T) {
	st := stored{dir: t.TempDir(), points: make(map[cell]float64)}
	s := open(t, embedded.Options{Dir: st.dir})
	exec(t, s, createRaw, createAggregates)
	from := time.Now().Add(-20 * time.Minute)
	var batch []influx.Point
	for i := range 10 { // one block each, with different times
		batch = append(batch, points(fmt.Sprint("host", i), from.Add(time.Duration(i)*100*time.Second), 100)...)
	}
	if _, err := s.Write(t.Context(), influx.PolicyRaw, batch); err != nil {
		t.Fatal(err)
	}
	st.points = read(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int64{0, -1} {
		dir := st.copy(t)
		paths, err := filepath.Glob(filepath.Join(dir, "data", "statistics", "one_day", "*", "*.tsm"))
		if err != nil || len(paths) == 0 {
			t.Fatal(paths, err)
		}
		path := paths[0]
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		content[40] ^= 1 // the first block: it begins at the fifth byte
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		damages := st.check(t, dir, limit)
		if len(damages) != 1 || !strings.Contains(damages[0].Why, "blocks are intact") || damages[0].Aside == "" {
			t.Fatalf("%+v", damages)
		}
		if d := damages[0]; d.To.Sub(d.From) > 100*time.Second {
			t.Errorf("the damage is of %v to %v", d.From, d.To)
		}
		again := open(t, embedded.Options{Dir: dir})
		got := read(t, again)
		if len(got) < len(st.points)-100 || len(got) == len(st.points) {
			t.Errorf("%d of %d points are there", len(got), len(st.points))
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A bit that flips after the file was verified is found before the file is merged with others. A
// merge would write a correct checksum over the damaged block.
func TestDamagedBlockIsNotMerged(t *testing.T) {
	st := stored{dir: t.TempDir(), points: make(map[cell]float64)}
	s := open(t, embedded.Options{Dir: st.dir})
	exec(t, s, createRaw, createAggregates)
	from := time.Now().Truncate(time.Hour).Add(-time.Hour) // one shard
	for i := range 4 {
		write(t, s, points(fmt.Sprint("host", i), from, 1000))
		if err := s.Flush(t.Context(), influx.PolicyRaw); err != nil {
			t.Fatal(err)
		}
	}
	st.points = read(t, s)
	paths, err := filepath.Glob(filepath.Join(st.dir, "data", "statistics", "one_day", "*", "*.tsm"))
	if err != nil || len(paths) != 4 {
		t.Fatal(paths, err)
	}
	f, err := os.OpenFile(paths[1], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	_, err = f.ReadAt(b[:], 40)
	b[0] ^= 1
	if err == nil {
		_, err = f.WriteAt(b[:], 40)
	}
	if err := errors.Join(err, f.Close(), s.Merge()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Damaged():
	case <-time.After(time.Minute):
		t.Fatal("the damage was not found")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	damages := st.check(t, st.dir, 0)
	if len(damages) != 1 || !strings.Contains(damages[0].What, filepath.Base(paths[1])) || damages[0].From.IsZero() {
		t.Errorf("%+v", damages)
	}
}

// The store reports a file that is missing, cut or replaced, and keeps the points of all other
// files.
func TestDamagedFiles(t *testing.T) {
	st := fill(t)
	each := func(pattern string, change func(path string) error) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			paths, err := filepath.Glob(filepath.Join(dir, filepath.FromSlash(pattern)))
			if err != nil || len(paths) == 0 {
				t.Fatalf("%s: %v", pattern, err)
			}
			if err := change(paths[0]); err != nil {
				t.Fatal(err)
			}
		}
	}
	half := func(path string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Truncate(path, info.Size()/2)
	}
	empty := func(path string) error { return os.WriteFile(path, nil, 0o600) }
	for name, c := range map[string]struct {
		damage func(t *testing.T, dir string)
		told   string
		points bool // some points are missing
	}{
		"nothing":              {func(*testing.T, string) {}, "", false},
		"a file is gone":       {each("data/statistics/one_day/*/*.tsm", os.Remove), "it is gone", true},
		"a file is cut":        {each("data/statistics/one_week/*/*.tsm", half), "bytes instead of", true},
		"a file is empty":      {each("data/statistics/one_day/*/*.tsm", empty), "it has 0 bytes", true},
		"a shard is gone":      {each("data/statistics/one_day/*", os.RemoveAll), "it is gone", true},
		"all data is gone":     {each("data", os.RemoveAll), "it is gone", true},
		"the schema is gone":   {each("meta/meta.db", os.Remove), "meta/meta.db", false},
		"the schema is empty":  {each("meta/meta.db", empty), "meta/meta.db", false},
		"the schema is cut":    {each("meta/meta.db", half), "meta/meta.db", false},
		"the schema is noise":  {each("meta/meta.db", func(p string) error { return os.WriteFile(p, []byte("noise"), 0o600) }), "meta/meta.db", false},
		"the series are gone":  {each("data/statistics/_series", os.RemoveAll), "", false},
		"the series are cut":   {each("data/statistics/_series/00/0000", half), "", false},
		"the fields are cut":   {each("data/statistics/one_day/*/fields.idx", half), "", false},
		"the manifest is gone": {each("manifest", os.Remove), "manifest", false},
		"the manifest is cut":  {each("manifest", half), "manifest", false},
		"manifest and schema":  {func(t *testing.T, dir string) { each("manifest", half)(t, dir); each("meta/meta.db", half)(t, dir) }, "meta/meta.db", true},
		"without manifest, cut": {func(t *testing.T, dir string) {
			each("manifest", os.Remove)(t, dir)
			each("data/statistics/one_day/*/*.tsm", half)(t, dir)
		}, "data/statistics", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, limit := range []int64{0, -1} {
				dir := st.copy(t)
				c.damage(t, dir)
				damages := st.check(t, dir, limit)
				text, err := json.Marshal(damages)
				if err != nil || (len(damages) > 0) != (c.told != "") || !strings.Contains(string(text), c.told) {
					t.Errorf("told: %s, %v", text, err)
				}
				if c.points != slices.ContainsFunc(damages, func(d influx.Damage) bool { return d.Policy != "" }) && c.told != "manifest" {
					t.Errorf("of points: %s", text)
				}
			}
		})
	}
}
