package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/output"
	"fairlead/cmd/fairlead/internal/selftest"
)

func newBench() *cobra.Command {
	c := &cobra.Command{
		Use:   "bench",
		Short: "Find out what this node can carry",
		Long: `Find out what this node can carry.

Without flags, workers forward made-up packets in memory: by every method, with few
and with many flows, first on one CPU and then on all at once. That takes half a
minute of all CPUs, and neither the kernel nor a NIC is in it.

With --interface, an interface is looked at: driver, queues, rings, and all that
"fairlead check" would say. With --traffic as well, the XDP program is attached to
it and AF_XDP sockets are bound to its queues, and frames that are made on this
machine take the way through both on the first queue, the only one that the kernel
makes frames for. The interface must not carry a Fairlead meanwhile, and some drivers take it down for a moment. Nothing is sent,
unless --transmit with --to asks for it: UDP frames of 60 bytes between addresses
for benchmarks (198.18.0.0/15, RFC 2544) with a TTL of 1, as fast as all queues
together can.`,
		Args: cobra.NoArgs,
	}
	var o selftest.Options
	c.Flags().DurationVar(&o.Duration, "duration", 250*time.Millisecond, "how long each measurement takes, 10ms to 10s")
	c.Flags().IntSliceVar(&o.Flows, "flows", selftest.DefaultFlows(), "numbers of flows to measure with in memory, separated by commas")
	c.Flags().StringVar(&o.Interface, "interface", "", "look at this interface in place of measuring in memory")
	c.Flags().BoolVar(&o.Traffic, "traffic", false, "attach to the interface and have it receive made-up frames; disturbs its traffic")
	transmit := c.Flags().Bool("transmit", false, "send frames by the interface as well")
	to := c.Flags().String("to", "", "Ethernet address that frames are sent to")
	out := output.Flags(c)
	c.RunE = func(*cobra.Command, []string) error {
		var err error
		if o.Transmit, err = receiver(*transmit, *to); err != nil {
			return err
		}
		return runBench(o, out)
	}
	return c
}

// receiver is who frames are sent to, nil for nobody.
func receiver(transmit bool, to string) (net.HardwareAddr, error) {
	switch {
	case transmit && to == "":
		return nil, usageError("--transmit needs --to, the Ethernet address to send to")
	case !transmit && to != "":
		return nil, usageError("--to says where frames are sent: it needs --transmit")
	case !transmit:
		return nil, nil
	}
	mac, err := net.ParseMAC(to)
	if err != nil {
		return nil, usageError("--to: %q is no Ethernet address", to)
	}
	return mac, nil
}

func runBench(o selftest.Options, out *output.Options) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	report, err := selftest.Run(ctx, o, func(what string) { fmt.Fprintln(os.Stderr, what) })
	if err != nil {
		return err
	}
	return out.Write(os.Stdout, report, report.WriteText)
}
