package migrations

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/seal"
)

// values returns the values of a state file, by buckets and key, without their seals.
func values(t *testing.T, db *bbolt.DB) map[string]string {
	t.Helper()
	all := make(map[string]string)
	var visit func(at string, b *bbolt.Bucket) error
	visit = func(at string, b *bbolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			if v == nil {
				return visit(at+"/"+string(k), b.Bucket(k))
			}
			all[at+"/"+string(k)] = string(seal.Open(v))
			return nil
		})
	}
	if err := db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			if string(name) == damagedBucket {
				return nil
			}
			return visit(string(name), b)
		})
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// put writes values as an earlier release does, without seals.
func put(t *testing.T, dir string) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, FileName), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := runSteps(db, steps()[:1], nil); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(func(tx *bbolt.Tx) error {
		for _, path := range []string{"relays", "overrides", "positions", "alerts/definitions", "alerts/states", "rejects/influx_raw", "windows", "edge_windows", "replays", "backlog/influx_raw"} {
			names := strings.Split(path, "/")
			b, err := tx.CreateBucketIfNotExists([]byte(names[0]))
			if err == nil && len(names) > 1 {
				b, err = b.CreateBucketIfNotExists([]byte(names[1]))
			}
			for i := 0; i < 20 && err == nil; i++ {
				err = b.Put(fmt.Appendf(nil, "key %d", i), fmt.Appendf(nil, `{"v":1,"value":%d}`, i))
			}
			if err != nil {
				return err
			}
		}
		for _, name := range []string{"influx_raw", "influx_aggregates"} {
			if err := tx.Bucket([]byte("positions")).Put([]byte(name), []byte{0, 0, 0, 0, 0, 0, 0, 9}); err != nil {
				return err
			}
		}
		return tx.Bucket([]byte(metaBucket)).Put([]byte("journal"), []byte(`{"stream":"x","seq":9}`))
	}), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func mustOpen(t *testing.T, dir string) *State {
	t.Helper()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Values of an earlier release are sealed and keep their content.
func TestValuesAreSealed(t *testing.T) {
	dir := t.TempDir()
	put(t, dir)
	s := mustOpen(t, dir)
	defer s.Close()
	all := values(t, s.DB)
	if len(all) < 180 || all["relays/key 7"] != `{"v":1,"value":7}` || all["meta/identity"] != s.Identity || len(s.Identity) < 20 || len(s.Damages) > 0 {
		t.Errorf("%d values, identity %q, damages %v", len(all), s.Identity, s.Damages)
	}
	if err := s.DB.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("alerts")).Bucket([]byte("definitions")).ForEach(func(k, v []byte) error {
			if !seal.Sealed(v) {
				t.Errorf("%s has no seal", k)
			}
			return nil
		})
	}); err != nil {
		t.Error(err)
	}
}

