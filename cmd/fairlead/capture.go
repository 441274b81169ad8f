package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"fairlead/cmd/fairlead/internal/capturefile"
	"fairlead/cmd/fairlead/internal/node"
	"fairlead/cmd/fairlead/internal/output"
	"fairlead/controlplane/api"
)

func newCapture() *cobra.Command {
	c := &cobra.Command{
		Use:   "capture",
		Short: "Capture packets that a node handles, as they came in and as they leave",
		Long: `Capture packets that a node handles, as they came in and as they leave, with what
became of each. With -w they are written to a file for tcpdump and Wireshark, in
the pcapng format, where a comment says of each packet what became of it; without
it, the headers of each are written in a line.

A capture ends after --count frames or --duration, when it is interrupted, and when
the connection to the node is lost; two can be under way at a time. Every packet
that is handled while it runs is copied, so a capture costs speed, but no packet is
lost for it: what comes faster than it can be copied is left out and counted.

Flows that the XDP program forwards by itself go through the workers while they are
captured, which is slower: narrow the capture down on a busy node, or leave them
alone with --keep-memos, which does not see their packets. Not seen are packets
that the XDP program drops (see "fairlead drops") or passes to the host, as it does
everything that is for no address of the node's services.

A packet and what it was made into are both captured: with --direction received or
sent only one of them.`,
		Example: `  fairlead capture -w web.pcap --service web --client 203.0.113.7
  fairlead capture -w drops.pcap --reason tcp_flags_invalid --count 100
  fairlead capture --backend web1 --direction sent --sample 1/100
  fairlead capture -w - --service web | tcpdump -n -r -`,
		Args: cobra.NoArgs,
	}
	f := &captureFlags{node: nodeFlag(c), out: output.Flags(c), sample: 1}
	f.packets.flags(c)
	c.Flags().StringVarP(&f.file, "write", "w", "", "file to write; -: standard output")
	c.Flags().StringVar(&f.format, "format", "pcapng", "of the file: pcapng, or pcap, which has bytes and times only")
	c.Flags().StringVar(&f.direction, "direction", "both", "frames as they came in (received), as they leave (sent), or both")
	c.Flags().IntVar(&f.count, "count", 1000, "end after so many frames, 1 to 1000000")
	c.Flags().DurationVar(&f.length, "duration", 30*time.Second, "end after so long, 100ms to 10m")
	c.Flags().IntVar(&f.snap, "snaplen", 4096, "bytes to capture of each frame at most, 14 to 4096")
	c.Flags().Var(&f.sample, "sample", "capture one packet in so many, at random: 1/100 or 100")
	c.Flags().BoolVar(&f.keepMemos, "keep-memos", false, "leave flows to the XDP program that forwards them by itself")
	c.RunE = func(*cobra.Command, []string) error { return f.run() }
	return c
}

type captureFlags struct {
	node                    *nodeFlags
	out                     *output.Options
	packets                 packetFlags
	file, format, direction string
	count, snap             int
	length                  time.Duration
	sample                  sampleFlag
	keepMemos               bool
}

// sampleFlag is one in so many.
type sampleFlag int

// String implements pflag.Value.
func (s *sampleFlag) String() string { return fmt.Sprintf("1/%d", *s) }

// Type implements pflag.Value.
func (s *sampleFlag) Type() string { return "share" }

// Set implements pflag.Value.
func (s *sampleFlag) Set(text string) error {
	n, err := strconv.Atoi(strings.TrimPrefix(text, "1/"))
	if err != nil || n < 1 || n > 1_000_000 {
		return fmt.Errorf("%q is not one in so many: write it as 1/100 or 100, up to 1/1000000", text)
	}
	*s = sampleFlag(n)
	return nil
}

func (f *captureFlags) run() error {
	switch {
	case f.format != "pcapng" && f.format != "pcap":
		return usageError("--format is pcapng or pcap")
	case f.out.Format == output.FormatYAML:
		return usageError("a capture is written in lines as it comes: -o table, wide or json")
	case f.file != "" && !(f.out.Format == output.FormatTable):
		return usageError("--output is for captures that are not written to a file")
	}
	client, err := f.node.client()
	if err != nil {
		return err
	}
	ctx, stop := interruptible()
	defer stop()
	return f.capture(ctx, client, os.Stdout, os.Stderr)
}

