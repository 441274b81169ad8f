package xdp

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"fairlead/dataplane/nic"
)

// KernelHeadroom is how many bytes the kernel keeps before every received
// frame (XDP_PACKET_HEADROOM).
const KernelHeadroom = 256

// Defaults of a UMEM: enough for rings of DefaultRingSize on two interfaces.
const (
	DefaultChunks    = 8192
	DefaultChunkSize = 2048
	DefaultHeadroom  = KernelHeadroom
)

const (
	minChunkSize = 2048 // XDP_UMEM_MIN_CHUNK_SIZE
	minFrame     = 1024 // less is no use to anybody
	hugePageSize = 2 << 20
)

// UMEMConfig is the shape of a UMEM. Zero fields take the defaults. The same
// values must be given to NewUMEM and, in the other process, to MapUMEM: pass
// on what UMEM.Config returns.
type UMEMConfig struct {
	Chunks    int  // number of frame buffers
	ChunkSize int  // bytes of a buffer: a power of two from 2048 to the page size
	Headroom  int  // bytes before a received frame, KernelHeadroom at least
	HugePages bool // back it with 2 MiB pages
}

// UMEM is one worker's frame memory, shared between processes and with the
// kernel.
type UMEM struct {
	cfg     UMEMConfig
	fd      int
	mem     []byte // the whole mapping
	custody *Custody
	note    string
}

// NewUMEM makes a UMEM in a memfd, with all its pages present. When huge pages
// are wanted and not to be had, ordinary pages are used and Note says why.
func NewUMEM(cfg UMEMConfig) (*UMEM, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	u, err := createUMEM(cfg)
	if err != nil && cfg.HugePages {
		hugeErr := err
		cfg.HugePages = false
		if u, err = createUMEM(cfg); err == nil {
			u.note = fmt.Sprintf("no huge pages, ordinary ones are used (%v): reserve %d with vm.nr_hugepages",
				hugeErr, cfg.size(hugePageSize)/hugePageSize)
		}
	}
	return u, err
}

func createUMEM(cfg UMEMConfig) (*UMEM, error) {
	flags := unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	if cfg.HugePages {
		flags |= unix.MFD_HUGETLB | unix.MFD_HUGE_2MB
	}
	fd, err := unix.MemfdCreate("fairlead-umem", flags)
	if err != nil {
		return nil, fmt.Errorf("umem: memfd_create: %w", err)
	}
	size := cfg.size(cfg.pageSize())
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("umem: set size of memfd to %d bytes: %w", size, err)
	}
	// Nobody may shrink it: a worker that touches a page cut off would die.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("umem: seal memfd: %w", err)
	}
	return MapUMEM(fd, cfg)
}

// MapUMEM maps a UMEM that another process made. On success the UMEM owns fd;
// on failure fd is closed.
func MapUMEM(fd int, cfg UMEMConfig) (*UMEM, error) {
	cfg, err := cfg.complete()
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	size := cfg.size(cfg.pageSize())
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("umem: stat: %w", err)
	}
	if st.Size != int64(size) {
		unix.Close(fd)
		return nil, fmt.Errorf("umem: memory has %d bytes, %d chunks of %d bytes take %d", st.Size, cfg.Chunks, cfg.ChunkSize, size)
	}
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("umem: map %d bytes: %w", size, err)
	}
	return &UMEM{cfg: cfg, fd: fd, mem: mem, custody: newCustody(mem[cfg.tailOffset():], cfg)}, nil
}

// FD is the memfd's descriptor; the UMEM keeps owning it.
func (u *UMEM) FD() int { return u.fd }

// Config is the shape the UMEM has, huge pages only if it got them.
func (u *UMEM) Config() UMEMConfig { return u.cfg }

// Note says what NewUMEM could not do as wanted; empty when all is well.
func (u *UMEM) Note() string { return u.note }

// Frames is the memory of the chunks: what nic.NewPool takes.
func (u *UMEM) Frames() []byte {
	n := u.cfg.Chunks * u.cfg.ChunkSize
	return u.mem[:n:n]
}

// Custody is the table of who holds each chunk.
func (u *UMEM) Custody() *Custody { return u.custody }

// NewPool makes a pool over the chunks, all free. handover.Adopt is what a
// worker wants: it knows what the sockets hold.
func (u *UMEM) NewPool() (*nic.Pool, error) {
	return nic.NewPool(u.Frames(), u.cfg.ChunkSize, u.cfg.Headroom)
}

// Close unmaps the memory and closes its descriptor. Sockets opened over it
// keep the pages until they are closed too. Pools, queues and the custody table
// must not be used any more. Closing again does nothing.
func (u *UMEM) Close() error {
	if u.fd < 0 {
		return nil
	}
	fd := u.fd
	u.fd = -1
	return errors.Join(unix.Munmap(u.mem), unix.Close(fd))
}

func (c UMEMConfig) complete() (UMEMConfig, error) {
	if c.Chunks == 0 {
		c.Chunks = DefaultChunks
	}
	if c.ChunkSize == 0 {
		c.ChunkSize = DefaultChunkSize
	}
	if c.Headroom == 0 {
		c.Headroom = DefaultHeadroom
	}
	page := os.Getpagesize()
	switch {
	case c.ChunkSize < minChunkSize || c.ChunkSize > page || c.ChunkSize&(c.ChunkSize-1) != 0:
		return c, fmt.Errorf("umem: chunk size %d: must be a power of two from %d to %d", c.ChunkSize, minChunkSize, page)
	case c.Headroom < KernelHeadroom || c.MaxFrame() < minFrame:
		return c, fmt.Errorf("umem: headroom %d: must be from %d to %d, which leaves %d bytes of a chunk", c.Headroom, KernelHeadroom, c.ChunkSize-minFrame, minFrame)
	case c.Chunks < 0 || c.Chunks > 1<<24:
		return c, fmt.Errorf("umem: %d chunks: must be from 1 to %d", c.Chunks, 1<<24)
	case c.Chunks*c.ChunkSize%page != 0:
		return c, fmt.Errorf("umem: %d chunks of %d bytes are not a whole number of %d-byte pages", c.Chunks, c.ChunkSize, page)
	}
	return c, nil
}

// MaxFrame is the longest frame a chunk receives, in bytes.
func (c UMEMConfig) MaxFrame() int { return c.ChunkSize - c.Headroom }

func (c UMEMConfig) pageSize() int {
	if c.HugePages {
		return hugePageSize
	}
	return os.Getpagesize()
}

// tailOffset is where the chunks end and the custody table begins: a page of
// its own, so that the kernel has no business there.
func (c UMEMConfig) tailOffset() int { return c.Chunks * c.ChunkSize }

func (c UMEMConfig) size(page int) int {
	n := c.tailOffset() + custodySize(c.Chunks)
	return (n + page - 1) / page * page
}
