// The demo shows Fairlead at work on one machine: a client, a load balancer and
// three backends in network namespaces, real HTTP and UDP through every
// forwarding method and family, and the account of every packet. `make demo`
// runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"fairlead/perf/rig"
)

func main() {
	binary := flag.String("fairlead", "", "the fairlead binary to show; default: it is built")
	hold := flag.Bool("hold", false, "leave everything running until Ctrl-C")
	connections := flag.Int("connections", 1000, "connections to each service")
	flag.Parse()
	if flag.NArg() > 0 || *connections < 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := demo(*binary, *hold, *connections); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func demo(binary string, hold bool, connections int) error {
	if os.Geteuid() != 0 {
		return errors.New("this needs root: it makes network namespaces and attaches XDP programs in them; run it as root, for example with sudo")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if binary == "" {
		dir, err := os.MkdirTemp("", "fairlead-demo-build-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if binary, err = rig.Build(dir); err != nil {
			return err
		}
	}
	return Run(ctx, Options{Out: os.Stdout, Binary: binary, Hold: hold, Connections: connections})
}
