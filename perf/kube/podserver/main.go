// Command podserver is what runs in the pods of tests: servers that the clients of
// perf/lab/traffic speak to, under the name of the pod. After SIGTERM it goes on for
// a while, as a pod does that waits until nobody sends to it any more; then it takes
// no new connections, and it ends when those that it has have ended.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"fairlead/perf/lab/traffic"
)

// HealthPath is where a probe asks whether the pod is ready: 503 after SIGTERM.
const healthPath = "/healthz"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "podserver:", err)
		os.Exit(1)
	}
}

// options are what the command line says. An address of "" is not served.
type options struct {
	name              string
	http, udp, stream string
	linger, grace     time.Duration
}

func parse() options {
	var o options
	name := os.Getenv("POD_NAME")
	flag.StringVar(&o.name, "name", name, "the `name` that answers give; default $POD_NAME")
	flag.StringVar(&o.http, "http", ":8080", "where HTTP is served, and "+healthPath+" for probes")
	flag.StringVar(&o.udp, "udp", "", "where questions are answered by UDP")
	flag.StringVar(&o.stream, "stream", "", "where byte streams are served by TCP")
	flag.DurationVar(&o.linger, "linger", 0, "how long everything goes on as before after SIGTERM")
	flag.DurationVar(&o.grace, "grace", 30*time.Second, "how long connections may go on after that")
	flag.Parse()
	return o
}

func run() error {
	o := parse()
	terminated, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var terminating atomic.Bool

	var listeners []net.Listener
	listen := func(address string) (net.Listener, error) {
		var cfg net.ListenConfig
		cfg.SetMultipathTCP(false)
		ln, err := cfg.Listen(context.Background(), "tcp", address)
		if err == nil {
			listeners = append(listeners, ln)
		}
		return ln, err
	}
	failed := make(chan error, 1)
	ln, err := listen(o.http)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", traffic.Answer(o.name))
	mux.HandleFunc(healthPath, func(w http.ResponseWriter, _ *http.Request) {
		if terminating.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	web := &http.Server{Handler: mux, ReadHeaderTimeout: 30 * time.Second}
	go func() {
		if err := web.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	}()
	var stream *traffic.StreamServer
	if o.stream != "" {
		if ln, err = listen(o.stream); err != nil {
			return err
		}
		stream = traffic.NewStreamServer(o.name, ln)
	}
	if o.udp != "" {
		conn, err := net.ListenPacket("udp", o.udp)
		if err != nil {
			return err
		}
		if _, err := traffic.NewUDPServer(o.name, conn.(*net.UDPConn)); err != nil {
			return err
		}
	}
	fmt.Printf("%s serves\n", o.name)

	select {
	case err := <-failed:
		return err
	case <-terminated.Done():
	}
	terminating.Store(true)
	time.Sleep(o.linger) // all goes on as before
	over, cancel := context.WithTimeout(context.Background(), o.grace)
	defer cancel()
	err = web.Shutdown(over)
	for _, ln := range listeners {
		ln.Close() // that of HTTP is closed already
	}
	if stream != nil {
		err = errors.Join(err, stream.Wait(over))
	}
	return err
}
