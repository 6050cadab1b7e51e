package query

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
)

// TestBackupOneAtATime checks that a backup needs the token, is streamed whole or broken off, and
// that only one runs at a time.
func TestBackupOneAtATime(t *testing.T) {
	full := errors.New("no space")
	waiting, goOn := make(chan struct{}), make(chan struct{})
	var source Backup
	s := startWorld(t, func(o *Options) {
		o.Backup = func(ctx context.Context, w io.Writer) error { return source(ctx, w) }
	})
	get := func(token string) (int, string, error) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/backup", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-AUTH-TOKEN", token)
		response, err := s.client.Do(request)
		if err != nil {
			return 0, "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return response.StatusCode, string(body), err
	}

	source = func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, "half and ")
		close(waiting)
		<-goOn
		_, err2 := io.WriteString(w, "half")
		return errors.Join(err, err2)
	}
	type answer struct {
		status int
		body   string
		err    error
	}
	first := make(chan answer, 1)
	go func() { status, body, err := get(testToken); first <- answer{status, body, err} }()
	<-waiting
	if status, _, err := get(testToken); status != http.StatusConflict || err != nil {
		t.Errorf("a second one at the same time: %d, %v", status, err)
	}
	close(goOn)
	if a := <-first; a.status != http.StatusOK || a.body != "half and half" || a.err != nil {
		t.Errorf("the first: %+v", a)
	}

	if status, _, _ := get("wrong"); status != http.StatusUnauthorized {
		t.Errorf("with a wrong token: %d", status)
	}
	source = func(ctx context.Context, w io.Writer) error {
		_, err := io.WriteString(w, "for ever")
		go s.endStreams()
		<-ctx.Done()
		return errors.Join(err, ctx.Err())
	}
	if status, _, err := get(testToken); err == nil {
		t.Errorf("one that a stop ended looks whole: %d", status)
	}
	s.streams, s.endStreams = context.WithCancel(s.baseCtx)

	source = func(context.Context, io.Writer) error { return full }
	if status, _, err := get(testToken); status != http.StatusInternalServerError || err != nil {
		t.Errorf("one that cannot begin: %d, %v", status, err)
	}
	source = func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, "half")
		return errors.Join(err, full)
	}
	if status, _, err := get(testToken); err == nil {
		t.Errorf("one that breaks off looks whole: %d", status)
	}
}
