package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/offline"
	"fairlead/configs"
	"fairlead/dataplane/reason"
	"fairlead/dataplane/replay"
)

func newReplay() *cobra.Command {
	c := &cobra.Command{
		Use:   "replay",
		Short: "Run a capture through a configuration, without a network",
		Long: `Run the frames of a capture (pcap or pcapng, Ethernet) through the code that
forwards, one by one, with the capture's time. It needs neither an interface nor
any rights. Interfaces and next hops are those that the configuration gives in
[[interface]] and [[neighbor]].

The frames that would be transmitted are written as a capture, the verdict on
each input frame as a line of JSON, and a summary to standard error. The exit
status is 1 when a frame is unaccounted for or the capture cannot be read.`,
		Args: cobra.NoArgs,
	}
	path := configFlag(c)
	in := c.Flags().String("in", "", "capture to replay")
	out := c.Flags().String("out", "", "pcap file for the frames that would be transmitted; empty: none is written")
	verdicts := c.Flags().String("verdicts", "", "file for the verdicts, a JSON object a line; empty: none is written")
	c.MarkFlagRequired("in")
	c.RunE = func(*cobra.Command, []string) error { return runReplay(*path, *in, *out, *verdicts, os.Stderr) }
	return c
}

func runReplay(path, in, out, verdicts string, log io.Writer) error {
	cfg, err := configs.Load(path)
	if err != nil {
		return err
	}
	snapshot, warnings, err := offline.Snapshot(cfg)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		fmt.Fprintln(log, "warning:", w)
	}
	input, err := os.Open(in)
	if err != nil {
		return err
	}
	defer input.Close()
	frames, err := create(out, input)
	if err != nil {
		return err
	}
	lines, err := create(verdicts, input)
	if err != nil {
		return errors.Join(err, frames.Close())
	}
	summary, err := replay.Run(offline.ReplayConfig(cfg, snapshot), input, in, frames, lines)
	if summary != nil {
		writeSummary(log, summary)
	}
	return errors.Join(err, frames.Close(), lines.Close())
}

// create makes an output file, or with no path something that takes everything
// and keeps nothing. It does not overwrite the input.
func create(path string, input *os.File) (io.WriteCloser, error) {
	if path == "" {
		return discard{}, nil
	}
	if have, err := os.Stat(path); err == nil {
		if from, err := input.Stat(); err == nil && os.SameFile(have, from) {
			return nil, fmt.Errorf("%s is the capture to replay; it is not overwritten", path)
		}
	}
	return os.Create(path)
}

// discard is no file.
type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) Close() error                { return nil }

func writeSummary(out io.Writer, s *replay.Summary) {
	fmt.Fprintf(out, "frames %d: transmitted %d, passed to the host %d, dropped %d\n",
		s.Frames, s.Sum(reason.Transmit), s.Sum(reason.Pass), s.Sum(reason.Drop))
	for _, r := range reason.All() {
		if n := s.Verdicts[r]; n > 0 {
			fmt.Fprintf(out, "  %-9s %-24s %d\n", r.Action(), r, n)
		}
	}
	l, verdict := &s.Ledger, "balances"
	if l.Check() != nil || l.Received != s.Frames {
		verdict = "DOES NOT BALANCE"
	}
	fmt.Fprintf(out, "ledger %s: received %d + created %d = transmitted %d + passed %d + dropped %d + in flight %d\n", verdict,
		l.Received, l.Created, l.Sum(reason.Transmit), l.Sum(reason.Pass), l.Sum(reason.Drop), l.InFlight)
}
