// The cluster demo shows three balancers that are one: a router that spreads
// connections over them, backends, a client with connections on which something is
// always said, and what becomes of these while nodes and backends die, drain and
// come back. Its machines are network namespaces, set up by the scripts that set up
// the virtual machines of the Vagrantfile. `make cluster-demo` runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"fairlead/perf/rig"
)

func main() {
	binary := flag.String("fairlead", "", "the fairlead binary to show; default: it is built")
	machines := flag.String("machines", "perf/machines", "directory of the scripts that set machines up")
	connections := flag.Int("connections", 300, "connections that are kept alive")
	flag.Parse()
	if flag.NArg() > 0 || *connections < 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*binary, *machines, *connections); err != nil {
		fmt.Fprintln(os.Stderr, "cluster demo:", err)
		os.Exit(1)
	}
}

func run(binary, machines string, connections int) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("this needs root: it makes network namespaces and attaches XDP programs in them; run it as root, for example with sudo")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "fairlead-cluster-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if binary == "" {
		if binary, err = rig.Build(dir); err != nil {
			return err
		}
	}
	if binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	if machines, err = filepath.Abs(machines); err != nil {
		return err
	}
	return Run(ctx, Options{Out: os.Stdout, Binary: binary, Machines: machines, Dir: dir, Connections: connections})
}
