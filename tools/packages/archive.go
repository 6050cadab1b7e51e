package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// An entry is a file or, if its name ends with a slash, a directory of an archive.
type entry struct {
	name    string
	mode    int64
	uid     int
	content []byte
}

// archive writes a program with its license and documents: a zip for Windows, a tar.gz for all
// others.
func (b *builder) archive(p program, bin binary, extras []extra) error {
	name := p.name + "_" + b.revision.fileVersion() + "_" + bin.String()
	content, err := os.ReadFile(bin.path)
	if err != nil {
		return err
	}
	entries := []entry{{name: name + "/" + filepath.Base(bin.path), mode: 0o755, content: content}}
	if bin.os == "linux" { // for a distribution without deb and rpm
		extras = append(slices.Clone(extras), extra{source: filepath.Join(b.root, "docs/systemd", p.name+".service"), name: p.name + ".service"})
	}
	for _, e := range extras {
		if e.name == "" {
			continue
		}
		content, err := os.ReadFile(e.source)
		if err != nil {
			return err
		}
		entries = append(entries, entry{name: name + "/" + e.name, mode: 0o644, content: content})
	}
	var out bytes.Buffer
	if bin.os == "windows" {
		name += ".zip"
		err = writeZip(&out, entries, b.revision.time)
	} else {
		name += ".tar.gz"
		compressed := gzip.NewWriter(&out) // its header has no time
		if err = writeTar(compressed, entries, b.revision.time); err == nil {
			err = compressed.Close()
		}
	}
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.out, name), out.Bytes(), 0o644)
}

// writeTar writes a tar archive. Everything in it has one time.
func writeTar(w io.Writer, entries []entry, at time.Time) error {
	t := tar.NewWriter(w)
	for _, e := range entries {
		h := &tar.Header{Format: tar.FormatUSTAR, Name: e.name, Mode: e.mode, Uid: e.uid, Gid: e.uid, ModTime: at,
			Typeflag: tar.TypeReg, Size: int64(len(e.content))}
		if e.name[len(e.name)-1] == '/' {
			h.Typeflag = tar.TypeDir
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(e.content); err != nil {
			return err
		}
	}
	return t.Close()
}

func writeZip(w io.Writer, entries []entry, at time.Time) error {
	z := zip.NewWriter(w)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: at}
		h.SetMode(os.FileMode(e.mode))
		f, err := z.CreateHeader(h)
		if err != nil {
			return err
		}
		if _, err := f.Write(e.content); err != nil {
			return err
		}
	}
	return z.Close()
}