// capture captures until the node says that it is over, or ctx is.
func (f *captureFlags) capture(ctx context.Context, client *api.Client, out, notes io.Writer) error {
	query := api.CaptureQuery{
		PacketFilter: f.packets.filter(), Direction: f.direction, Count: f.count, Duration: api.Duration(f.length),
		Snap: f.snap, Sample: int(f.sample), KeepMemos: f.keepMemos,
	}
	s := &captured{flags: f, out: out, notes: notes}
	err := client.Capture(ctx, query, s.take)
	interrupted := ctx.Err() != nil && errors.Is(err, context.Canceled)
	if interrupted {
		err = nil
	}
	if _, said := errors.AsType[*api.Error](err); err != nil && !said && s.begun && !s.failed {
		err = fmt.Errorf("the connection to the node was lost; %d frames were captured: %w", s.frames, err)
	}
	if closed := s.close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	switch {
	case s.end != nil:
		fmt.Fprintf(notes, "%d frames captured of %d packets that were selected, %d left out because they came too fast; ended by %s\n", s.frames, s.end.Matched, s.end.Lost, s.end.Why)
	case interrupted:
		fmt.Fprintf(notes, "%d frames captured; interrupted\n", s.frames)
	default:
		return fmt.Errorf("the connection to the node was lost; %d frames were captured", s.frames)
	}
	return nil
}

// captured is what has come of a capture.
type captured struct {
	flags      *captureFlags
	out, notes io.Writer
	file       *os.File           // nil: standard output, or none
	writer     capturefile.Writer // nil: packets are written in lines
	begun      bool
	failed     bool // what came could not be written
	frames     int
	end        *api.CaptureEnd
}

func (s *captured) take(c *api.CaptureChunk) error {
	err := s.put(c)
	s.failed = err != nil
	return err
}

func (s *captured) put(c *api.CaptureChunk) error {
	if c.Begun != nil {
		s.begun = true
		if err := s.begin(c.Begun); err != nil {
			return err
		}
	}
	for i := range c.Packets {
		s.frames++
		if err := s.write(&c.Packets[i]); err != nil {
			return err
		}
	}
	if c.End != nil {
		s.end = c.End
	}
	return nil
}

func (s *captured) write(p *api.Packet) error {
	switch {
	case s.writer != nil:
		return s.writer.Packet(p)
	case !s.flags.out.Tabular():
		return json.NewEncoder(s.out).Encode(p)
	}
	return writePacket(s.out, p, s.flags.out.Format == output.FormatWide)
}

// begin makes the file, which nobody but its owner may read: it has what
// clients and servers say to each other. Nothing is made, and nothing
// overwritten, for a capture that the node refuses.
func (s *captured) begin(b *api.CaptureBegin) error {
	switch b.Memos {
	case "off":
		fmt.Fprintln(s.notes, "flows that are captured do not go by memos of the XDP program meanwhile")
	case "kept":
		fmt.Fprintln(s.notes, "packets that the XDP program forwards by itself are not seen")
	}
	f := s.flags
	if f.file == "" {
		return nil
	}
	to := s.out
	if f.file != "-" {
		file, err := os.OpenFile(f.file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return err
		}
		s.file, to = file, file
		if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
			if err := file.Chmod(0o600); err != nil {
				return err
			}
		}
	}
	make := capturefile.NewNG
	if f.format == "pcap" {
		make = capturefile.NewClassic
	}
	var err error
	s.writer, err = make(to, capturefile.Header{Program: "fairlead " + node.Version, Interfaces: b.Interfaces, Snap: f.snap, Comment: f.describe()})
	return err
}

// describe says what is captured.
func (f *captureFlags) describe() string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+" "+value)
		}
	}
	add("reason", strings.Join(f.packets.reasons, " or "))
	add("service", f.packets.service)
	add("backend", f.packets.backend)
	add("client", f.packets.client.String())
	add("direction", f.direction)
	add("sample", f.sample.String())
	return strings.Join(parts, ", ")
}

func (s *captured) close() error {
	var err error
	if s.writer != nil {
		err = s.writer.Flush()
	}
	if s.file != nil {
		err = errors.Join(err, s.file.Close())
	}
	return err
}
