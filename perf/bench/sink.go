package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"fairlead/perf/lab"
)

// sinkKind is how frames are counted and dropped at the far end.
type sinkKind int

const (
	// sinkTC drops in the stack's ingress hook, the cheapest place for frames
	// that were sent as packets of the stack's, as AF_XDP in copy mode does too.
	sinkTC sinkKind = iota
	// sinkXDP drops in the driver, the cheapest place for frames that an XDP
	// program sent; without a program there, a veth would not take them.
	sinkXDP
)

// sink counts and drops what a contestant forwards.
type sink struct {
	objects *ebpf.Collection
	link    link.Link
}

// openSink drops all IP frames that arrive at an interface, but for those that
// hosts on an IPv6 link tell each other.
func openSink(at *lab.Interface, kind sinkKind, stamped bool) (*sink, error) {
	name := objectProgSinkTc
	if kind == sinkXDP {
		name = objectProgSinkXdp
	}
	spec, err := programs(name)
	if err != nil {
		return nil, err
	}
	mask := net.CIDRMask(clients4.Bits(), 32)
	if err := setVariables(spec, map[string]any{
		objectVarClientPrefix:  binary.NativeEndian.Uint32(clients4.Addr().AsSlice()),
		objectVarClientMask:    binary.NativeEndian.Uint32(mask),
		objectVarClientPrefix6: binary.NativeEndian.Uint64(clients6.Addr().AsSlice()),
		objectVarStamped:       bit(stamped),
	}); err != nil {
		return nil, err
	}
	objects, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("load the sink: %w", err)
	}
	s := &sink{objects: objects}
	err = at.Host.Do(func() (err error) {
		program := objects.Programs[name]
		switch kind {
		case sinkTC:
			s.link, err = link.AttachTCX(link.TCXOptions{Program: program, Interface: at.Index, Attach: ebpf.AttachTCXIngress})
		case sinkXDP:
			s.link, err = link.AttachXDP(link.XDPOptions{Program: program, Interface: at.Index, Flags: link.XDPDriverMode})
		}
		return err
	})
	if err != nil {
		objects.Close()
		return nil, fmt.Errorf("attach the sink: %w", err)
	}
	return s, nil
}

// Counts are what has arrived.
func (s *sink) Counts() (objectCounts, error) {
	var perCPU []objectCounts
	var total objectCounts
	if err := s.objects.Maps[objectMapCounted].Lookup(uint32(0), &perCPU); err != nil {
		return total, fmt.Errorf("read the sink: %w", err)
	}
	for _, c := range perCPU {
		total.Frames += c.Frames
		total.Bytes += c.Bytes
		total.Other += c.Other
	}
	return total, nil
}

// Delays are how many stamped frames took how long, by bucket.
func (s *sink) Delays() (*delays, error) {
	d := &delays{}
	var perCPU []uint64
	for i := range d {
		if err := s.objects.Maps[objectMapDelays].Lookup(uint32(i), &perCPU); err != nil {
			return nil, fmt.Errorf("read the sink's delays: %w", err)
		}
		for _, n := range perCPU {
			d[i] += n
		}
	}
	return d, nil
}

// Close takes the sink away.
func (s *sink) Close() error {
	err := s.link.Close()
	s.objects.Close()
	return err
}

// delays is a histogram: 16 buckets for each power of two of nanoseconds.
type delays [480]uint64

// since is what has been added after an earlier reading.
func (d *delays) since(earlier *delays) *delays {
	var diff delays
	for i := range d {
		diff[i] = d[i] - earlier[i]
	}
	return &diff
}

// percentile is the delay that a share p (0 to 1) of the frames did not
// exceed, to 1/16 exactly; 0 when there were none.
func (d *delays) percentile(p float64) time.Duration {
	var total, seen uint64
	for _, n := range d {
		total += n
	}
	if total == 0 {
		return 0
	}
	rank := max(uint64(p*float64(total)+0.5), 1)
	for i, n := range d {
		if seen += n; seen >= rank {
			return bucketTop(i)
		}
	}
	return bucketTop(len(d) - 1)
}

// bucketTop is the longest delay in a bucket.
func bucketTop(i int) time.Duration {
	if i < 16 {
		return time.Duration(i)
	}
	exponent := i/16 - 1
	return time.Duration((16+uint64(i%16)+1)<<exponent - 1)
}
