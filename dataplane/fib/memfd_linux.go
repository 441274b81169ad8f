package fib

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// sealed is what makes an image in a memfd immutable: it can be neither
// written, nor resized, nor unsealed again, by anyone.
const sealed = unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// EncodeMemfd writes the image with the given generation into a fresh memfd
// and seals it. The caller owns the descriptor.
func (b *Builder) EncodeMemfd(generation uint64) (fd int, err error) {
	p, err := b.plan()
	if err != nil {
		return -1, err
	}
	return memfd(int(p.size), func(memory []byte) error { return p.write(memory, generation) })
}

// WriteMemfd copies an encoded image into a fresh memfd and seals it. The
// caller owns the descriptor.
func WriteMemfd(image []byte) (fd int, err error) {
	return memfd(len(image), func(memory []byte) error {
		copy(memory, image)
		return nil
	})
}

// memfd makes a sealed memfd of n bytes with what fill puts into it.
func memfd(n int, fill func([]byte) error) (fd int, err error) {
	fd, err = unix.MemfdCreate("fairlead-fib", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, fmt.Errorf("fib: create a memfd: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
			fd = -1
		}
	}()
	if err = unix.Ftruncate(fd, int64(n)); err != nil {
		return fd, fmt.Errorf("fib: size a memfd to %d bytes: %w", n, err)
	}
	memory, err := unix.Mmap(fd, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fd, fmt.Errorf("fib: map a memfd of %d bytes: %w", n, err)
	}
	err = fill(memory)
	// F_SEAL_WRITE is refused while a writable mapping exists.
	if e := unix.Munmap(memory); err == nil && e != nil {
		err = fmt.Errorf("fib: unmap a memfd: %w", e)
	}
	if err != nil {
		return fd, err
	}
	if _, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, sealed); err != nil {
		return fd, fmt.Errorf("fib: seal a memfd: %w", err)
	}
	return fd, nil
}

// Map maps the image in a sealed memfd read-only and opens it. The descriptor
// stays the caller's and may be closed at once. unmap gives the memory back;
// nothing of the snapshot may be used after it.
func Map(fd int) (s *Snapshot, unmap func() error, err error) {
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("fib: seals of the image's memfd: %w", err)
	}
	if seals&sealed != sealed {
		return nil, nil, fmt.Errorf("%w: its memfd is not sealed against change (seals %#x)", ErrImage, seals)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, nil, fmt.Errorf("fib: size of the image's memfd: %w", err)
	}
	if uint64(stat.Size) < headerSize {
		return nil, nil, fmt.Errorf("%w: %d bytes are too few for a header of %d", ErrImage, stat.Size, headerSize)
	}
	image, err := unix.Mmap(fd, 0, int(stat.Size), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, nil, fmt.Errorf("fib: map the image of %d bytes: %w", stat.Size, err)
	}
	unmap = func() error { return unix.Munmap(image) }
	s, err = Open(image)
	if err != nil {
		if e := unmap(); e != nil {
			return nil, nil, fmt.Errorf("%w; and unmapping it: %w", err, e)
		}
		return nil, nil, err
	}
	return s, unmap, nil
}
