package steer

import (
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Inject takes count copies of a frame through an interface's program as if the
// interface had received them on queue 0, the only one that the kernel does so
// for: what is redirected reaches the queue's socket, and what is passed the
// host's stack. Nothing is on the wire. The calling thread makes the frames, and
// it returns when it has made all; for a self-test.
func (s *Steer) Inject(ifindex int, frame []byte, count uint32) error {
	program, name, err := s.programOf(ifindex)
	if err != nil {
		return fmt.Errorf("inject frames: %w", err)
	}
	defer program.Close()
	// struct xdp_md of <linux/bpf.h>.
	type xdpMD struct{ Data, DataEnd, DataMeta, IngressIfindex, RXQueueIndex, EgressIfindex uint32 }
	_, err = program.Run(&ebpf.RunOptions{
		Data:    frame,
		Context: xdpMD{DataEnd: uint32(len(frame)), IngressIfindex: uint32(ifindex)},
		Repeat:  count,
		Flags:   unix.BPF_F_TEST_XDP_LIVE_FRAMES,
	})
	if err != nil {
		return fmt.Errorf("interface %s: inject frames: %w", name, err)
	}
	return nil
}

// programOf is an interface's program, which the caller closes: the interface
// may be detached meanwhile.
func (s *Steer) programOf(ifindex int) (*ebpf.Program, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.queue(ifindex, 0)
	if err != nil {
		return nil, "", err
	}
	program, err := i.prog.Clone()
	return program, i.attached.Name, err
}
