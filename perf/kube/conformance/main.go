// Command conformance has Kubernetes' own tests of LoadBalancer Services judge
// Fairlead, in a lab on this machine: `make kube-conformance`. It prints what each
// test says. The Gateway API's are run by package perf/kube/gateway.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"fairlead/perf/kube"
)

// around is how long the lab may take besides the suite, to start and to end.
const around = 5 * time.Minute

// options are what the command line says.
type options struct {
	fairlead string // the binary
	suites   string // the folder of the suite's binaries
	focus    string // a part of tests' names
	log      string // where everything that the suite writes goes
	limit    time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.fairlead, "fairlead", "bin/fairlead", "the `binary` to be judged")
	flag.StringVar(&o.suites, "suites", "bin/kube", "the `folder` that perf/kube/build has made")
	flag.StringVar(&o.focus, "focus", "", "run tests alone whose names match the `expression`")
	flag.StringVar(&o.log, "log", "", "the `file` that all of the suite's own output goes to")
	flag.DurationVar(&o.limit, "limit", 2*time.Hour, "how long the suite may take")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	failed, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		stop()
		os.Exit(2)
	}
	if failed {
		stop()
		os.Exit(1)
	}
}

// run runs the suite and prints what it said.
func run(ctx context.Context, o options) (failed bool, err error) {
	for _, path := range []*string{&o.fairlead, &o.suites} {
		if *path, err = filepath.Abs(*path); err != nil {
			return false, err
		}
	}
	log := io.Discard
	if o.log != "" {
		f, err := os.Create(o.log)
		if err != nil {
			return false, err
		}
		defer f.Close()
		log = f
	}
	fmt.Printf("Kubernetes %s, %s/%s, %d CPUs\n", kube.Version, runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	results, err := judge(ctx, o, log)
	if err != nil {
		return false, err
	}
	return print(results), nil
}

// judge runs the suite in a lab of its own.
func judge(ctx context.Context, o options, log io.Writer) (results []result, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.limit+around)
	defer cancel()
	w, err := newWorld(ctx, o)
	defer func() { err = errors.Join(err, w.close()) }()
	if err != nil {
		return nil, err
	}
	return w.runSuite(ctx, o, log)
}

// print says what the tests said.
func print(results []result) (failed bool) {
	var passed, skipped, bad int
	fmt.Print("Kubernetes' end-to-end tests of LoadBalancer Services (test/e2e/network/loadbalancer.go)\n\n")
	for _, r := range results {
		switch r.outcome {
		case pass:
			passed++
		case skip:
			skipped++
		case fail:
			bad++
		}
		fmt.Printf("%-5s %7.1f s  %s\n", r.outcome, r.took.Seconds(), r.name)
		if r.requests > 0 {
			fmt.Printf("      %d of %d requests failed during rolling updates\n", r.lost, r.requests)
		}
		if r.why != "" {
			fmt.Printf("      %s\n", r.why)
		}
	}
	fmt.Printf("\n%d passed, %d failed, %d skipped\n", passed, bad, skipped)
	return bad > 0
}
