package quietlog

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		l := New(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})))
		for i := range 90 { // a second each
			l.WarnRarely("even", "even", "i", i)
			if i == 3 {
				l.WarnRarely("other", "other")
				l.Info("info")
			}
			time.Sleep(time.Second)
		}
		want := "level=WARN msg=even i=0\nlevel=WARN msg=other\nlevel=INFO msg=info\nlevel=WARN msg=even i=60 repeated=59\n"
		if out.String() != want {
			t.Errorf("the log is\n%swant\n%s", out.String(), want)
		}
	})
}
