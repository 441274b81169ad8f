package xdp

import (
	"errors"
	"fmt"
	"math"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"fairlead/dataplane/nic"
)

// DefaultRingSize is the size of a ring whose size is not configured.
const DefaultRingSize = 2048

const (
	maxRingSize       = 1 << 16
	defaultBindWait   = 2 * time.Second
	bindRetryInterval = 10 * time.Millisecond

	// kickBudget is how many frames the kernel is asked to send in one system
	// call in copy mode, where it can be asked (Linux 6.17): several batches,
	// so that one kick is enough.
	kickBudget = 4 * nic.BatchSize
)

// ZeroCopy says whether the driver must, may or must not work on the UMEM
// itself.
type ZeroCopy uint8

// The settings of zero copy.
const (
	ZeroCopyAuto ZeroCopy = iota // where the driver can, else copy mode
	ZeroCopyOn                   // or fail
	ZeroCopyOff                  // copy mode
)

// SocketConfig describes a socket to open.
type SocketConfig struct {
	IfIndex int
	IfName  string // for messages only
	Queue   int    // RX and TX queue of the interface
	Port    uint16 // index in the FIB's interface table, below nic.MaxPorts
	UMEM    *UMEM

	// First, when set, is an open socket over the same UMEM whose registration
	// of the memory the new one shares (XDP_SHARED_UMEM). The kernel then
	// gives the new socket the mode of the first, and locked memory is counted
	// once. When nil, the memory is registered again for this socket: it may
	// have a mode of its own, and does not depend on First's interface being
	// there. Frames move between the sockets either way.
	First *Socket

	// Ring sizes in entries, powers of two; 0 means DefaultRingSize.
	RXSize, TXSize, FillSize, CompletionSize int

	ZeroCopy ZeroCopy

	// NeedWakeup lets a driver sleep until it is woken; with it off every
	// batch sent costs a system call.
	NeedWakeup bool

	// BusyPoll, when not 0, lets the worker's system calls run the driver's
	// poll loop for that long (SO_PREFER_BUSY_POLL, SO_BUSY_POLL, in whole
	// microseconds), BusyPollBudget packets at a time (0: the kernel's
	// default). It wants napi_defer_hard_irqs and gro_flush_timeout set on the
	// interface.
	BusyPoll       time.Duration
	BusyPollBudget int

	// BindWait is how long to wait for a former socket of the queue, just
	// closed, to let go of it; 0 means two seconds.
	BindWait time.Duration
}

// Facts are what came of a SocketConfig.
type Facts struct {
	ZeroCopy   bool
	CopyReason string // ZeroCopyAuto in copy mode: why not zero copy
	SharedUMEM bool   // the registration of First is used
	NeedWakeup bool
	KickBudget int // frames one kick sends at most in copy mode
	Notes      []string
}

// Socket is an open, bound AF_XDP socket: the control process's half. It
// receives nothing until an XDP program redirects to it.
type Socket struct {
	fd       int
	geometry Geometry
	facts    Facts
}

// Open opens a socket and binds it to its queue. It needs CAP_NET_RAW, and
// CAP_IPC_LOCK or a sufficient RLIMIT_MEMLOCK.
func Open(cfg SocketConfig) (*Socket, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, cfg.error(err)
	}
	// A socket that shares a registration may not say what mode it wants.
	if cfg.First != nil {
		s, err := open(cfg, 0)
		if err == nil {
			s.facts.SharedUMEM = true
		}
		return s, cfg.error(err)
	}
	reason := ""
	if cfg.ZeroCopy != ZeroCopyOff {
		s, err := open(cfg, unix.XDP_ZEROCOPY)
		if err == nil || cfg.ZeroCopy == ZeroCopyOn || !isAboutMode(err) {
			return s, cfg.error(err)
		}
		reason = err.Error()
	}
	s, err := open(cfg, unix.XDP_COPY)
	if err != nil {
		return nil, cfg.error(err)
	}
	s.facts.CopyReason = reason
	return s, nil
}

// isAboutMode reports whether copy mode may succeed where zero copy failed.
// Drivers refuse zero copy with many errors; these mean something else.
func isAboutMode(err error) bool {
	for _, e := range []unix.Errno{unix.EBUSY, unix.ENODEV, unix.ENETDOWN, unix.EPERM, unix.ENOBUFS, unix.EAFNOSUPPORT} {
		if errors.Is(err, e) {
			return false
		}
	}
	return true
}

func open(cfg SocketConfig, mode uint16) (_ *Socket, err error) {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, explain("open socket", err, map[unix.Errno]string{
			unix.EPERM:        "CAP_NET_RAW is needed",
			unix.EAFNOSUPPORT: "the kernel is built without CONFIG_XDP_SOCKETS",
		})
	}
	s := &Socket{fd: fd, geometry: Geometry{
		Port: cfg.Port, IfIndex: cfg.IfIndex, Queue: cfg.Queue,
		RXSize: cfg.RXSize, TXSize: cfg.TXSize, FillSize: cfg.FillSize, CompletionSize: cfg.CompletionSize,
	}}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if cfg.First == nil {
		if err := s.register(cfg.UMEM); err != nil {
			return nil, err
		}
	}
	if err := s.sizeRings(); err != nil {
		return nil, err
	}
	if err := s.tune(cfg); err != nil {
		return nil, err
	}
	if err := s.bind(cfg, mode); err != nil {
		return nil, err
	}
	s.facts.ZeroCopy, err = isZeroCopy(fd)
	return s, err
}

