package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/backend"
	"fairlead/xdp/decap"
)

func newBackend() *cobra.Command {
	c := &cobra.Command{
		Use:   "backend --interface NAME --vip ADDRESS --from PREFIX",
		Short: "Be a backend of ipip, gue and l2 services; or drain, enable, disable, weigh backends",
		Long: `Make this machine a backend of services with the methods ipip, gue and l2, until
SIGTERM or SIGINT. Backends of nat services need nothing. The subcommands are for
the load balancer: they set single backends of a running node.

It does three things and undoes them at the end:

  - An XDP program on the interface takes the outer headers off packets that load
    balancers send: IP in IP in all four combinations of families, and GUE. No
    tunnel device is made. All other packets go to the host as they are.
  - Each VIP is added to lo as a /32 or /128 that no new connection leaves from.
  - arp_ignore and arp_announce are raised, so that this machine never claims a
    VIP on the wire, and strict reverse-path filtering on the interface becomes
    loose, because clients' packets come from where replies need not go.

What is there already is left alone. Servers listen on the VIP, or on all
addresses, at the service's own port.

It needs root, or CAP_NET_ADMIN and CAP_BPF, and Linux 5.18 or later.`,
		Example: `  fairlead backend --interface eth0 --vip 198.18.0.10 --vip 2001:db8::10 --from 198.18.10.0/24
  fairlead backend --interface eth0 --vip 198.18.0.10 --mode none`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	interfaces := f.StringSliceP("interface", "i", nil, "interface that load balancers' packets arrive on; may be repeated")
	vips := f.StringSlice("vip", nil, "VIP to serve, an address; may be repeated. None: every tunnel packet is taken")
	from := f.StringSlice("from", nil, "load balancers, an address or prefix: tunnel packets for a VIP from anywhere\nelse are dropped; may be repeated. None: they are accepted from anywhere")
	guePort := f.Uint16("gue-port", decap.DefaultGUEPort, "UDP port of GUE, as gue_port of the load balancer's [tunnel]")
	mode := f.String("mode", string(decap.ModeAuto), "where the program runs: native in the driver, generic in the network stack,\nauto for native where the driver can, none for no program: l2 needs none")
	pin := f.String("pin", "", "directory on a BPF file system, for example /sys/fs/bpf/fairlead-backend, that keeps\nthe program when this process is killed: tunnels go on, and the next process takes\nover without a gap. None: the program goes with the process")
	report := f.Duration("report", time.Minute, "how often packet counters are logged, when they have changed; 0: at the end only")
	c.RunE = func(*cobra.Command, []string) error {
		cfg, err := backend.ParseConfig(*interfaces, *vips, *from, *guePort, *mode, *pin, *report)
		if err != nil {
			return err
		}
		return runBackend(cfg)
	}
	c.AddCommand(newBackendSettings()...)
	return c
}

func runBackend(cfg *backend.Config) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	b, err := backend.Start(cfg, log)
	if err != nil {
		return err
	}
	log.Info("backend is ready", "interfaces", cfg.Interfaces, "vips", cfg.VIPs, "from", cfg.From)
	err = b.Run(ctx)
	log.Info("backend stops")
	return errors.Join(err, b.Close())
}