// A damaged value is removed, reported and kept. If nothing else would restore the value, a
// projection begins again.
func TestDamagedValues(t *testing.T) {
	for path, rewound := range map[string]string{
		"relays/key 7": "", "alerts/definitions/key 3": "", "positions/influx_raw": "positions/influx_raw", "windows/key 1": "positions/influx_aggregates",
		"backlog/influx_raw/key 2": "positions/influx_raw", "meta/identity": "", "meta/journal": "",
	} {
		t.Run(path, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir)
			s := mustOpen(t, dir)
			before := values(t, s.DB)
			names := strings.Split(path, "/")
			if err := errors.Join(s.DB.Update(func(tx *bbolt.Tx) error {
				b := tx.Bucket([]byte(names[0]))
				for _, name := range names[1 : len(names)-1] {
					b = b.Bucket([]byte(name))
				}
				key := []byte(names[len(names)-1])
				v := bytes.Clone(b.Get(key))
				v[len(v)-2] ^= 1
				return b.Put(key, v)
			}), s.Close()); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the damage is still reported at the next start
				s = mustOpen(t, dir)
				after := values(t, s.DB)
				if len(s.Damages) != 1 || s.Damages[0].What != path || len(s.Damages[0].Value) == 0 || s.Damages[0].Effect == "" {
					t.Errorf("told: %+v", s.Damages)
				}
				for k := range before {
					if _, ok := after[k]; ok == (k == path || k == rewound) && k != "meta/identity" {
						t.Errorf("%s is there: %v", k, ok)
					}
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// With one flipped bit anywhere, the file is refused, or every value is unchanged, or the damage is
// reported.
func TestOneBit(t *testing.T) {
	whole := t.TempDir()
	put(t, whole)
	s := mustOpen(t, whole)
	want := values(t, s.DB)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(whole, FileName))
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	refused, told := 0, 0
	for range 500 {
		dir := t.TempDir()
		flipped := bytes.Clone(file)
		bit := rng.IntN(8 * len(flipped))
		for flipped[bit/8] == 0 && rng.IntN(10) > 0 { // most of the file is empty
			bit = rng.IntN(8 * len(flipped))
		}
		flipped[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(filepath.Join(dir, FileName), flipped, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir, Options{})
		if err != nil {
			refused++
			continue
		}
		got := values(t, s.DB)
		for k, v := range got {
			if w, ok := want[k]; !ok || v != w && (k != "meta/identity" || len(s.Damages) == 0) {
				t.Errorf("bit %d of byte %d: %s is %q, was %q (%v)", bit%8, bit/8, k, v, w, ok)
			}
		}
		for k := range want {
			if _, ok := got[k]; !ok && len(s.Damages) == 0 {
				t.Errorf("bit %d of byte %d: %s is gone and not told", bit%8, bit/8, k)
			}
		}
		if len(s.Damages) > 0 {
			told++
			if slices.ContainsFunc(s.Damages, func(d Damage) bool { return d.Effect == "" }) {
				t.Errorf("told: %+v", s.Damages)
			}
		}
		if err := s.Close(); err != nil {
			t.Errorf("bit %d of byte %d: %v", bit%8, bit/8, err)
		}
	}
	t.Logf("%d refused, %d told", refused, told)
	if refused < 5 || told < 25 {
		t.Errorf("%d refused, %d told", refused, told)
	}
}

// big returns a state file whose buckets have pages of their own, and branches.
func big(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	s := mustOpen(t, dir)
	if err := errors.Join(s.DB.Update(func(tx *bbolt.Tx) error {
		for i := range 500 {
			key := fmt.Appendf(nil, "key %d", i)
			if err := tx.Bucket([]byte("relays")).Put(key, seal.Seal(key, fmt.Appendf(nil, `{"v":1,"value":%d}`, i))); err != nil {
				return err
			}
		}
		key := []byte("long")
		return tx.Bucket([]byte("overrides")).Put(key, seal.Seal(key, make([]byte, 20_000)))
	}), s.Close()); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// Open does not follow damaged page numbers in a circle or beyond the end of the file. The numbers
// are those of a page's further pages and of the pages that a branch or a bucket leads to.
func TestPageNumbers(t *testing.T) {
	// The layout of a file of bbolt.
	const pageSize, pageHeader, branchPage, bucketHeader = 4096, 16, 1, 16
	file := big(t)
	order := binary.NativeEndian
	open := func(what string, changed []byte) (refused bool) {
		t.Helper()
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, FileName), changed, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir, Options{})
		if err == nil {
			if got := values(t, s.DB); len(got) < 500 && len(s.Damages) == 0 {
				t.Errorf("%s: %d values, and nothing told", what, len(got))
			}
			if err := s.Close(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		return err != nil
	}
	opened, branches := 0, 0
	for at := 2 * pageSize; at < len(file); at += pageSize {
		page := file[at : at+pageSize]
		id, kind := order.Uint64(page), order.Uint16(page[8:])
		if id != uint64(at/pageSize) {
			continue
		}
		for _, further := range []uint32{1, 1 << 10, 1 << 22, 1 << 24, 1 << 31} {
			changed := bytes.Clone(file)
			order.PutUint32(changed[at+12:], order.Uint32(page[12:])^further)
			if !open(fmt.Sprintf("page %d (kind %d) with further pages ^%d", id, kind, further), changed) {
				opened++ // a free page, whose numbers nobody follows
			}
		}
		if kind != branchPage {
			continue
		}
		branches++
		for _, to := range []uint64{id, 0, 1, id + 1, uint64(len(file) / pageSize), 1 << 40, 1 << 63} {
			changed := bytes.Clone(file)
			if child := changed[at+pageHeader+8:]; order.Uint64(child) != to {
				order.PutUint64(child, to)
				if !open(fmt.Sprintf("branch %d leads to %d", id, to), changed) {
					t.Errorf("a branch of page %d leads to %d, and the file opens", id, to)
				}
			}
		}
	}
	for at := 2 * pageSize; at < len(file)-bucketHeader; at++ { // the header of the bucket with branches
		root := order.Uint64(file[at:])
		if root < 3 || root >= uint64(len(file)/pageSize) || order.Uint64(file[at+8:]) != 0 || order.Uint16(file[root*pageSize+8:]) != branchPage || order.Uint64(file[root*pageSize:]) != root {
			continue
		}
		for to := range uint64(len(file) / pageSize) {
			changed := bytes.Clone(file)
			if order.PutUint64(changed[at:], to); to != root {
				open(fmt.Sprintf("the bucket's root is %d", to), changed)
			}
		}
	}
	if branches == 0 || opened > 40 {
		t.Errorf("%d branches, %d opened", branches, opened)
	}
}

// A bucket whose name is damaged gets its name back, with its values.
func TestDamagedNames(t *testing.T) {
	for _, c := range []struct{ in, from, to string }{
		{"", "replays", "replayc"}, {"", "windows", "windovs"}, {"", "edge_windows", "edge_wind0ws"}, {"", "alerts", "alerus"}, {"alerts", "states", "statez"}, {"backlog", "influx_raw", "influx_rav"},
	} {
		t.Run(c.from, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir)
			s := mustOpen(t, dir)
			want := values(t, s.DB)
			if err := errors.Join(s.DB.Update(func(tx *bbolt.Tx) error {
				if c.in == "" {
					return moveBucket(tx, c.from, c.to)
				}
				return moveBucket(tx.Bucket([]byte(c.in)), c.from, c.to)
			}), s.Close()); err != nil {
				t.Fatal(err)
			}
			checked, err := Check(dir)
			if err != nil || len(checked) != 1 {
				t.Errorf("check: %+v, %v", checked, err)
			}
			for range 2 {
				s = mustOpen(t, dir)
				if got := values(t, s.DB); !maps.Equal(got, want) {
					t.Errorf("%d values, were %d", len(got), len(want))
				}
				if len(s.Damages) != 1 || !strings.Contains(s.Damages[0].Effect, c.from) || !strings.HasSuffix(s.Damages[0].What, c.to) {
					t.Errorf("told: %+v", s.Damages)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

type buckets interface {
	Bucket([]byte) *bbolt.Bucket
	CreateBucket([]byte) (*bbolt.Bucket, error)
	DeleteBucket([]byte) error
}

func moveBucket(in buckets, from, to string) error {
	b := in.Bucket([]byte(from))
	whole := newTree(b)
	whole.fill([]string{from}, b)
	if err := in.DeleteBucket([]byte(from)); err != nil {
		return err
	}
	b, err := in.CreateBucket([]byte(to))
	if err != nil {
		return err
	}
	return whole.put(b)
}

// A bucket that a later release made stays as it is.
func TestUnknownBucketStays(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	if err := errors.Join(s.DB.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("orbits"))
		if err != nil {
			return err
		}
		return b.Put([]byte("k"), []byte("v"))
	}), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir)
	defer s.Close()
	if got := values(t, s.DB); got["orbits/k"] != "v" || len(s.Damages) > 0 {
		t.Errorf("%v, %v", got, s.Damages)
	}
}

// A bucket's sequence has no seal: the next number after a damage is not one that a key has
// already.
func TestDamagedSequence(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	key := binary.BigEndian.AppendUint64(nil, 9)
	if err := errors.Join(s.DB.Update(func(tx *bbolt.Tx) error {
		for _, names := range [][]string{{"replays"}, {"rejects", "influx_raw"}, {"alerts", "queue"}} {
			b, err := tx.CreateBucketIfNotExists([]byte(names[0]))
			if err == nil && len(names) > 1 {
				b, err = b.CreateBucketIfNotExists([]byte(names[1]))
			}
			if err != nil {
				return err
			}
			if err := errors.Join(b.Put(key, seal.Seal(key, []byte("{}"))), b.SetSequence(1)); err != nil {
				return err
			}
		}
		return nil
	}), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir)
	defer s.Close()
	if err := s.DB.Update(func(tx *bbolt.Tx) error {
		for _, b := range []*bbolt.Bucket{tx.Bucket([]byte("replays")), tx.Bucket([]byte("rejects")).Bucket([]byte("influx_raw")), tx.Bucket([]byte("alerts")).Bucket([]byte("queue"))} {
			if n, err := b.NextSequence(); n != 10 || err != nil {
				t.Errorf("the next number is %d, %v", n, err)
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