// register tells the kernel of the UMEM's memory.
func (s *Socket) register(u *UMEM) error {
	frames := u.Frames()
	reg := unix.XDPUmemReg{
		Addr:     uint64(uintptr(unsafe.Pointer(&frames[0]))),
		Len:      uint64(len(frames)),
		Size:     uint32(u.cfg.ChunkSize),
		Headroom: uint32(u.cfg.Headroom - KernelHeadroom),
	}
	err := setsockopt(s.fd, unix.XDP_UMEM_REG, unsafe.Pointer(&reg), unsafe.Sizeof(reg))
	if errors.Is(err, unix.ENOBUFS) && raiseMemlock() == nil {
		err = setsockopt(s.fd, unix.XDP_UMEM_REG, unsafe.Pointer(&reg), unsafe.Sizeof(reg))
	}
	return explain(fmt.Sprintf("register %d bytes of frame memory", len(frames)), err, map[unix.Errno]string{
		unix.ENOBUFS: "the limit of locked memory is too low: raise RLIMIT_MEMLOCK (LimitMEMLOCK=infinity in systemd) or grant CAP_IPC_LOCK",
		unix.ENOMEM:  "not enough memory to pin",
	})
}

// raiseMemlock lifts the limit of locked memory as far as the process may.
func raiseMemlock() error {
	const unlimited = math.MaxUint64 // RLIM_INFINITY
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unlimited, Max: unlimited}); err == nil {
		return nil
	}
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &lim); err != nil {
		return err
	}
	if lim.Cur == lim.Max {
		return unix.EPERM
	}
	lim.Cur = lim.Max
	return unix.Setrlimit(unix.RLIMIT_MEMLOCK, &lim)
}

func (s *Socket) sizeRings() error {
	g := s.geometry
	for _, r := range []struct {
		name   string
		option int
		size   int
	}{
		{"fill", unix.XDP_UMEM_FILL_RING, g.FillSize},
		{"completion", unix.XDP_UMEM_COMPLETION_RING, g.CompletionSize},
		{"RX", unix.XDP_RX_RING, g.RXSize},
		{"TX", unix.XDP_TX_RING, g.TXSize},
	} {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_XDP, r.option, r.size); err != nil {
			return fmt.Errorf("make %s ring of %d entries: %w", r.name, r.size, err)
		}
	}
	return nil
}

// tune sets what makes the socket fast. What the kernel does not know or does
// not allow is noted; only busy polling, which was asked for, may fail.
func (s *Socket) tune(cfg SocketConfig) error {
	s.facts.KickBudget = copyBatch
	if budget := min(kickBudget, cfg.TXSize); budget > copyBatch {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_XDP, unix.XDP_MAX_TX_SKB_BUDGET, budget); err == nil {
			s.facts.KickBudget = budget
		} else {
			s.facts.Notes = append(s.facts.Notes, fmt.Sprintf("copy mode sends %d frames a system call (XDP_MAX_TX_SKB_BUDGET: %v)", copyBatch, err))
		}
	}
	// In copy mode every frame on its way counts against the send buffer; the
	// default would stop at about 90 of them.
	want := cfg.TXSize * 2 * cfg.UMEM.cfg.ChunkSize
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, want); err != nil {
		s.facts.Notes = append(s.facts.Notes, fmt.Sprintf("send buffer not raised to %d bytes (SO_SNDBUFFORCE: %v)", want, err))
	}
	if cfg.BusyPoll == 0 {
		return nil
	}
	options := []struct {
		name   string
		option int
		value  int
	}{
		{"SO_PREFER_BUSY_POLL", unix.SO_PREFER_BUSY_POLL, 1},
		{"SO_BUSY_POLL", unix.SO_BUSY_POLL, int(cfg.BusyPoll.Microseconds())},
		{"SO_BUSY_POLL_BUDGET", unix.SO_BUSY_POLL_BUDGET, cfg.BusyPollBudget},
	}
	if cfg.BusyPollBudget == 0 {
		options = options[:2]
	}
	for _, o := range options {
		err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, o.option, o.value)
		if err := explain(fmt.Sprintf("busy polling: set %s to %d", o.name, o.value), err, map[unix.Errno]string{
			unix.EPERM:       "CAP_NET_ADMIN is needed",
			unix.ENOPROTOOPT: "the kernel is older than 5.11",
		}); err != nil {
			return err
		}
	}
	return nil
}

