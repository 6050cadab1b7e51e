// Package console serves the page at / that shows Pulse to a person: a single page that asks the API
// as any client does, with the token that the visitor gives it. Everything comes from the binary, and
// nothing in it is secret, so it needs no token itself.
//
// The page is TypeScript in src/, which `make build` bundles into dist/ with npm. A binary that was
// built without it works, and its page says how to get the rest.
package console

import (
	"bytes"
	"compress/gzip"
	"embed"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed all:dist
var dist embed.FS

const (
	// assets is where the page's files are. Their names change with what they hold.
	assets = "/console/"
	// policy lets the page load its own files and ask its own server, and nothing else. uPlot sets
	// styles by script, which needs no exception.
	policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

// missing is the page of a binary without it.
const missing = `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Pulse</title>
<h1>Pulse works, and this binary has no page</h1>
<p>It was built by <code>go build</code> alone. <code>make build</code> adds the page; it needs npm.</p>
<p>The API answers: <code>curl -H "X-AUTH-TOKEN: $TOKEN" http://this-address/keys</code></p>
`

// Console is the page. It may be used by several goroutines.
type Console struct {
	files map[string][]byte // compressed, by the path of their address
}

// New returns the page that the binary holds.
func New() *Console { return newConsole(dist) }

func newConsole(from fs.FS) *Console {
	c := &Console{files: map[string][]byte{}}
	if index, err := fs.ReadFile(from, "dist/index.html.gz"); err == nil {
		c.files["/"] = index
	}
	names, _ := fs.Glob(from, "dist/assets/*.gz") // the pattern is right
	for _, name := range names {
		if data, err := fs.ReadFile(from, name); err == nil {
			c.files[assets+strings.TrimSuffix(path.Base(name), ".gz")] = data
		}
	}
	return c
}

// Complete reports whether the binary holds the page.
func (c *Console) Complete() bool { return c.files["/"] != nil }

// Serve answers a request for the page or one of its files, and reports whether it was one. A program
// that asks for / wants no page: it does not accept HTML.
func (c *Console) Serve(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	isPage := r.URL.Path == "/" && strings.Contains(r.Header.Get("Accept"), "text/html")
	packed := c.files[r.URL.Path]
	if !isPage && (packed == nil || r.URL.Path == "/") {
		return false
	}
	header := w.Header()
	header.Set("Content-Security-Policy", policy)
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Vary", "Accept, Accept-Encoding")
	if isPage {
		header.Set("Content-Type", "text/html; charset=utf-8")
		header.Set("Cache-Control", "no-cache")
	} else {
		header.Set("Content-Type", mime.TypeByExtension(path.Ext(r.URL.Path)))
		header.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	body := packed
	switch {
	case packed == nil:
		body = []byte(missing)
	case strings.Contains(r.Header.Get("Accept-Encoding"), "gzip"):
		header.Set("Content-Encoding", "gzip")
	default:
		body = unpack(packed)
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // fails only when the browser is gone
	}
	return true
}

// unpack decompresses a file of the binary, for the rare client that takes none compressed.
func unpack(packed []byte) []byte {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return nil
	}
	return text
}
