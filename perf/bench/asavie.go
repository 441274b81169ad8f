package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	asavie "github.com/asavie/xdp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// asavieForwarder is the Go library for AF_XDP that there was before, used as
// well as its interface allows: rings as large as everybody's, no poll, the TX
// ring drained. Two of its sockets cannot share memory, so that with two arms
// every frame is copied.
var asavieForwarder = contestant{
	name: "asavie-xdp",
	what: "AF_XDP forwarder on github.com/asavie/xdp, tuned",
	start: func(ctx context.Context, k *kit, w *world, _ Case) (*forwarder, error) {
		return startAsavie(ctx, k, w, "tuned")
	},
}

// asavieByReadme is the same library, used as its README and examples do.
var asavieByReadme = contestant{
	name: "asavie-readme",
	what: "AF_XDP forwarder on github.com/asavie/xdp, by its README: default rings, poll",
	start: func(ctx context.Context, k *kit, w *world, _ Case) (*forwarder, error) {
		return startAsavie(ctx, k, w, "readme")
	},
}

func startAsavie(ctx context.Context, k *kit, w *world, mode string) (*forwarder, error) {
	cmd, err := childCommand("child-asavie", w.in.Name, w.out.Name, strconv.Itoa(k.cpus.worker), mode)
	if err != nil {
		return nil, err
	}
	p, err := startReady(ctx, w.in.Host, cmd)
	if err != nil {
		return nil, errors.Join(err, detach(w))
	}
	return &forwarder{pids: []int{p.Pid()}, stop: func() error { return errors.Join(p.Kill(), detach(w)) }}, nil
}

// detach takes off a program that was attached the old way, which stays when
// its process has ended.
func detach(w *world) error {
	nl := w.in.Host.Netlink()
	link, err := nl.LinkByName(w.in.Name)
	if err != nil {
		return err
	}
	return w.in.Host.Do(func() error { return netlink.LinkSetXdpFdWithFlags(link, -1, unix.XDP_FLAGS_DRV_MODE) })
}

// asavieBindTime bounds the wait for the queue's last socket to be gone.
const asavieBindTime = 2 * time.Second

// asavieChild forwards from one interface to another (or the same) until it is killed.
func asavieChild(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("%d arguments, want two interfaces, a CPU and a mode", len(args))
	}
	cpu, err := atoi(args[2])
	if err != nil {
		return err
	}
	if err := pinThread(cpu); err != nil {
		return err
	}
	var options *asavie.SocketOptions
	tuned := args[3] == "tuned"
	if tuned {
		options = &asavie.SocketOptions{
			NumFrames: 2 * ringSize, FrameSize: xdpFrameSize,
			FillRingNumDescs: ringSize, CompletionRingNumDescs: ringSize, RxRingNumDescs: ringSize, TxRingNumDescs: ringSize,
		}
	}
	in, err := openAsavie(args[0], options)
	if err != nil {
		return err
	}
	out := in
	if args[1] != args[0] {
		if out, err = openAsavie(args[1], options); err != nil {
			return err
		}
	}
	if err := attachAsavie(args[0], in); err != nil {
		return err
	}
	in.Fill(in.GetDescs(in.NumFreeFillSlots()))
	fmt.Print(ready)
	switch {
	case tuned && in == out:
		asavieOneArm(in)
	case tuned:
		asavieTwoArms(in, out)
	case in == out:
		return asavieReadme(in)
	}
	return asavieExample(in, out)
}

// xdpFrameSize is the size of everybody's frames.
const xdpFrameSize = 2048

func openAsavie(name string, options *asavie.SocketOptions) (*asavie.Socket, error) {
	ifc, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(asavieBindTime); ; time.Sleep(time.Millisecond) {
		s, err := asavie.NewSocket(ifc.Index, 0, options)
		if err == nil || time.Now().After(deadline) {
			return s, err
		}
	}
}

func attachAsavie(name string, s *asavie.Socket) error {
	ifc, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	program, err := asavie.NewProgram(1)
	if err != nil {
		return err
	}
	if err := program.Register(0, s.FD()); err != nil {
		return err
	}
	return program.Attach(ifc.Index)
}

// refillFrom is how many free slots make looking for free frames worth it: the
// library searches all of them.
const refillFrom = ringSize / 4

// asavieOneArm sends frames from where they are.
func asavieOneArm(s *asavie.Socket) {
	for {
		if n := s.NumCompleted(); n > 0 {
			s.Complete(n)
		}
		if n := s.NumFreeFillSlots(); n >= refillFrom {
			s.Fill(s.GetDescs(n))
		}
		if n := min(s.NumReceived(), s.NumFreeTxSlots(), batch); n > 0 {
			s.Transmit(s.Receive(n))
			drainAsavie(s)
		}
	}
}

// batch is how many frames are handled at a time.
const batch = 64

// asavieTwoArms copies frames into the memory of the other socket.
func asavieTwoArms(in, out *asavie.Socket) {
	for {
		if n := out.NumCompleted(); n > 0 {
			out.Complete(n)
		}
		if n := in.NumFreeFillSlots(); n >= refillFrom {
			in.Fill(in.GetDescs(n))
		}
		if n := min(in.NumReceived(), batch); n > 0 {
			copyAsavie(in, out, n)
			drainAsavie(out)
		}
	}
}

func copyAsavie(in, out *asavie.Socket, n int) {
	descs := out.GetDescs(min(n, out.NumFreeTxSlots()))
	for i, d := range in.Receive(len(descs)) {
		descs[i].Len = uint32(copy(out.GetFrame(descs[i]), in.GetFrame(d)))
	}
	out.Transmit(descs)
}

// drainTries bounds how often the kernel is asked to send one batch.
const drainTries = 256

// drainAsavie has the kernel send until the ring is empty: one call sends a
// limited number in copy mode.
func drainAsavie(s *asavie.Socket) {
	for range drainTries {
		if s.NumFreeTxSlots() == ringSize {
			return
		}
		s.Transmit(nil)
	}
}

// asavieReadme is the loop of the library's README, without its change to the
// frames.
func asavieReadme(s *asavie.Socket) error {
	for {
		s.Fill(s.GetDescs(s.NumFreeFillSlots()))
		n, _, err := s.Poll(-1)
		if err != nil {
			return err
		}
		s.Transmit(s.Receive(n))
	}
}

// asavieExample does what the library's example of a forwarder between two
// interfaces does, in the one direction that there is traffic in.
func asavieExample(in, out *asavie.Socket) error {
	fds := []unix.PollFd{{Fd: int32(in.FD()), Events: unix.POLLIN}, {Fd: int32(out.FD())}}
	for {
		in.Fill(in.GetDescs(in.NumFreeFillSlots()))
		fds[1].Events = 0
		if out.NumTransmitted() > 0 {
			fds[1].Events = unix.POLLOUT
		}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if fds[0].Revents&unix.POLLIN != 0 {
			copyAsavie(in, out, in.NumReceived())
		}
		if fds[1].Revents&unix.POLLOUT != 0 {
			out.Complete(out.NumCompleted())
		}
	}
}
