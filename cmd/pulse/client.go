package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/cut"
)

const (
	// requestTimeout bounds one request to a server.
	requestTimeout = 10 * time.Second
	// maxAnswer bounds what a server may answer.
	maxAnswer = 16 << 20
	// maxHeaders bounds the headers of an answer, maxSaid the part of a text that is shown.
	maxHeaders = 64 << 10
	maxSaid    = 1000
)

// clientFlags are the flags that say where the server of a command is.
type clientFlags struct{ api, token, caFile *string }

func clientFlagsOf(c *command.Command) clientFlags {
	return clientFlags{
		api:    c.String("api", "http://127.0.0.1:8080", "The server's http address, http or https"),
		token:  c.String("token", defaultToken, "The server's --token"),
		caFile: c.String("tls-ca", "", "Certificate (PEM) to trust, such as the server's self-signed one"),
	}
}

// client returns the client that the flags describe. The error names the flag that is wrong.
func (f clientFlags) client() (*apiClient, error) {
	api := *f.api
	if !strings.Contains(api, "://") {
		api = "http://" + api
	}
	u, err := url.Parse(api)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("--api: must be an address like http://127.0.0.1:8080, not %q", maskPassword(*f.api))
	}
	if wrong := command.TokenMistake(*f.token); wrong != "" {
		return nil, fmt.Errorf("--token: %s", wrong)
	}
	tlsConfig, err := command.ClientTLS(true, *f.caFile)
	if err != nil {
		return nil, fmt.Errorf("--tls-ca: %w", err)
	}
	user := u.User // for a proxy in front
	u.User = nil
	return &apiClient{
		base: strings.TrimSuffix(u.String(), "/"), user: user, token: *f.token, timeout: requestTimeout,
		http: &http.Client{Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: tlsConfig, DisableKeepAlives: true,
			MaxResponseHeaderBytes: maxHeaders,
		}},
	}, nil
}

// An apiClient sends requests to the API of a server.
type apiClient struct {
	base  string // without user and password
	user  *url.Userinfo
	token string
	http  *http.Client

	timeout time.Duration // of one request
}

// request makes a request with the token and, for a proxy, user and password.
func (c *apiClient) request(ctx context.Context, method, path string, content io.Reader) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return nil, err
	}
	r.Header.Set("X-AUTH-TOKEN", c.token)
	if password, ok := c.user.Password(); ok {
		r.SetBasicAuth(c.user.Username(), password)
	}
	return r, nil
}

// An apiError is an answer whose status is not a success.
type apiError struct {
	status int
	text   string // the server's
}

func (e *apiError) Error() string {
	switch e.status {
	case http.StatusUnauthorized:
		return "--token: the server does not take this token: give its own by --token or PULSE_TOKEN; its config file has it"
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return cmp.Or(e.text, http.StatusText(e.status))
	}
	return fmt.Sprintf("the server answered %d: %s", e.status, cmp.Or(e.text, http.StatusText(e.status)))
}

// send sends a request. The error says what to do about a certificate that is not trusted.
func (c *apiClient) send(request *http.Request) (*http.Response, error) {
	response, err := c.http.Do(request)
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		err = fmt.Errorf("--tls-ca: the server's certificate is not trusted: give it, or that of its authority, with --tls-ca; "+
			"the server's own is tls/cert.pem of its data dir (%w)", err)
	}
	return response, cut.Error(err, maxSaid)
}

// do sends a request and returns the body of the answer. in is sent as JSON unless it is nil. The
// error is an *apiError, or it says that no whole answer came.
func (c *apiClient) do(ctx context.Context, method, path string, in any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var content io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(b)
	}
	request, err := c.request(ctx, method, path, content)
	if err != nil {
		return nil, err
	}
	response, err := c.send(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("the answer of %s broke off: %w", c.base, err)
	}
	if response.StatusCode/100 != 2 {
		var says struct{ Error string }
		_ = json.Unmarshal(body, &says) // what is between may answer in another form: then the status has to do
		return nil, &apiError{response.StatusCode, cut.Text(says.Error, maxSaid)}
	}
	return body, nil
}

// ask is do, with the answer decoded into out.
func (c *apiClient) ask(ctx context.Context, method, path string, in, out any) error {
	body, err := c.do(ctx, method, path, in)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("%s does not answer as pulse does: %w", c.base, err)
	}
	return nil
}

// noServer reports whether err means that nothing listens at the address.
func noServer(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
