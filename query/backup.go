package query

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Backup writes a backup of everything to w while everything goes on. Without it (Options.Backup
// nil) there is no route for it. It returns when ctx ends or w fails. What it wrote until then is
// recognized as no whole backup.
type Backup func(ctx context.Context, w io.Writer) error

// writePatience is how long a client of a long answer may take to read the next part of it.
const writePatience = time.Minute

// backup streams a backup, one at a time. An answer that has begun can only be broken off.
func (s *Server) backup(w http.ResponseWriter, r *http.Request, _ params) error {
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", "application/zstd")
		w.WriteHeader(http.StatusOK)
		return nil
	}
	if !s.backingUp.TryLock() {
		return &httpError{status: http.StatusConflict, text: "a backup is being made already"}
	}
	defer s.backingUp.Unlock()
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Time{}); err != nil { // it would end the request's context
		return fmt.Errorf("lifting the time limit: %w", err)
	}
	w.Header().Set("Content-Type", "application/zstd")
	w.Header().Set("Content-Disposition", `attachment; filename="pulse-backup.tar.zst"`)
	patient := &patientWriter{w: w, control: control}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.streams, cancel)()
	err := s.o.Backup(ctx, patient)
	if err == nil {
		return nil
	}
	if !patient.began {
		return err
	}
	s.log.Error("a backup broke off", "client", r.RemoteAddr, "error", err)
	panic(http.ErrAbortHandler) // so that nobody takes the answer for a whole backup
}

// patientWriter gives each write its own time.
type patientWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	began   bool
}

func (p *patientWriter) Write(b []byte) (int, error) {
	p.began = true
	if err := p.control.SetWriteDeadline(time.Now().Add(writePatience)); err != nil {
		return 0, err
	}
	return p.w.Write(b)
}
