package influx

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/influxdata/influxdb1-client/models"
)

// Compression selects whether writes are sent gzipped.
type Compression int

const (
	// CompressAuto compresses unless the server is on this machine.
	CompressAuto Compression = iota
	// CompressOn always compresses.
	CompressOn
	// CompressOff never compresses.
	CompressOff
)

// ExternalOptions configures OpenExternal. Only Address is required.
type ExternalOptions struct {
	Address            string        // see ParseAddress
	CAFile             string        // PEM certificates to trust for https instead of the system's
	InsecureSkipVerify bool          // take any certificate
	Compression        Compression   // of writes
	Timeout            time.Duration // of one request, for contexts without an earlier deadline; 0 means 30 s
	MaxBody            int           // bytes of points in one request, before compression; 0 means 8 MiB
}

// external is a Store that speaks to an InfluxDB 1.x server.
//
// It makes its own requests, because the client of influxdb1-client takes no context, drops a
// write's status, and puts statements into the URL, where they meet length limits and access logs.
// Only the client's response types and decoder are used.
type external struct {
	base     *url.URL // without user and password
	user     string
	password string
	http     *http.Client
	gzip     bool
	timeout  time.Duration
	limit    bodyLimit
	// maxAnswer is how many bytes of an answer are read before giving up.
	maxAnswer int64
	encoders  sync.Pool // of *encoder

	mu     sync.Mutex // guards closed, and calls.Add against Close
	closed bool
	calls  sync.WaitGroup
	done   context.Context // ended by Close; ends every call but writes
	stop   context.CancelFunc
}

var _ Store = (*external)(nil)

// OpenExternal returns a store on the server at o.Address. It does not connect: if the server is
// away, OpenExternal succeeds, and each call of the store fails with a Temporary error.
func OpenExternal(o ExternalOptions) (Store, error) {
	u, err := ParseAddress(o.Address)
	if err != nil {
		return nil, err
	}
	tlsConfig, err := o.tls()
	if err != nil {
		return nil, err
	}
	e := &external{base: u, timeout: o.Timeout, maxAnswer: defaultMaxAnswer,
		encoders: sync.Pool{New: func() any { return new(encoder) }}}
	e.user = u.User.Username()
	e.password, _ = u.User.Password()
	u.User = nil
	if e.timeout <= 0 {
		e.timeout = 30 * time.Second
	}
	e.limit.bytes.Store(8 << 20)
	if o.MaxBody > 0 {
		e.limit.bytes.Store(int64(o.MaxBody))
	}
	e.gzip = o.Compression == CompressOn || o.Compression == CompressAuto && !isLoopback(u)
	e.done, e.stop = context.WithCancel(context.Background())
	e.http = &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSClientConfig:     tlsConfig,
			TLSHandshakeTimeout: 10 * time.Second,
			MaxIdleConnsPerHost: 16,
			IdleConnTimeout:     time.Minute,

			MaxResponseHeaderBytes: maxHeaders,
		},
		// A redirected POST would arrive as a GET without its points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return e, nil
}

func (o *ExternalOptions) tls() (*tls.Config, error) {
	c := &tls.Config{InsecureSkipVerify: o.InsecureSkipVerify}
	if o.CAFile == "" {
		return c, nil
	}
	pem, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("InfluxDB CA file: %w", err)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("InfluxDB CA file %s: expected certificates in PEM form, found none", o.CAFile)
	}
	return c, nil
}

// Ping implements Store.
func (e *external) Ping(ctx context.Context) (string, error) {
	resp, err := e.do(ctx, &request{op: "ping", method: http.MethodGet, path: "/ping"})
	if err != nil {
		return "", err
	}
	if resp.status != http.StatusNoContent && resp.status != http.StatusOK {
		return "", resp.failure("ping")
	}
	if resp.version == "" {
		return "", &Error{Op: "ping", Status: resp.status, Err: errors.New("what answers is not an InfluxDB 1.x: check the address")}
	}
	return resp.version, nil
}

// Flush implements Store. It has nothing to do: the server has made each write durable.
func (e *external) Flush(ctx context.Context, _ Policy) error { return ContextError("flush", ctx) }

// Query implements Store. Every statement is sent by POST. InfluxDB requires POST for statements
// that change something, and POST keeps the others out of URLs and access logs.
func (e *external) Query(ctx context.Context, statement string, params map[string]any) ([]models.Row, error) {
	_, bound, err := Parse(statement, params)
	if err != nil {
		return nil, err
	}
	text, err := encodeParams(bound)
	if err != nil {
		return nil, &Error{Op: "query", Kind: Invalid, Err: err}
	}
	// A chunked answer comes series by series, and is decoded while the server computes the next.
	form := url.Values{"db": {Database}, "q": {statement}, "epoch": {"ns"}, "params": {text}, "chunked": {"true"}}.Encode()
	var rows []models.Row
	err = e.exchange(ctx, &request{
		op: "query", method: http.MethodPost, path: "/query", form: true, body: []byte(form),
	}, func(resp *http.Response) (err error) {
		rows, err = e.rows(resp)
		return err
	})
	return rows, err
}

// Close implements Store.
func (e *external) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.stop()
	e.calls.Wait()
	e.http.CloseIdleConnections()
	return nil
}
