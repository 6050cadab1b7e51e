package console

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

// most is how much of the network the page may take.
const most = 150_000

func packed(t *testing.T, text string) *fstest.MapFile {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &fstest.MapFile{Data: b.Bytes()}
}

// ask returns the answer of the page to a request, nil if the request is not for it.
func ask(c *Console, method, path string, header ...string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	if !c.Serve(w, r) {
		return nil
	}
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestServe(t *testing.T) {
	c := newConsole(fstest.MapFS{"dist/index.html.gz": packed(t, "<p>page"), "dist/assets/main-1.js.gz": packed(t, "code"), "dist/assets/style-2.css.gz": packed(t, "looks")})
	html := []string{"Accept", "text/html,application/xhtml+xml,*/*;q=0.8"}
	if r := ask(c, "GET", "/", html...); r == nil || body(t, r) != "<p>page" || !strings.Contains(r.Header.Get("Content-Security-Policy"), "default-src 'none'") || r.Header.Get("Cache-Control") != "no-cache" {
		t.Errorf("the page: %+v", r)
	}
	if r := ask(c, "GET", "/", append(html, "Accept-Encoding", "gzip, br")...); r == nil || r.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("the page, compressed: %+v", r)
	}
	if r := ask(c, "HEAD", "/", html...); r == nil || body(t, r) != "" || r.Header.Get("Content-Length") != "7" {
		t.Errorf("HEAD: %+v", r)
	}
	for path, want := range map[string][2]string{"/console/main-1.js": {"code", "text/javascript"}, "/console/style-2.css": {"looks", "text/css"}} {
		if r := ask(c, "GET", path); r == nil || body(t, r) != want[0] || !strings.HasPrefix(r.Header.Get("Content-Type"), want[1]) || !strings.Contains(r.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %+v", path, r)
		}
	}
	// What is not the page's goes on to the API.
	for _, r := range [][2]string{{"GET", "/"}, {"POST", "/"}, {"GET", "/console/"}, {"GET", "/console/nosuch.js"}, {"GET", "/console/../keys"}, {"DELETE", "/console/main-1.js"}, {"GET", "/keys"}} {
		if got := ask(c, r[0], r[1]); got != nil {
			t.Errorf("%s %s: %+v", r[0], r[1], got)
		}
	}
	if got := ask(c, "GET", "/keys", html...); got != nil {
		t.Errorf("a browser's /keys: %+v", got)
	}
}

// A binary without the page says to browsers how to get it.
func TestServeWithoutThePage(t *testing.T) {
	c := newConsole(fstest.MapFS{})
	if c.Complete() {
		t.Error("it is said to be complete")
	}
	if r := ask(c, "GET", "/", "Accept", "text/html"); r == nil || r.StatusCode != 200 || !strings.Contains(body(t, r), "make build") {
		t.Errorf("%+v", r)
	}
	if r := ask(c, "GET", "/", "Accept", "application/json"); r != nil {
		t.Errorf("a program gets %+v", r)
	}
}

// The page in this binary takes at most 150 kB of the network, and names no other server.
func TestSize(t *testing.T) {
	c := New()
	if !c.Complete() {
		t.Fatal("the binary holds no page: run `make page` first")
	}
	size := 0
	for path, data := range c.files {
		size += len(data)
		text := string(unpack(data))
		if text == "" {
			t.Errorf("%s is empty", path)
		}
		for _, other := range []string{"https://", "http://"} {
			for rest := text; ; {
				_, after, found := strings.Cut(rest, other)
				if !found {
					break
				}
				if !strings.HasPrefix(after, "www.w3.org/2000/svg") { // the name of a language, not an address
					t.Errorf("%s holds an address: %s%.40s", path, other, after)
				}
				rest = after
			}
		}
	}
	if size > most {
		t.Errorf("%d bytes, at most %d", size, most)
	}
	if _, err := fs.Stat(dist, "dist/README.txt"); err != nil {
		t.Error(err) // without it, go build fails where the page was not made
	}
}
