package link

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/journal"
)

type UplinkOptions struct {
	Address, Edge, Token string
	TLS                  *tls.Config
	Journal              *journal.Journal
	Release              string
	Ask                  func(ctx context.Context, what string, body []byte) ([]byte, error)
	Logger               *slog.Logger
	Registerer           prometheus.Registerer
	Now                  func() time.Time
}
type Uplink struct{ o UplinkOptions }

func NewUplink(o UplinkOptions) (*Uplink, error) { return &Uplink{o}, nil }
func (u *Uplink) Start()                         {}
func (u *Uplink) Stop(context.Context) error     { return nil }
func (u *Uplink) SetToken(string)                {}
func (u *Uplink) Status() UplinkStatus {
	return UplinkStatus{Edge: u.o.Edge, Hub: u.o.Address, State: "connecting"}
}

type HubOptions struct {
	Listener   net.Listener
	TLS        *tls.Config
	Journal    *journal.Journal
	DB         *bbolt.DB
	Tokens     map[string]string
	Release    string
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time
}
type Hub struct{ o HubOptions }

func NewHub(o HubOptions) (*Hub, error)                                    { return &Hub{o}, nil }
func (h *Hub) Start()                                                      {}
func (h *Hub) Stop(context.Context) error                                  { return h.o.Listener.Close() }
func (h *Hub) SetTokens(map[string]string)                                 {}
func (h *Hub) Edges() []Edge                                               { return nil }
func (h *Hub) RefusedNames() []UnknownEdge                                 { return nil }
func (h *Hub) Ask(context.Context, string, string, []byte) ([]byte, error) { return nil, ErrDown }
