package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/node"
	"fairlead/cmd/fairlead/internal/preflight"
	"fairlead/cmd/fairlead/internal/succession"
	"fairlead/cmd/fairlead/internal/systemd"
	"fairlead/configs"
	"fairlead/controlplane/api"
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
	load := func() (*node.Desired, error) {
		wanted, err := node.LoadDesired(path, state, logs.open)
		if err != nil {
			return nil, err
		}
		if socket != nil {
			wanted.Config.API.Socket = *socket
		}
		return wanted, nil
	}
	wanted, err := load()
	if err != nil {
		return err
	}
	log := wanted.Log
	if err := lookBeforeRunning(wanted.Config, log); err != nil {
		return err
	}
	before, err := succession.Find()
	if err != nil {
		return err
	}
	manager, err := systemd.Find()
	if err != nil {
		log.Warn("the service manager is not told anything", "error", err)
	}
	o := node.Options{Rest: restSocket(wanted.Config.API.Socket), Kept: systemd.Kept()}
	if manager != nil {
		o.Keeper, o.Working = manager, manager.Working
	}
	if before != nil {
		if o.Left, err = before.Prepared(); err != nil {
			return err
		}
		// What is desired may have changed until the other process stopped.
		if wanted, err = load(); err != nil {
			return err
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)

	upgrades := make(chan os.Signal, 1)
	signal.Notify(upgrades, syscall.SIGUSR2)
	defer signal.Stop(upgrades)

	failed := "" // the last upgrade
	for {
		cfg, log := wanted.Config, wanted.Log
		wanted.Log = logging.Always(log)
		n, err := node.New(cfg, o, log)
		if err != nil {
			return err
		}
		n.Follow(wanted)
		u := newUpgrader(n, log, failed)
		err = serve(ctx, n, wanted, &cfg.API, reload, logs.last, u, upgrades, before, manager)
		succeeded, is := errors.AsType[*succeededError](err)
		if !is && err != nil && n.Adopted() {
			// The data process forwarded before this process came, and goes on.
			_, left := n.Leave()
			return errors.Join(err, left)
		}
		if !is {
			return errors.Join(err, manager.Send(nil, "STOPPING=1"), n.Close())
		}
		// Another process takes over what this one leaves, or this one does.
		if o.Left, err = n.Leave(); err != nil {
			log.Warn("what is left of the node", "error", err)
		}
		if err = giveWay(succeeded.heir, o.Left); err == nil {
			log.Info("the next control process has taken over", "pid", succeeded.heir.PID)
			err = manager.Send(nil, fmt.Sprintf("MAINPID=%d", succeeded.heir.PID))
			return errors.Join(err, manager.Barrier())
		}
		log.Error("upgrade failed", "error", err)
		failed, before = err.Error(), nil
		if wanted, err = load(); err != nil {
			return err
		}
	}
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
// A process before this one is told when they run.
func serve(ctx context.Context, n *node.Node, wanted *node.Desired, admin *configs.API, reload <-chan os.Signal, logs *logging.Logs, u *upgrader, upgrades <-chan os.Signal, before *succession.Predecessor, manager *systemd.Manager) error {
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
		func() error { return n.Kubernetes(ctx) },
		func() error { return reloadOn(ctx, wanted, reload) },
		func() error { return u.watch(ctx, upgrades) },
	}
	asked := &provider{Node: n, upgrader: u, View: n.View(), metrics: handler, logs: logs}
	local, err := api.NewLocal(asked, node.Version, log)
	if err != nil {
		return err
	}
	asked.Serve(local) // requests of other members
	if c := apiConfig(admin, log); c.Socket != "" || c.TCP != nil {
		parts = append(parts, func() error { return api.Serve(ctx, c, asked) })
	}
	if scraped != nil {
		parts = append(parts, func() error { return scraped.Serve(ctx) })
		log.Info("metrics are served", "address", scraped.Addr())
	}
	parts = append(parts, func() error { return begun(ctx, before, admin, u, manager) })
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

// begun tells who waits for it that this process runs, when it answers: the
// service manager, and the process before, whose data process is replaced after
// that.
func begun(ctx context.Context, before *succession.Predecessor, admin *configs.API, u *upgrader, manager *systemd.Manager) error {
	for admin.Socket != "" {
		conn, err := net.Dial("unix", admin.Socket)
		if err == nil {
			conn.Close()
			break
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(5 * time.Millisecond):
		}
	}
	if before != nil {
		if err := before.Ready(); err != nil {
			return err
		}
	}
	if err := manager.Send(nil, "READY=1", "STATUS=forwarding, version "+node.Version); err != nil {
		u.log.Warn("service manager", "error", err)
	}
	if before != nil {
		u.Renew()
	}
	<-ctx.Done()
	return nil
}

// reloadOn reads the configuration again on each signal. What comes of it is
// logged.
func reloadOn(ctx context.Context, wanted *node.Desired, reload <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-reload:
			wanted.ReloadNow(ctx)
		}
	}
}
