package main

import (
	"context"
	"fmt"
	"io"
)

// printHold says how to talk to what is left running.
func (w *world) printHold(out io.Writer, binary string) {
	client, wire, backend := w.topo.Client.Namespace, w.topo.BackSwitch.Host().Namespace, w.topo.Backends[0]
	nat4, nat6 := w.services[0].target(), w.services[2].target() // of port 80
	fmt.Fprintf(out, `
All of it goes on running. Try, in another terminal, as root:

  a request             ip netns exec %[1]s curl http://%[2]s/
  by IPv6               ip netns exec %[1]s curl http://%[3]s/
  how the node is       %[4]s status --socket %[5]s
  frames to a backend   ip netns exec %[6]s tcpdump -ni %[7]s
  a shell on a backend  ip netns exec %[8]s sh
  the configuration     %[9]s
  have it read again    kill -HUP %[10]d
  the node's log        tail -f /proc/%[10]d/fd/2

Answers name the backend and the client's address that it saw. Every VIP of the table works.
Ctrl-C ends everything and cleans up.
`, client, nat4, nat6, binary, w.node.Socket, wire, backend.Name, backend.Namespace, w.node.Config, w.node.Process().Pid())
}

// hold waits for ctx to end. It fails when the load balancer ends before that.
func (w *world) hold(ctx context.Context, out io.Writer) error {
	select {
	case <-ctx.Done():
	case <-w.node.Process().Done():
		// A terminal's interrupt goes to both.
		if ctx.Err() == nil {
			return fmt.Errorf("the load balancer has ended:\n%s", w.node.Log())
		}
	}
	fmt.Fprintln(out, "\nCleaning up.")
	return nil
}
