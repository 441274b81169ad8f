// Command bench compares ways of forwarding packets side by side: Fairlead by
// each of its methods, forwarders on AF_XDP that do nothing else, and the
// kernel's own. docs/performance.md says what is measured and how.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	runChild()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := bench(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// settings are the command's flags.
type settings struct {
	profile, fairlead, out, note, command, only, cases string
	record                                             string
	flows, rounds                                      int
	duration                                           time.Duration
}

func bench(ctx context.Context, args []string) error {
	var s settings
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	short := flags.Bool("short", false, "a quick look in place of the full set of cases and rounds")
	flags.StringVar(&s.fairlead, "fairlead", "", "the fairlead `binary`; without it one is built")
	flags.StringVar(&s.out, "out", "", "write the results to `file`.json and a plot to file.svg")
	flags.StringVar(&s.note, "note", "", "a `text` to keep with the results")
	flags.StringVar(&s.command, "command", "", "the `command` to keep with the results; without it, this one")
	flags.StringVar(&s.only, "only", "", "only these contestants, by `names` separated by commas")
	flags.StringVar(&s.cases, "case", "", "only cases whose name contains this `text`; several are separated by |, and a $ at the end of one stands for the name's end")
	flags.StringVar(&s.record, "profile", "", "in place of all that, record a CPU profile of fairlead's data process with this `method`, into -out")
	flags.IntVar(&s.flows, "flows", 10_000, "how many flows the traffic for -profile has")
	flags.IntVar(&s.rounds, "rounds", 0, "how many rounds; 0 is the profile's number")
	flags.DurationVar(&s.duration, "duration", 0, "how long one measurement takes; 0 is the profile's")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q is no flag", flags.Arg(0))
	}
	s.profile = "full"
	if *short {
		s.profile = "short"
	}
	if s.command == "" {
		s.command = strings.Join(append([]string{"bench"}, args...), " ")
	}
	return s.run(ctx)
}

func (s *settings) run(ctx context.Context) error {
	p, err := profileNamed(s.profile)
	if err != nil {
		return err
	}
	if s.record != "" {
		return s.runRecord(ctx, p)
	}
	if s.rounds > 0 {
		p.rounds = s.rounds
	}
	if s.duration > 0 {
		p.duration = s.duration
	}
	p.connections = strings.Contains(connectionsName, s.cases)
	if p.cases = matching(p.cases, s.cases); len(p.cases) == 0 && !p.connections {
		return fmt.Errorf("no case's name contains %q", s.cases)
	}
	var names []string
	if s.only != "" {
		names = strings.Split(s.only, ",")
	}
	who, carriers, err := chosen(names)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		p.selected = nil // who is named takes part in every case
	}
	k, err := newKit(p, who, s.fairlead, os.Stderr)
	if err != nil {
		return err
	}
	k.proxies = carriers
	r, err := k.record(ctx, s.command, s.note, s.out)
	err = errors.Join(err, k.Close())
	if r == nil || len(r.Cases) == 0 && r.Connections == nil {
		return err
	}
	// What was found before an error is worth showing.
	return errors.Join(writeTable(os.Stdout, r), err)
}

// runRecord records a CPU profile.
func (s *settings) runRecord(ctx context.Context, p *profile) error {
	if s.out == "" {
		return errors.New("-profile needs -out, the file to write")
	}
	if s.flows < 0 || s.flows > flowTableSize {
		return fmt.Errorf("%d flows: there can be 0 (endless) to %d", s.flows, flowTableSize)
	}
	k, err := newKit(p, contestants(), s.fairlead, os.Stderr)
	if err != nil {
		return err
	}
	c := Case{Arms: 2, Protocol: udp, Size: 60, Flows: s.flows}
	return errors.Join(k.recordProfile(ctx, s.record, c, profileSeconds, s.out, s.command, os.Stdout), k.Close())
}

// matching are the cases whose name contains one of the texts, which a "|"
// separates; a text that ends with "$" is how the name ends.
func matching(cases []Case, texts string) []Case {
	return slices.DeleteFunc(cases, func(c Case) bool {
		return !slices.ContainsFunc(strings.Split(texts, "|"), func(text string) bool {
			if end, ok := strings.CutSuffix(text, "$"); ok {
				return strings.HasSuffix(c.String(), end)
			}
			return strings.Contains(c.String(), text)
		})
	})
}

// record runs everything and says where and how. It saves what there is after
// each case, under the name out; with an error comes what was found before.
func (k *kit) record(ctx context.Context, command, note, out string) (*Run, error) {
	machine, err := describeMachine(k.cpus)
	if err != nil {
		return nil, err
	}
	r := &Run{
		Time: time.Now().UTC().Truncate(time.Second), Command: command, Note: note, Machine: machine,
		Profile: k.name, Rounds: k.rounds, Seconds: k.duration.Seconds(),
	}
	d, measurements := k.estimate()
	fmt.Fprintf(k.log, "%d cases, %d measurements: about %v on a quiet machine\n", len(k.cases), measurements, d.Round(10*time.Second))
	for _, c := range k.cases {
		result, err := k.run(ctx, c)
		if err != nil {
			return r, fmt.Errorf("%v: %w", c, err)
		}
		r.Cases, r.Foreign = append(r.Cases, *result), k.foreign
		if err := r.save(out); err != nil {
			return r, err
		}
	}
	if k.profile.connections && len(k.proxies) > 0 {
		if r.Connections, err = k.runConnections(ctx); err != nil {
			return r, fmt.Errorf("%s: %w", connectionsName, err)
		}
		r.Foreign = k.foreign
	}
	return r, r.save(out)
}
