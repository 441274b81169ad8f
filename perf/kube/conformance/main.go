// Command conformance has Kubernetes' own tests of LoadBalancer Services and the
// Gateway API's of TCPRoute and UDPRoute judge Fairlead, in a lab on this machine:
// `make kube-conformance`. It prints what each test says.
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

// around is how long a lab may take besides its suite, to start and to end.
const around = 5 * time.Minute

// options are what the command line says.
type options struct {
	fairlead string // the binary
	suites   string // the folder of the suites' binaries
	only     string // a suite
	focus    string // a part of tests' names
	log      string // where everything that the suites write goes
	limit    time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.fairlead, "fairlead", "bin/fairlead", "the `binary` to be judged")
	flag.StringVar(&o.suites, "suites", "bin/kube", "the `folder` that perf/kube/build has made")
	flag.StringVar(&o.only, "suite", "", "run one suite alone: loadbalancers or gateways")
	flag.StringVar(&o.focus, "focus", "", "run tests alone whose names match (loadbalancers: a regular expression; gateways: one name)")
	flag.StringVar(&o.log, "log", "", "the `file` that all of the suites' own output goes to")
	flag.DurationVar(&o.limit, "limit", 2*time.Hour, "how long a suite may take")
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

// run runs the suites one after the other, each in a lab of its own.
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
	suites := []suite{loadBalancers{}, gateways{}}
	for _, s := range suites {
		if o.only != "" && o.only != s.name() {
			continue
		}
		results, err := judge(ctx, s, o, log)
		if err != nil {
			return false, fmt.Errorf("%s: %w", s.name(), err)
		}
		failed = print(s, results) || failed
	}
	return failed, nil
}

// judge runs a suite.
func judge(ctx context.Context, s suite, o options, log io.Writer) (results []result, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.limit+around)
	defer cancel()
	w, err := newWorld(ctx, o)
	defer func() { err = errors.Join(err, w.close()) }()
	if err != nil {
		return nil, err
	}
	return s.run(ctx, w, o, log)
}

// print says what the tests of a suite said.
func print(s suite, results []result) (failed bool) {
	var passed, skipped, bad int
	fmt.Printf("\n%s\n\n", s.title())
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
		if r.why != "" {
			fmt.Printf("      %s\n", r.why)
		}
	}
	fmt.Printf("\n%d passed, %d failed, %d skipped\n", passed, bad, skipped)
	return bad > 0
}
