// Command latency measures how long it takes from a change of an EndpointSlice in
// the API server of Kubernetes to the first packet by the new table, with the real
// servers and the real binary, and how much memory a node needs.
// docs/performance.md says how that is to be read.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// settings are the command's flags.
type settings struct {
	services, endpoints int
	samples             int
	rate                int
	fairlead            string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "latency:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	var s settings
	flags := flag.NewFlagSet("latency", flag.ContinueOnError)
	flags.IntVar(&s.services, "services", 5000, "how many Services there are")
	flags.IntVar(&s.endpoints, "endpoints", 4, "how many endpoints each has")
	flags.IntVar(&s.samples, "samples", 200, "how many changes are measured at rest, and as many under load")
	flags.IntVar(&s.rate, "rate", 100, "how many changes a second are made under load")
	flags.StringVar(&s.fairlead, "fairlead", "", "the fairlead `binary`; without it one is built")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q is no flag", flags.Arg(0))
	}
	if s.services < 2 || s.services > maxServices || s.endpoints < 1 || s.samples < 1 || s.rate < 1 {
		return fmt.Errorf("2 to %d services, and one of everything else at least", maxServices)
	}
	w, err := build(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	began := time.Now()
	if err := w.fill(ctx); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d Services with %d endpoints, made in %s\n", s.services, s.services*s.endpoints, time.Since(began).Round(time.Second))
	began = time.Now()
	if err := w.start(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, w.lastWords())
	}
	fmt.Fprintf(out, "a node that starts is in step after %s\n", time.Since(began).Round(10*time.Millisecond))
	if err := w.measure(ctx, out); err != nil {
		return fmt.Errorf("%w\n%s", err, w.lastWords())
	}
	return w.memory(ctx, out)
}
