package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/nanopack/pulse/relaywire/relaytest"
)

// points has each host write its readings in one request every interval. The hosts are spread
// evenly over the interval. Each has a connection of its own.
func (f *fleet) points(ctx context.Context, hosts []host, ready func()) error {
	began := time.Now()
	var trouble troubles
	var all sync.WaitGroup
	for i := range hosts {
		all.Go(func() {
			transport := &http.Transport{WriteBufferSize: 1 << 10, ReadBufferSize: 1 << 10}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: time.Minute}
			first := began.Add(f.Every * time.Duration(i) / time.Duration(f.Hosts))
			var body []byte
			for n := 0; ; n++ {
				due := first.Add(time.Duration(n) * f.Every)
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Until(due)):
				}
				body = appendLines(body[:0], hosts[i], i, due.Truncate(time.Second))
				if err := post(ctx, client, f.Address, body); err != nil && ctx.Err() == nil {
					trouble.add(err)
				}
			}
		})
	}
	ready()
	all.Wait()
	return trouble.err()
}

// appendLines appends the next reading of each stat of a host in InfluxDB's line protocol, with a
// time of whole seconds, as Telegraf writes it. Measurement and field have the stat's name, as Pulse
// stores it.
func appendLines(dst []byte, h host, i int, at time.Time) []byte {
	for stat := range h {
		name := relaytest.FleetStat(stat)
		dst = append(dst, name+",host="+relaytest.FleetID(i)+",service="+service(i)+" "+name+"="...)
		dst = strconv.AppendFloat(dst, h[stat].next(), 'g', -1, 64)
		dst = append(dst, ' ')
		dst = strconv.AppendInt(dst, at.UnixNano(), 10)
		dst = append(dst, '\n')
	}
	return dst
}

func post(ctx context.Context, client *http.Client, address string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/write?db="+influxDatabase, bytes.NewReader(body))
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusNoContent {
		err = fmt.Errorf("the server answered %d %s", answer.StatusCode, bytes.TrimSpace(text))
	}
	return err
}

// troubles counts errors and keeps the first.
type troubles struct {
	mu    sync.Mutex
	n     int
	first error
}

func (t *troubles) add(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n++; t.first == nil {
		t.first = err
	}
}

func (t *troubles) err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n == 0 {
		return nil
	}
	return fmt.Errorf("%d requests failed, the first: %w", t.n, t.first)
}
