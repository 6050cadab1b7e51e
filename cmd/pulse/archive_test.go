package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// archived returns the files of a small archive.
func archived() map[string]string {
	noise := make([]byte, 100_000)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	return map[string]string{
		"pulse.db": "state", "influx/meta/meta.db": "schema",
		"journal/jetstream/PULSE/streams/PULSE/msgs/1.blk": string(noise), "journal/jetstream/PULSE/streams/PULSE/msgs/2.blk": "",
	}
}

func writeArchive(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	a, err := newArchiveWriter(&b, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := a.add(name, int64(len(text)), strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.finish(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// into returns a function that collects the files of an archive.
func into(files map[string]string) func(string, int64, io.Reader) error {
	return func(name string, _ int64, content io.Reader) error {
		text, err := io.ReadAll(content)
		files[name] = string(text)
		return err
	}
}

func TestArchive(t *testing.T) {
	files, got := archived(), map[string]string{}
	whole := writeArchive(t, files)
	m, err := readArchive(bytes.NewReader(whole), into(got))
	if err != nil || !maps.Equal(got, files) || len(m.Files) != len(files) {
		t.Fatalf("%v; %+v", err, m)
	}
	// An archive that was cut anywhere is refused. An archive with a changed byte is refused too,
	// unless the byte is not part of any file.
	for range 300 {
		cut := rand.IntN(len(whole))
		if _, err := readArchive(bytes.NewReader(whole[:cut]), into(map[string]string{})); err == nil {
			t.Errorf("cut to %d of %d bytes it passed", cut, len(whole))
		}
		flipped := bytes.Clone(whole)
		at := rand.IntN(len(whole))
		flipped[at] ^= 1 << rand.IntN(8)
		got := map[string]string{}
		if _, err := readArchive(bytes.NewReader(flipped), into(got)); err == nil && !maps.Equal(got, files) {
			t.Errorf("with byte %d flipped it passed and gave other files", at)
		}
	}
	for name, text := range map[string]string{"nothing": "", "text": "hello", "zeros": strings.Repeat("\x00", 4096)} {
		if _, err := readArchive(strings.NewReader(text), into(map[string]string{})); err == nil {
			t.Errorf("%s passed", name)
		}
	}
}

// A restore accepts only plain files in the places of a backup. When it refuses an archive, it
// leaves no files.
func TestRestoreRefuses(t *testing.T) {
	files := archived()
	whole := writeArchive(t, files)
	craft := func(headers ...tar.Header) []byte {
		var b bytes.Buffer
		zip, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w := tar.NewWriter(zip)
		for _, h := range headers {
			if err := errors.Join(w.WriteHeader(&h)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(w.Close(), zip.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for name, text := range map[string][]byte{
		"cut":             whole[:len(whole)-100],
		"no manifest":     craft(tar.Header{Name: "pulse.db", Typeflag: tar.TypeReg}),
		"upwards":         craft(tar.Header{Name: "../pulse.db", Typeflag: tar.TypeReg}),
		"upwards within":  craft(tar.Header{Name: "journal/../../x", Typeflag: tar.TypeReg}),
		"absolute":        craft(tar.Header{Name: "/tmp/x", Typeflag: tar.TypeReg}),
		"a link":          craft(tar.Header{Name: "journal/x", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}),
		"a directory":     craft(tar.Header{Name: "journal/x", Typeflag: tar.TypeDir}),
		"unknown":         craft(tar.Header{Name: "etc/passwd", Typeflag: tar.TypeReg}),
		"twice":           craft(tar.Header{Name: "pulse.db", Typeflag: tar.TypeReg}, tar.Header{Name: "pulse.db", Typeflag: tar.TypeReg}),
		"no state inside": writeArchive(t, map[string]string{"journal/x": "y"})[:10],
		"no state":        writeArchive(t, map[string]string{"influx/meta/meta.db": "y"}),
		"a foreign state": whole, // whose pulse.db is the word "state"
	} {
		dir := filepath.Join(t.TempDir(), "data")
		if _, err := restore(t.Context(), bytes.NewReader(text), dir); err == nil {
			t.Errorf("%s: restored", name)
		}
		if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) > 0 {
			t.Errorf("%s: left behind %v, %v", name, left, err)
		}
	}
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "mine"), "x")
	if _, err := restore(t.Context(), bytes.NewReader(whole), dir); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("into a directory with a file: %v", err)
	}
}

// A backup that fails leaves no file. A backup does not replace a file unless it is told to.
func TestBackupLeavesNoHalfFile(t *testing.T) {
	whole := writeArchive(t, archived())
	dir := t.TempDir()
	file := filepath.Join(dir, "backup")
	full := errors.New("no space")
	for name, source := range map[string]func(io.Writer) error{
		"an error at once":  func(io.Writer) error { return full },
		"an error half-way": func(w io.Writer) error { _, err := w.Write(whole[:1000]); return errors.Join(err, full) },
		"not whole":         func(w io.Writer) error { _, err := w.Write(whole[:1000]); return err },
		"nothing":           func(io.Writer) error { return nil },
	} {
		if _, err := backUpInto(file, false, source); err == nil {
			t.Errorf("%s: no error", name)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: left behind %v, %v", name, left, err)
		}
	}
	all := func(w io.Writer) error { _, err := w.Write(whole); return err }
	if _, err := backUpInto(file, false, all); err != nil {
		t.Fatal(err)
	}
	if _, err := backUpInto(file, false, all); err == nil {
		t.Error("a file was replaced unasked")
	}
	if _, err := backUpInto(file, true, all); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, whole) {
		t.Errorf("the file is not what was written: %v", err)
	}
}

func TestDataFiles(t *testing.T) {
	stream := "journal/jetstream/PULSE/streams/PULSE/"
	for name, size := range map[string]int64{
		"pulse.db": 1 << 30, stream + "meta.inf": 657, stream + "msgs/12.blk": 8 << 20,
		"influx/meta/meta.db": 20, "influx/data/statistics/one_day/2/000000001-000000001.tsm": 2 << 30, "influx/data/statistics/one_day/2/fields.idx": 9,
	} {
		if !isDataFile(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size}) {
			t.Errorf("%s with %d bytes is refused", name, size)
		}
	}
	for name, size := range map[string]int64{
		"": 1, "pulse.db/x": 1, "journal/lock": 1, "tls/key.pem": 1, stream + "meta.inf": 1 << 40, stream + "msgs/1.blk": 1 << 40, stream + "msgs/x.blk": 1,
		stream + "msgs/1.blk\n": 1, "journal/jetstream/OTHER/streams/PULSE/meta.inf": 1, "influx/data/a/b/1/2/x.tsm": 1, "influx/data/a/../1/x.tsm": 1, "influx/data/a/b/1/..": 1,
	} {
		if isDataFile(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size}) {
			t.Errorf("%q with %d bytes is taken", name, size)
		}
	}
}
