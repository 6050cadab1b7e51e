package kapa

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nanopack/pulse/internal/cut"
)

const (
	apiTimeout = 10 * time.Second
	apiPage    = 100     // Kapacitor's own
	apiAnswer  = 8 << 20 // bytes of an answer that are read
)

// KapacitorError is what Kapacitor answered, or why it did not.
type KapacitorError struct {
	Op     string // what was asked, as "create task"
	Status int    // 0: there was no answer
	Err    error
}

// Error says what failed.
func (e *KapacitorError) Error() string {
	switch e.Status {
	case 0:
		return fmt.Sprintf("kapacitor does not answer (%s): %v: is it running at --kapacitor-address?", e.Op, e.Err)
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Sprintf("kapacitor refuses the login (%s): put user:password@ into --kapacitor-address: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("kapacitor answers %d (%s): %v", e.Status, e.Op, e.Err)
}

// Unwrap returns the cause.
func (e *KapacitorError) Unwrap() error { return e.Err }

// client speaks Kapacitor's HTTP API, version 1 (docs: Kapacitor 1.5, HTTP API reference).
type client struct {
	base           *url.URL // without user and password
	user, password string
	http           *http.Client
	page           int // tasks in one answer
}

// newClient checks the address; it does not connect.
func newClient(address string) (*client, error) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("kapa: the address of Kapacitor must be as http://127.0.0.1:9092")
	}
	c := &client{base: u, user: u.User.Username(), page: apiPage}
	c.password, _ = u.User.Password()
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	c.http = &http.Client{
		Timeout: apiTimeout,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute,
			MaxResponseHeaderBytes: maxHeaders},
		// A redirected POST would arrive as a GET without its body.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

func (c *client) close() { c.http.CloseIdleConnections() }

// task is one of Kapacitor's tasks, as far as it matters here.
type task struct {
	ID         string              `json:"id"`
	TemplateID string              `json:"template-id,omitempty"`
	DBRPs      []dbrp              `json:"dbrps,omitempty"`
	Vars       map[string]variable `json:"vars,omitempty"`
	Status     string              `json:"status,omitempty"`
	Executing  bool                `json:"executing,omitempty"`
	Error      string              `json:"error,omitempty"`
}

type dbrp struct {
	Database string `json:"db"`
	Policy   string `json:"rp"`
}

// tasks lists the tasks whose id begins with prefix, all pages of them.
func (c *client) tasks(ctx context.Context, prefix string) (map[string]task, error) {
	found := map[string]task{}
	for offset := 0; ; offset += c.page {
		q := url.Values{"pattern": {prefix + "*"}, "offset": {strconv.Itoa(offset)}, "limit": {strconv.Itoa(c.page)},
			"fields": {"vars", "status", "executing", "error"}}
		var page struct {
			Tasks []task `json:"tasks"`
		}
		if err := c.do(ctx, "list tasks", http.MethodGet, "tasks", q, nil, &page); err != nil {
			return nil, err
		}
		for _, t := range page.Tasks {
			// The pattern is Kapacitor's; that nothing else is touched is ours.
			if strings.HasPrefix(t.ID, prefix) {
				found[t.ID] = t
			}
		}
		if len(page.Tasks) < c.page {
			return found, nil
		}
	}
}

// ensureTemplate makes the template, or puts it right.
func (c *client) ensureTemplate(ctx context.Context) error {
	var have struct {
		Script string `json:"script"`
		Error  string `json:"error"`
	}
	body := map[string]string{"id": templateID(), "type": "batch", "script": script}
	err := c.do(ctx, "get template", http.MethodGet, "templates/"+templateID(), url.Values{"script-format": {"raw"}}, nil, &have)
	var answer *KapacitorError
	switch {
	case errors.As(err, &answer) && answer.Status == http.StatusNotFound:
		return c.do(ctx, "create template", http.MethodPost, "templates", nil, body, nil)
	case err != nil:
		return err
	case have.Script != script:
		delete(body, "id")
		return c.do(ctx, "update template", http.MethodPatch, "templates/"+templateID(), nil, body, nil)
	}
	return nil
}

func (c *client) createTask(ctx context.Context, t task) error {
	return c.do(ctx, "create task", http.MethodPost, "tasks", nil, t, nil)
}

func (c *client) patchTask(ctx context.Context, id, op string, change map[string]any) error {
	return c.do(ctx, op, http.MethodPatch, "tasks/"+url.PathEscape(id), nil, change, nil)
}

func (c *client) deleteTask(ctx context.Context, id string) error {
	return c.do(ctx, "delete task", http.MethodDelete, "tasks/"+url.PathEscape(id), nil, nil, nil)
}

// do sends one request. Any error is a *KapacitorError.
func (c *client) do(ctx context.Context, op, method, path string, q url.Values, body, into any) error {
	fail := func(status int, err error) error {
		return &KapacitorError{Op: op, Status: status, Err: cut.Error(err, maxSaid)}
	}
	var payload io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return fail(0, err)
		}
		payload = bytes.NewReader(data)
	}
	u := c.base.JoinPath("kapacitor/v1", path)
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), payload)
	if err != nil {
		return fail(0, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.user != "" {
		req.SetBasicAuth(c.user, c.password)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fail(0, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, apiAnswer))
	if err != nil {
		return fail(0, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		var said struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(data, &said) != nil || said.Error == "" {
			said.Error = fmt.Sprintf("%.200q", data)
		}
		return fail(resp.StatusCode, errors.New(said.Error))
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fail(resp.StatusCode, fmt.Errorf("what answers is not a Kapacitor 1.x: %w", err))
	}
	return nil
}
