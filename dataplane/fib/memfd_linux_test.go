package fib

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMemfd(t *testing.T) {
	before := openDescriptors(t)
	b := small()
	image := encode(t, b)
	for name, write := range map[string]func() (int, error){
		"WriteMemfd": func() (int, error) { return WriteMemfd(image) },
		"Images": func() (int, error) {
			m, err := NewImages(b, 42)
			if err != nil {
				return -1, err
			}
			fd, err := unix.FcntlInt(uintptr(m.FD()), unix.F_DUPFD_CLOEXEC, 0)
			return fd, errors.Join(err, m.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			fd, err := write()
			if err != nil {
				t.Fatal(err)
			}
			s, unmap, err := Map(fd)
			if err != nil {
				t.Fatal(err)
			}
			// Nobody can change it now, through this descriptor or a mapping.
			if _, err := unix.Pwrite(fd, []byte{1}, 0); !errors.Is(err, unix.EPERM) {
				t.Errorf("writing to a sealed image: %v", err)
			}
			if err := unix.Ftruncate(fd, 1); !errors.Is(err, unix.EPERM) {
				t.Errorf("shrinking a sealed image: %v", err)
			}
			if err := unix.Ftruncate(fd, 1<<20); !errors.Is(err, unix.EPERM) {
				t.Errorf("growing a sealed image: %v", err)
			}
			if m, err := unix.Mmap(fd, 0, 4096, unix.PROT_WRITE, unix.MAP_SHARED); !errors.Is(err, unix.EPERM) {
				t.Errorf("mapping a sealed image for writing: %v, %d bytes", err, len(m))
			}
			var content [4096]byte
			if n, err := unix.Pread(fd, content[:], 0); err != nil || !slices.Equal(content[:n], image[:n]) {
				t.Errorf("reading the image back: %d bytes, %v", n, err)
			}
			// The mapping outlives the descriptor.
			if err := unix.Close(fd); err != nil {
				t.Fatal(err)
			}
			if s.Generation() != 42 || s.Name(s.Service(3, 6, 80).Name) != "http" {
				t.Errorf("generation is %d", s.Generation())
			}
			exercise(s, rand.New(rand.NewPCG(1, 1)))
			name := s.Name(s.Service(3, 6, 80).Name)
			if err := unmap(); err != nil {
				t.Fatal(err)
			}
			if name != "http" {
				t.Errorf("a name read before unmapping is %q", name)
			}
		})
	}
	if after := openDescriptors(t); after != before {
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
}

func TestMapRefuses(t *testing.T) {
	before := openDescriptors(t)
	unsealed, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(unsealed, encode(t, small())); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Map(unsealed); err == nil || err.Error() != "fib: not a usable image: its memfd is not sealed against change (seals 0x0)" {
		t.Errorf("unsealed: error is %v", err)
	}
	unix.Close(unsealed)

	short, err := WriteMemfd(make([]byte, 100))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Map(short); err == nil || err.Error() != "fib: not a usable image: 100 bytes are too few for a header of 296" {
		t.Errorf("short: error is %v", err)
	}
	unix.Close(short)

	wrong, err := WriteMemfd(make([]byte, 5000))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Map(wrong); err == nil || err.Error() != "fib: not a usable image: it begins with 0x0 and not with 0x4649424c52414946" {
		t.Errorf("wrong: error is %v", err)
	}
	unix.Close(wrong)

	if _, _, err := Map(-1); !errors.Is(err, unix.EBADF) {
		t.Errorf("no descriptor: error is %v", err)
	}
	bad := small()
	bad.Backends[0].Pool = 7
	if m, err := NewImages(bad, 1); m != nil || !errors.Is(err, ErrImage) {
		t.Errorf("a bad builder gives images %v and error %v", m, err)
	}
	if after := openDescriptors(t); after != before {
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
}
