package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/node"
	"fairlead/cmd/fairlead/internal/preflight"
	"fairlead/configs"
	"fairlead/controlplane/api"
)

func newRun() *cobra.Command {
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the load balancer on this node",
		Long: `Run the load balancer on this node until SIGTERM or SIGINT.

SIGHUP reads the configuration file again. Services, pools, SNAT addresses, VIPs
and neighbours change without losing a connection; a file with errors changes
nothing. What belongs to the node (interfaces, [dataplane], [xdp]) changes by a
restart.`,
		Args: cobra.NoArgs,
	}
	path := configFlag(c)
	socket := c.Flags().String("socket", api.DefaultSocket, "Unix socket of the admin API; empty: none")
	c.RunE = func(*cobra.Command, []string) error { return run(*path, *socket) }
	return c
}

func run(path, socket string) error {
	cfg, err := configs.Load(path)
	if err != nil {
		return err
	}
	log := newLogger(&cfg.Node)
	if err := lookBeforeRunning(cfg, log); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)

	n, err := node.New(cfg, log)
	if err != nil {
		return err
	}
	err = serve(ctx, n, path, socket, reload, log)
	return errors.Join(err, n.Close())
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
func serve(ctx context.Context, n *node.Node, path, socket string, reload <-chan os.Signal, log *slog.Logger) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := n.Start(ctx); err != nil {
		return err
	}
	parts := []func() error{
		func() error { return n.Run(ctx) },
		func() error { return reloadOn(ctx, n, path, reload, log) },
	}
	if socket != "" {
		parts = append(parts, func() error { return api.Serve(ctx, apiConfig(socket, log), n) })
	}
	ended := make(chan error)
	for _, part := range parts {
		go func() { ended <- part() }()
	}
	log.Info("fairlead runs", "version", node.Version, "pid", os.Getpid(), "socket", socket)
	var errs []error
	for range parts {
		err := <-ended
		errs = append(errs, err)
		cancel(err)
	}
	log.Info("fairlead stops")
	return errors.Join(errs...)
}

// apiConfig is where and to whom the node answers.
func apiConfig(socket string, log *slog.Logger) api.Config {
	return api.Config{Socket: socket, Version: node.Version, Log: log}
}

// reloadOn reads the configuration again on each signal.
func reloadOn(ctx context.Context, n *node.Node, path string, reload <-chan os.Signal, log *slog.Logger) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-reload:
		}
		cfg, err := configs.Load(path)
		if err == nil {
			err = preflight.Errors(preflight.Addresses(cfg))
		}
		if err != nil {
			log.Error("configuration has errors; nothing changes", "error", err)
			continue
		}
		switch changed, err := n.Apply(cfg); {
		case err != nil:
			log.Error("configuration cannot take effect; nothing changes", "error", err)
		case !changed:
			log.Info("configuration read again; nothing has changed")
		default:
			s := n.Reconciler().Status()
			log.Info("configuration in force", "generation", s.Generation, "patched", s.Patched, "took", s.Took)
		}
	}
}

func newLogger(cfg *configs.Node) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.LogLevel}
	if cfg.LogFormat == configs.LogJSON {
		return slog.New(slog.NewJSONHandler(os.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options))
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run:   func(*cobra.Command, []string) { fmt.Println("fairlead", node.Version) },
	}
}
