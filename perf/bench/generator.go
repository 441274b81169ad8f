package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"fairlead/perf/lab"
)

// liveFrames is how many frames one call of BPF_PROG_TEST_RUN makes: as many
// as a process lives for, since every call prepares its pages anew.
const liveFrames = 1 << 31

// generator is a process that sends a stream.
type generator struct {
	sent    *ebpf.Variable
	objects *ebpf.Collection
	process *lab.Process
}

// startGenerator sends a stream out of an interface, from a process that is
// pinned to a CPU.
func startGenerator(from *lab.Interface, s *stream, cpu int) (*generator, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	name := objectProgGenerate
	if s.IPv6 {
		name = objectProgGenerate6
	}
	spec, err := programs(name)
	if err != nil {
		return nil, err
	}
	if err := setVariables(spec, s.variables()); err != nil {
		return nil, err
	}
	objects, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("load the generator: %w", err)
	}
	g := &generator{sent: objects.Variables[objectVarSent], objects: objects}
	if err := g.start(from, objects.Programs[name], s.frame(), cpu); err != nil {
		objects.Close()
		return nil, err
	}
	return g, nil
}

func (g *generator) start(from *lab.Interface, make *ebpf.Program, frame []byte, cpu int) error {
	program, err := fileOf(make.FD(), "generator")
	if err != nil {
		return err
	}
	defer program.Close()
	cmd, err := childCommand("child-generate", strconv.Itoa(from.Index), strconv.Itoa(cpu))
	if err != nil {
		return err
	}
	cmd.Stdin = bytes.NewReader(frame)
	cmd.ExtraFiles = []*os.File{program}
	g.process, err = from.Host.Start(cmd)
	return err
}

// generateChild is the process: it runs the program it is given on live frames
// until it is killed.
func generateChild(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%d arguments, want an interface's number and a CPU", len(args))
	}
	ifindex, err := atoi(args[0])
	if err != nil {
		return err
	}
	cpu, err := atoi(args[1])
	if err != nil {
		return err
	}
	frame, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	program, err := ebpf.NewProgramFromFD(firstExtraFile)
	if err != nil {
		return err
	}
	if err := pinThread(cpu); err != nil {
		return err
	}
	// struct xdp_md of <linux/bpf.h>.
	type xdpMD struct{ Data, DataEnd, DataMeta, IngressIfindex, RXQueueIndex, EgressIfindex uint32 }
	for {
		_, err := program.Run(&ebpf.RunOptions{
			Data:    frame,
			Context: xdpMD{DataEnd: uint32(len(frame)), IngressIfindex: uint32(ifindex)},
			Repeat:  liveFrames,
			Flags:   unix.BPF_F_TEST_XDP_LIVE_FRAMES,
		})
		if err != nil {
			return fmt.Errorf("run on live frames: %w", err)
		}
	}
}

// Sent is how many frames were made.
func (g *generator) Sent() (uint64, error) {
	var n uint64
	err := g.sent.Get(&n)
	return n, err
}

// WaitSent returns when so many frames were made.
func (g *generator) WaitSent(ctx context.Context, frames uint64) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		n, err := g.Sent()
		if err != nil || n >= frames {
			return err
		}
		select {
		case <-g.process.Done():
			return fmt.Errorf("the generator has ended after %d frames: %s", n, g.process.Output())
		case <-ctx.Done():
			return fmt.Errorf("the generator has made %d of %d frames: %w", n, frames, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// PID is the process's number.
func (g *generator) PID() int { return g.process.Pid() }

// Stop ends the process.
func (g *generator) Stop() error {
	err := g.process.Kill()
	g.objects.Close()
	return err
}

// programs is the specification of bench.c with only the programs named.
func programs(names ...string) (*ebpf.CollectionSpec, error) {
	spec, err := loadObject()
	if err != nil {
		return nil, err
	}
	kept := make(map[string]*ebpf.ProgramSpec, len(names))
	for _, name := range names {
		if spec.Programs[name] == nil {
			return nil, fmt.Errorf("bench.c has no program %s", name)
		}
		kept[name] = spec.Programs[name]
	}
	spec.Programs = kept
	return spec, nil
}

// fileOf duplicates a descriptor of BPF's, to hand it to a child.
func fileOf(fd int, name string) (*os.File, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate the descriptor of the %s: %w", name, err)
	}
	f := os.NewFile(uintptr(dup), name)
	if f == nil {
		return nil, errors.New("no descriptor")
	}
	return f, nil
}
