package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/node"
	"fairlead/cmd/fairlead/internal/preflight"
	"fairlead/configs"
	"fairlead/controlplane/api"
	"fairlead/controlplane/desired"
	"fairlead/controlplane/logging"
)

func newRun() *cobra.Command {
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the load balancer on this node",
		Long: `Run the load balancer on this node until SIGTERM or SIGINT.

SIGHUP reads the configuration file again. Services, pools, SNAT addresses, VIPs
and neighbours change without losing a connection; a file with errors changes
nothing. What belongs to the node (interfaces, [dataplane], [xdp]) changes by a
restart.

What was in force last is kept in the state directory. The node starts with it
when the file is missing or wrong, and has from there what was sent with
"fairlead config apply" and what was set of backends.`,
		Args: cobra.NoArgs,
	}
	path := configFlag(c)
	socket := c.Flags().String("socket", api.DefaultSocket, "Unix socket of the admin API, in place of the one in the configuration; empty: none")
	state := c.Flags().String("state-directory", "", "where the desired state is kept, in place of what [state] of the file says")
	c.RunE = func(*cobra.Command, []string) error {
		if !c.Flags().Changed("socket") {
			socket = nil
		}
		return run(*path, *state, socket)
	}
	return c
}

// run runs a node. socket, when not nil, stands in place of the configuration's.
func run(path, state string, socket *string) error {
	var logs logOpener
	defer logs.close()
	wanted, err := node.LoadDesired(path, state, logs.open)
	if err != nil {
		return err
	}
	cfg, log := wanted.Config, wanted.Log
	wanted.Log = logging.Always(log)
	if socket != nil {
		cfg.API.Socket = *socket
	}
	if err := lookBeforeRunning(cfg, log); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)

	n, err := node.New(cfg, node.Options{Rest: restSocket(cfg.API.Socket)}, log)
	if err != nil {
		return err
	}
	n.Follow(wanted)
	err = serve(ctx, n, wanted, &cfg.API, reload, logs.last)
	return errors.Join(err, n.Close())
}

// restSocket is the path of the socket by which a data process without a control
// process is found: beside that of the admin API. Without the one there is not
// the other.
func restSocket(socket string) string {
	if socket == "" {
		return ""
	}
	return filepath.Join(filepath.Dir(socket), "dataplane.sock")
}

// lookBeforeRunning logs what check would say of the machine. The error has
// everything that the node does not start with.
func lookBeforeRunning(cfg *configs.Config, log *slog.Logger) error {
	found := preflight.Machine(cfg)
	for _, f := range found {
		if f.Level == preflight.Warning {
			log.Warn(f.Text, "subject", f.Subject)
		}
	}
	return preflight.Errors(found)
}

// serve runs the node's parts until ctx ends or one of them fails.
func serve(ctx context.Context, n *node.Node, wanted *node.Desired, admin *configs.API, reload <-chan os.Signal, logs *logging.Logs) error {
	log := logs.Logger()
	ctx, stop := n.Linger(ctx)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	handler, scraped, err := newMetrics(&wanted.Config.Metrics, n, logs)
	if err != nil {
		return err
	}
	if scraped != nil {
		defer scraped.Close()
	}
	if err := n.Start(ctx); err != nil {
		return err
	}
	wanted.Attach()
	parts := []func() error{
		func() error { return n.Run(ctx) },
		func() error { return n.Announce(ctx) },
		func() error { wanted.Run(ctx); return nil },
		func() error { return reloadOn(ctx, wanted, reload) },
	}
	if c := apiConfig(admin, log); c.Socket != "" || c.TCP != nil {
		parts = append(parts, func() error { return api.Serve(ctx, c, &provider{Node: n, metrics: handler, logs: logs}) })
	}
	if scraped != nil {
		parts = append(parts, func() error { return scraped.Serve(ctx) })
		log.Info("metrics are served", "address", scraped.Addr())
	}
	ended := make(chan error)
	for _, part := range parts {
		go func() { ended <- part() }()
	}
	log.Info("fairlead runs", "version", node.Version, "pid", os.Getpid(), "socket", admin.Socket)
	var errs []error
	for range parts {
		err := <-ended
		errs = append(errs, err)
		cancel(err)
	}
	log.Info("fairlead stops")
	return errors.Join(errs...)
}

// reloadOn reads the configuration again on each signal. What comes of it is
// logged.
func reloadOn(ctx context.Context, wanted *node.Desired, reload <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-reload:
			wanted.Reload(desired.Request{User: "SIGHUP"})
		}
	}
}
