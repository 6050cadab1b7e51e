package relay_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"

	"github.com/nanopack/pulse/relaywire/relay"
)

// A relay with one collector answers the polls of its server. The server is a small stand-in for
// Pulse that polls once for each collector.
func ExampleNew() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer listener.Close()
	answers := make(chan string, 1)
	go serveOnce(listener, answers)

	r, err := relay.New(relay.Options{Address: listener.Addr().String(), ID: "web1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	load := relay.NewPointCollector(func() float64 { return 21.5 })
	if err := r.AddCollector("load", []string{"service:web"}, load); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(<-answers)
	// Output: got load-load:21.5
}

// serveOnce takes one relay, polls each collector that the relay adds, and passes the answers on.
func serveOnce(listener net.Listener, answers chan<- string) {
	conn, err := listener.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		verb, rest, _ := strings.Cut(lines.Text(), " ")
		switch verb {
		case "id":
			fmt.Fprint(conn, "ok\nbeat 30\n")
		case "add":
			name, _, _ := strings.Cut(rest, ":")
			fmt.Fprintf(conn, "ok\nget %s\n", name)
		case "got":
			answers <- lines.Text()
		case "close":
			return
		}
	}
}
