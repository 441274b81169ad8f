package fib

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Seals of a memfd with an image. An image of its own is immutable for ever:
// it can be neither written, nor resized, nor unsealed again, by anyone. Of
// two images that take turns (Images), only the writer's own mapping can be
// written, which was there before the seal.
const (
	fixed    = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	sealed   = unix.F_SEAL_WRITE | fixed
	takeover = unix.F_SEAL_FUTURE_WRITE | fixed
)

// WriteMemfd copies an encoded image into a fresh memfd and seals it. The
// caller owns the descriptor.
func WriteMemfd(image []byte) (fd int, err error) {
	fd, memory, err := newMemfd(len(image))
	if err != nil {
		return -1, err
	}
	copy(memory, image)
	// F_SEAL_WRITE is refused while a writable mapping exists.
	if err = unix.Munmap(memory); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, sealed)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("fib: seal a memfd: %w", err)
	}
	return fd, nil
}

// newMemfd makes a memfd of n zero bytes and maps it writable.
func newMemfd(n int) (fd int, memory []byte, err error) {
	fd, err = unix.MemfdCreate("fairlead-fib", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, nil, fmt.Errorf("fib: create a memfd: %w", err)
	}
	if err = unix.Ftruncate(fd, int64(n)); err == nil {
		memory, err = unix.Mmap(fd, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		unix.Close(fd)
		return -1, nil, fmt.Errorf("fib: a memfd of %d bytes: %w", n, err)
	}
	return fd, memory, nil
}

// Mapped is the memory of an image in a sealed memfd, mapped read-only.
type Mapped struct {
	memory []byte
}

// MapImage maps the image in a sealed memfd. The descriptor stays the caller's
// and may be closed at once.
func MapImage(fd int) (*Mapped, error) {
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return nil, fmt.Errorf("fib: seals of the image's memfd: %w", err)
	}
	if seals&sealed != sealed && seals&takeover != takeover {
		return nil, fmt.Errorf("%w: its memfd is not sealed against change (seals %#x)", ErrImage, seals)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, fmt.Errorf("fib: size of the image's memfd: %w", err)
	}
	if uint64(stat.Size) < headerSize {
		return nil, fmt.Errorf("%w: %d bytes are too few for a header of %d", ErrImage, stat.Size, headerSize)
	}
	// Not populated: what Open verifies is mapped by that, and spare room would
	// take memory.
	memory, err := unix.Mmap(fd, 0, int(stat.Size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("fib: map the image of %d bytes: %w", stat.Size, err)
	}
	return &Mapped{memory}, nil
}

// Open opens the image (Open). While a snapshot of it is in use, the image must
// not change.
func (m *Mapped) Open() (*Snapshot, error) { return Open(m.memory) }

// Patched opens the image after it was patched (OpenPatched).
func (m *Mapped) Patched(before *Snapshot, written []Range) (*Snapshot, error) {
	return OpenPatched(m.memory, before, written)
}

// Close gives the memory back; nothing of a snapshot of it may be used after
// that. A nil Mapped has none.
func (m *Mapped) Close() error {
	if m == nil || m.memory == nil {
		return nil
	}
	memory := m.memory
	m.memory = nil
	return unix.Munmap(memory)
}

// Map is MapImage and Open in one. unmap gives the memory back.
func Map(fd int) (s *Snapshot, unmap func() error, err error) {
	m, err := MapImage(fd)
	if err != nil {
		return nil, nil, err
	}
	if s, err = m.Open(); err != nil {
		if e := m.Close(); e != nil {
			return nil, nil, fmt.Errorf("%w; and unmapping it: %w", err, e)
		}
		return nil, nil, err
	}
	return s, m.Close, nil
}
