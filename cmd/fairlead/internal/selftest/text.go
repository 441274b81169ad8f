package selftest

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// WriteText prints a report for people.
func (r *Report) WriteText(out io.Writer) error {
	fmt.Fprintf(out, "%d CPUs, kernel %s\n", r.CPUs, r.Kernel)
	if r.Interface != nil {
		return r.Interface.writeText(out)
	}
	fmt.Fprintln(out, "\nIn memory, from parsing to the written header; neither kernel nor NIC is in it:")
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "method\tfamily\tflows\tns/packet\tMpps a core\t")
	if r.CPUs > 1 {
		fmt.Fprintf(t, "ns/packet on all %d\tMpps together\tscaling\t", r.CPUs)
	}
	fmt.Fprintln(t)
	for i := range r.Memory {
		m := &r.Memory[i]
		fmt.Fprintf(t, "%s\t%s\t%d\t%.0f\t%.2f\t", m.Method, m.family(), m.Flows, m.One.NS, m.One.Mpps)
		if m.All != nil {
			fmt.Fprintf(t, "%.0f\t%.2f\t%.2f\t", m.All.NS, m.All.All, m.All.All/m.One.Mpps)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

func (i *Interface) writeText(out io.Writer) error {
	fmt.Fprintf(out, "\n%s: driver %s, MTU %d, address %s\n", i.Name, i.Driver, i.MTU, i.MAC)
	fmt.Fprintf(out, "queues: %v\n", &i.Queues)
	if i.Rings != nil {
		fmt.Fprintf(out, "the NIC's rings: %v frames a queue\n", i.Rings)
	}
	for _, f := range i.Findings {
		fmt.Fprintln(out, f)
	}
	if i.Traffic == nil {
		fmt.Fprintln(out, "Nothing was received or sent: see --traffic.")
		return nil
	}
	t := i.Traffic
	fmt.Fprintf(out, "XDP mode: %s%s\n", t.XDPMode, because(t.ModeReason))
	if t.ZeroCopy {
		fmt.Fprintln(out, "AF_XDP: zero copy")
	} else {
		fmt.Fprintf(out, "AF_XDP: copy mode%s\n", because(t.CopyReason))
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\t\tMpps\toffered\tns/frame\t")
	fmt.Fprintf(w, "receive\tqueue %d\t%.2f\t%.2f\t%.0f\t\n", t.Receive.Queue, t.Receive.Mpps, t.Receive.Offered, t.Receive.NS)
	total, all := 0.0, t.Receive.Mpps >= 0.99*t.Receive.Offered
	for _, q := range t.Transmit {
		fmt.Fprintf(w, "send\tqueue %d\t%.2f\t\t%.0f\t\n", q.Queue, q.Mpps, q.NS)
		total += q.Mpps
	}
	if len(t.Transmit) > 1 {
		fmt.Fprintf(w, "send\ttogether\t%.2f\t\t\t\n", total)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if all {
		fmt.Fprintln(out, "All that could be made was received: the queue could take more.")
	}
	return nil
}

// String writes both numbers and what they may be at most.
func (d *Direction) String() string {
	return fmt.Sprintf("%d to receive (of %d), %d to send (of %d)", d.RX, d.MaxRX, d.TX, d.MaxTX)
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}