// bind binds the socket to its queue, waiting for a former socket to let go.
func (s *Socket) bind(cfg SocketConfig, mode uint16) error {
	addr := &unix.SockaddrXDP{Flags: mode, Ifindex: uint32(cfg.IfIndex), QueueID: uint32(cfg.Queue)}
	if cfg.First != nil {
		addr.Flags |= unix.XDP_SHARED_UMEM
		addr.SharedUmemFD = uint32(cfg.First.fd)
		s.facts.NeedWakeup = cfg.First.facts.NeedWakeup
	} else if cfg.NeedWakeup {
		addr.Flags |= unix.XDP_USE_NEED_WAKEUP
		s.facts.NeedWakeup = true
	}
	// The kernel releases a closed socket's queue from a work item, some time
	// after close has returned.
	deadline := time.Now().Add(cfg.BindWait)
	err := unix.Bind(s.fd, addr)
	for errors.Is(err, unix.EBUSY) && time.Now().Before(deadline) {
		time.Sleep(bindRetryInterval)
		err = unix.Bind(s.fd, addr)
	}
	what := "bind in the mode of the first socket"
	switch mode {
	case unix.XDP_ZEROCOPY:
		what = "bind with zero copy"
	case unix.XDP_COPY:
		what = "bind in copy mode"
	}
	return explain(what, err, map[unix.Errno]string{
		unix.EBUSY:      "another AF_XDP socket has this queue: stop the program that holds it",
		unix.EINVAL:     "the interface has no such queue, or the driver does not take this configuration: compare ethtool -l",
		unix.ENODEV:     "the interface is gone",
		unix.ENETDOWN:   "the interface is down: set it up first", // some drivers, with zero copy
		unix.EOPNOTSUPP: "the driver cannot do this",
		unix.EPERM:      "CAP_NET_RAW is needed",
	})
}

// FD is the socket's descriptor, to hand to the data process; the Socket keeps
// owning it.
func (s *Socket) FD() int { return s.fd }

// Geometry is what Attach needs besides the descriptor.
func (s *Socket) Geometry() Geometry { return s.geometry }

// Facts say in what mode the socket works.
func (s *Socket) Facts() Facts { return s.facts }

// Statistics are the kernel's counters of the socket.
func (s *Socket) Statistics() (Statistics, error) { return ReadStatistics(s.fd) }

// Close closes the descriptor. The queue is free again when every process that
// has mapped the socket's rings has closed it too. Closing again does nothing.
func (s *Socket) Close() error {
	if s.fd < 0 {
		return nil
	}
	fd := s.fd
	s.fd = -1
	return unix.Close(fd)
}

func (c SocketConfig) complete() (SocketConfig, error) {
	if c.UMEM == nil {
		return c, errors.New("no UMEM given")
	}
	if c.First != nil && c.First.fd < 0 {
		return c, errors.New("the first socket is closed")
	}
	if c.Port >= nic.MaxPorts {
		return c, fmt.Errorf("port %d: at most %d interfaces are driven", c.Port, nic.MaxPorts)
	}
	if c.IfIndex <= 0 || c.Queue < 0 {
		return c, errors.New("interface index and queue must be given")
	}
	for _, size := range []*int{&c.RXSize, &c.TXSize, &c.FillSize, &c.CompletionSize} {
		if *size == 0 {
			*size = DefaultRingSize
		}
		if err := checkRingSize(*size); err != nil {
			return c, err
		}
	}
	if c.BindWait == 0 {
		c.BindWait = defaultBindWait
	}
	if c.BusyPoll != 0 && c.BusyPoll < time.Microsecond {
		return c, fmt.Errorf("busy polling for %v: one microsecond at least", c.BusyPoll)
	}
	return c, nil
}

func (c SocketConfig) error(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("xdp: socket on %s queue %d: %w", c.IfName, c.Queue, err)
}

func checkRingSize(size int) error {
	if size <= 0 || size > maxRingSize || size&(size-1) != 0 {
		return fmt.Errorf("ring size %d: must be a power of two up to %d", size, maxRingSize)
	}
	return nil
}

func isZeroCopy(fd int) (bool, error) {
	var opts struct{ flags uint32 }
	if err := getsockopt(fd, unix.XDP_OPTIONS, unsafe.Pointer(&opts), unsafe.Sizeof(opts)); err != nil {
		return false, fmt.Errorf("read socket mode: %w", err)
	}
	return opts.flags&unix.XDP_OPTIONS_ZEROCOPY != 0, nil
}

// explain wraps err with what was tried and, where there is one, a hint; nil
// stays nil.
func explain(what string, err error, hints map[unix.Errno]string) error {
	if err == nil {
		return nil
	}
	var e unix.Errno
	if errors.As(err, &e) && hints[e] != "" {
		return fmt.Errorf("%s: %w: %s", what, err, hints[e])
	}
	return fmt.Errorf("%s: %w", what, err)
}

func setsockopt(fd, option int, value unsafe.Pointer, size uintptr) error {
	_, _, e := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(option), uintptr(value), size, 0)
	if e != 0 {
		return e
	}
	return nil
}
