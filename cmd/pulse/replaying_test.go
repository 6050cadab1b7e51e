package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
)

// An askedReplay is the body of POST /replay.
type askedReplay struct {
	Projection string `json:"projection"`
	From       string `json:"from"`
	To         string `json:"to,omitempty"`
	DryRun     bool   `json:"dry_run"`
}

func postReplay(s *pulseproc.Server, r askedReplay) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	request, err := http.NewRequest(http.MethodPost, "http://"+s.HTTPAddr+"/replay", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("X-AUTH-TOKEN", "secret")
	request.Close = true // the server may be killed next
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusAccepted {
		err = fmt.Errorf("POST /replay: %d %s", response.StatusCode, answer)
	}
	return err
}

// awaitReplays waits until all replays are done.
func awaitReplays(t *testing.T, s *pulseproc.Server) {
	t.Helper()
	await(t, s, "all replays", 90*time.Second, func() error {
		var jobs []struct {
			ID, State string
			LastError string `json:"last_error"`
		}
		if err := s.Get("/replay", &jobs); err != nil {
			return err
		}
		for _, job := range jobs {
			if job.State != "done" {
				return fmt.Errorf("replay %+v", job)
			}
		}
		return nil
	})
}
