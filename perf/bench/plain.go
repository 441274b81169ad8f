package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"fairlead/dataplane/nic"
	"fairlead/perf/lab"
	"fairlead/xdp"
	"fairlead/xdp/handover"
)

// Sizes of the rings and the frame memory of every AF_XDP forwarder: those
// that Fairlead has by default.
const (
	ringSize   = xdp.DefaultRingSize
	frameCount = xdp.DefaultChunks
)

// plainForwarder moves frames with the rings of package xdp, untouched.
var plainForwarder = contestant{
	name: "fairlead-rings",
	what: "AF_XDP forwarder on package xdp: frames pass untouched",
	start: func(ctx context.Context, k *kit, w *world, _ Case) (*forwarder, error) {
		cmd, err := childCommand("child-plain", w.in.Name, w.out.Name, strconv.Itoa(k.cpus.worker))
		if err != nil {
			return nil, err
		}
		return startOnSockets(ctx, w, cmd)
	},
}

// startOnSockets starts a forwarder that puts its AF_XDP socket into the map
// it is given as its first extra file, behind a program that redirects every
// frame there.
func startOnSockets(ctx context.Context, w *world, cmd *exec.Cmd) (*forwarder, error) {
	attached, err := attachXDP(w.in, objectProgTake, nil)
	if err != nil {
		return nil, err
	}
	sockets, err := fileOf(attached.objects.Maps[objectMapSockets].FD(), "sockets")
	if err != nil {
		attached.Close()
		return nil, err
	}
	defer sockets.Close()
	cmd.ExtraFiles = []*os.File{sockets}
	p, err := startReady(ctx, w.in.Host, cmd)
	if err != nil {
		attached.Close()
		return nil, err
	}
	return &forwarder{pids: []int{p.Pid()}, stop: func() error {
		err := p.Kill()
		attached.Close()
		return err
	}}, nil
}

// startReady starts a process and waits until it says that it is ready.
func startReady(ctx context.Context, h *lab.Host, cmd *exec.Cmd) (*lab.Process, error) {
	p, err := h.Start(cmd)
	if err != nil {
		return nil, err
	}
	if err := p.WaitOutput(ctx, ready); err != nil {
		_ = p.Kill()
		return nil, err
	}
	return p, nil
}

// attachedXDP is a program of bench.c on an interface.
type attachedXDP struct {
	objects *ebpf.Collection
	link    link.Link
}

func attachXDP(at *lab.Interface, name string, variables map[string]any) (*attachedXDP, error) {
	spec, err := programs(name)
	if err != nil {
		return nil, err
	}
	if err := setVariables(spec, variables); err != nil {
		return nil, err
	}
	objects, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", name, err)
	}
	a := &attachedXDP{objects: objects}
	err = at.Host.Do(func() (err error) {
		a.link, err = link.AttachXDP(link.XDPOptions{Program: objects.Programs[name], Interface: at.Index, Flags: link.XDPDriverMode})
		return err
	})
	if err != nil {
		objects.Close()
		return nil, fmt.Errorf("attach %s to %s: %w", name, at.Name, err)
	}
	return a, nil
}

// Close detaches the program.
func (a *attachedXDP) Close() error {
	err := a.link.Close()
	a.objects.Close()
	return err
}

// plainChild forwards from one interface to another (or the same) until it is killed.
func plainChild(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("%d arguments, want two interfaces and a CPU", len(args))
	}
	cpu, err := atoi(args[2])
	if err != nil {
		return err
	}
	if err := pinThread(cpu); err != nil {
		return err
	}
	umem, err := xdp.NewUMEM(xdp.UMEMConfig{Chunks: frameCount})
	if err != nil {
		return err
	}
	var queues []*xdp.Queue
	for port, name := range distinct(args[0], args[1]) {
		q, err := openQueue(umem, uint16(port), name)
		if err != nil {
			return err
		}
		queues = append(queues, q)
	}
	pool, _, err := handover.Adopt(umem, queues...)
	if err != nil {
		return err
	}
	in, out := queues[0], queues[len(queues)-1]
	// The worker has filled the ring before the first frame comes.
	refill(pool, in, make([]uint64, nic.BatchSize))
	sockets, err := ebpf.NewMapFromFD(firstExtraFile)
	if err != nil {
		return err
	}
	if err := sockets.Put(uint32(0), uint32(in.FD())); err != nil {
		return fmt.Errorf("put the socket into the map: %w", err)
	}
	fmt.Print(ready)
	return forwardPlain(pool, in, out)
}

// openQueue opens queue 0 of an interface.
func openQueue(umem *xdp.UMEM, port uint16, name string) (*xdp.Queue, error) {
	ifc, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	s, err := xdp.Open(xdp.SocketConfig{
		IfIndex: ifc.Index, IfName: name, Port: port, UMEM: umem, NeedWakeup: true,
		RXSize: ringSize, TXSize: ringSize, FillSize: ringSize, CompletionSize: ringSize,
	})
	if err != nil {
		return nil, err
	}
	fd, err := unix.FcntlInt(uintptr(s.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return xdp.Attach(fd, umem, s.Geometry())
}

// forwardPlain is the loop: receive, send, take back, refill.
func forwardPlain(pool *nic.Pool, in, out *xdp.Queue) error {
	frames := make([]nic.Frame, nic.BatchSize)
	addrs := make([]uint64, nic.BatchSize)
	for {
		n := in.Receive(frames)
		if n > 0 {
			pool.Received(frames[:n])
			k := out.Transmit(frames[:n])
			pool.Sent(frames[:k])
			for _, f := range frames[k:n] {
				pool.Put(f.Addr)
			}
			if err := out.Kick(); err != nil {
				return err
			}
		}
		if n = out.Complete(addrs); n > 0 {
			pool.Completed(addrs[:n])
		}
		refill(pool, in, addrs)
	}
}

func refill(pool *nic.Pool, in *xdp.Queue, addrs []uint64) {
	n := pool.TakeForFill(addrs)
	pool.Filled(in.Refill(addrs[:n]))
}

// distinct is one name when both are the same.
func distinct(a, b string) []string {
	if a == b {
		return []string{a}
	}
	return []string{a, b}
}
