package main

import (
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"fairlead/controlplane/api"
	"fairlead/dataplane/reason"
)

// lineWidth is how wide the output is at most, but for paths.
const lineWidth = 100

// rowFormat lays out the table: method, families, kind, target, connections.
// A cell for each backend follows, and the errors.
const (
	rowFormat  = "%-6s %-7s  %-4s %-20s %5s"
	cellFormat = "  %13s"
	lastFormat = "  %6s\n"
)

func (w *world) printPicture(out io.Writer) {
	t := w.topo
	fmt.Fprintf(out, "Network namespaces of this machine, joined by virtual cables and switches:\n\n")
	line := func(name string, ipv4, ipv6 netip.Addr, what string) {
		fmt.Fprintf(out, "  %-8s %-14s %-17s %s\n", name, ipv4, ipv6, what)
	}
	line("client", t.Client.IPv4, t.Client.IPv6, t.Client.Namespace)
	fmt.Fprintf(out, "    │\n")
	line("lb", t.Front.IPv4, t.Front.IPv6, fmt.Sprintf("%s, %s to the client", t.LB.Namespace, t.Front.Interface.Name))
	line("", t.Back.IPv4, t.Back.IPv6, fmt.Sprintf("%s  %s to the backends", strings.Repeat(" ", len(t.LB.Namespace)-1), t.Back.Interface.Name))
	fmt.Fprintf(out, "    │\n")
	for i, b := range t.Backends {
		line(b.Name, b.IPv4, b.IPv6, fmt.Sprintf("%s, weight %d", b.Namespace, weight(i)))
	}
	fmt.Fprintln(out)
}

func (w *world) printCommands(out io.Writer) {
	fmt.Fprintf(out, "On lb:\n")
	printCommand(out, []string{"run", "--config", w.node.Config, "--socket", w.node.Socket})
	fmt.Fprintf(out, "On each backend, beside an HTTP and a UDP server:\n")
	printCommand(out, w.backendArgs())
	fmt.Fprintln(out)
}

// printCommand prints a command of fairlead, with each flag's value on the
// line of the flag.
func printCommand(out io.Writer, args []string) {
	const continued = " \\"
	line := "  fairlead"
	for i := 0; i < len(args); i++ {
		word := args[i]
		if strings.HasPrefix(word, "--") {
			i++
			word += " " + args[i]
		}
		if len(line)+1+len(word)+len(continued) > lineWidth {
			fmt.Fprintln(out, line+continued)
			line = "     "
		}
		line += " " + word
	}
	fmt.Fprintln(out, line)
}

// printConfiguration shows the configuration with one service of each method.
func (w *world) printConfiguration(out io.Writer) {
	few := onePerMethod(w.services)
	fmt.Fprintf(out, "The configuration, with %d of its %d services:\n\n", len(few), len(w.services))
	for line := range strings.Lines(configuration(w.topo, few)) {
		if line != "\n" {
			line = "    " + line
		}
		io.WriteString(out, line)
	}
	fmt.Fprintln(out)
}

func (w *world) printHead(out io.Writer, connections int) {
	fmt.Fprintf(out, "Each service: %d HTTP requests of %d bytes that are sent back, on a connection each,\n", connections, bodyBytes)
	fmt.Fprintf(out, "or %d UDP flows of %d questions. Backends: connections, and share / expected share in %%.\n\n", connections, questions)
	fmt.Fprintf(out, rowFormat, "METHOD", "PACKETS", "VIP", "", "CONNS")
	for _, b := range w.topo.Backends {
		fmt.Fprintf(out, cellFormat, strings.ToUpper(b.Name))
	}
	fmt.Fprintf(out, lastFormat, "ERRORS")
}

func (r *result) print(out io.Writer) {
	s := r.service
	fmt.Fprintf(out, rowFormat, s.method, s.families, s.kind(), s.target(), strconv.Itoa(r.requests))
	total := 0
	for _, b := range r.shares {
		total += b.got
	}
	for _, b := range r.shares {
		fmt.Fprintf(out, cellFormat, fmt.Sprintf("%d %.1f/%.1f", b.got, 100*float64(b.got)/float64(max(1, total)), 100*b.expected))
	}
	fmt.Fprintf(out, lastFormat, strconv.Itoa(r.failed))
	if r.retries > 0 {
		fmt.Fprintf(out, "  %d datagrams were sent again, because no answer came\n", r.retries)
	}
	printProblems(out, r.problems)
}

func printProblems(out io.Writer, problems []string) {
	for _, p := range problems {
		fmt.Fprintf(out, "  WRONG: %s\n", strings.ReplaceAll(p, "\n", "\n         "))
	}
}

// printLedger shows where every frame went, and what of it is wrong.
func printLedger(out io.Writer, l *api.Ledger) (problems []string) {
	fmt.Fprintf(out, "\nThe ledger: where every frame went\n")
	fmt.Fprintf(out, "  received %d + created %d = transmitted %d + passed %d + dropped %d + in flight %d\n",
		l.Received, l.Created, l.Transmitted, l.Passed, l.Dropped, l.InFlight)
	for _, action := range []reason.Action{reason.Transmit, reason.Pass, reason.Drop} {
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(l.Reasons)) {
			if r, known := reason.Parse(name); known && r.Action() == action {
				parts = append(parts, fmt.Sprintf("%s %d", name, l.Reasons[name]))
			}
		}
		if len(parts) > 0 {
			printList(out, fmt.Sprintf("    %-9s ", action), parts)
		}
	}
	if l.Difference != 0 {
		problems = append(problems, fmt.Sprintf("the ledger does not balance: the difference is %d frames", l.Difference))
	}
	return problems
}

// printList prints words after a head, on as many lines as they need.
func printList(out io.Writer, head string, words []string) {
	line := head
	for i, w := range words {
		if i < len(words)-1 {
			w += ","
		}
		if len(line)+1+len(w) > lineWidth && i > 0 {
			fmt.Fprintln(out, line)
			line = strings.Repeat(" ", len(head))
		}
		line += " " + w
	}
	fmt.Fprintln(out, line)
}

// printDecapsulated shows what `fairlead backend` counted, and returns what
// should not have been there.
func (w *world) printDecapsulated(out io.Writer, said []string) (problems []string) {
	fmt.Fprintf(out, "\nThe programs on the backends: what they took out of tunnels, and passed as it was\n")
	for i, line := range said {
		var words []string
		for word := range strings.FieldsSeq(line) {
			name, count, ok := strings.Cut(word, "=")
			if !ok || name == "interface" {
				continue
			}
			words = append(words, name+" "+count)
			if !slices.Contains(decapsulations, name) {
				problems = append(problems, fmt.Sprintf("%s counted %s %s", w.topo.Backends[i].Name, name, count))
			}
		}
		printList(out, fmt.Sprintf("  %-2s", w.topo.Backends[i].Name), words)
	}
	return problems
}

// decapsulations are the counters of `fairlead backend` that the demo's traffic
// ends in.
var decapsulations = []string{"decapsulated", "passed", "ipip_4in4", "ipip_6in4", "ipip_4in6", "ipip_6in6", "gue"}
