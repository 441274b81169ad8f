package xdp_test

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead/xdp"
)

func TestUMEMRefusesImpossibleShapes(t *testing.T) {
	for _, c := range []struct {
		cfg  xdp.UMEMConfig
		want string
	}{
		{xdp.UMEMConfig{ChunkSize: 1024}, "umem: chunk size 1024: must be a power of two from 2048 to 4096"},
		{xdp.UMEMConfig{ChunkSize: 8192}, "umem: chunk size 8192: must be a power of two from 2048 to 4096"},
		{xdp.UMEMConfig{ChunkSize: 3000}, "umem: chunk size 3000: must be a power of two from 2048 to 4096"},
		{xdp.UMEMConfig{Headroom: 128}, "umem: headroom 128: must be from 256 to 1024, which leaves 1024 bytes of a chunk"},
		{xdp.UMEMConfig{Headroom: 1025}, "umem: headroom 1025: must be from 256 to 1024, which leaves 1024 bytes of a chunk"},
		{xdp.UMEMConfig{ChunkSize: 4096, Headroom: 3073}, "umem: headroom 3073: must be from 256 to 3072, which leaves 1024 bytes of a chunk"},
		{xdp.UMEMConfig{Chunks: -1}, "umem: -1 chunks: must be from 1 to 16777216"},
		{xdp.UMEMConfig{Chunks: 1 << 25}, "umem: 33554432 chunks: must be from 1 to 16777216"},
		{xdp.UMEMConfig{Chunks: 7}, "umem: 7 chunks of 2048 bytes are not a whole number of 4096-byte pages"},
	} {
		_, err := xdp.NewUMEM(c.cfg)
		wantError(t, err, c.want)
		_, err = xdp.MapUMEM(duplicate(t, 0), c.cfg)
		wantError(t, err, c.want)
	}
}

func TestUMEMDefaults(t *testing.T) {
	u := newUMEM(t, xdp.UMEMConfig{})
	want := xdp.UMEMConfig{Chunks: 8192, ChunkSize: 2048, Headroom: 256}
	if u.Config() != want || u.Note() != "" || len(u.Frames()) != 8192*2048 || u.Config().MaxFrame() != 1792 {
		t.Errorf("%+v, note %q, %d bytes", u.Config(), u.Note(), len(u.Frames()))
	}
	// Not one byte of it may be cut off under a worker's feet.
	if err := unix.Ftruncate(u.FD(), 4096); err != unix.EPERM {
		t.Errorf("shrink: %v, want %v", err, unix.EPERM)
	}
}

func TestMapUMEMSharesMemory(t *testing.T) {
	u := newUMEM(t, xdp.UMEMConfig{Chunks: 64})
	m, err := xdp.MapUMEM(duplicate(t, u.FD()), u.Config())
	if err != nil {
		t.Fatal(err)
	}
	u.Frames()[4711] = 42
	u.Custody().Holders()[7] = xdp.HeldForSend(3)
	if m.Frames()[4711] != 42 || m.Custody().Holders()[7] != xdp.HeldForSend(3) {
		t.Error("the mappings differ")
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if err := m.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	_, err = xdp.MapUMEM(duplicate(t, u.FD()), xdp.UMEMConfig{Chunks: 128})
	wantError(t, err, "umem: memory has 135168 bytes, 128 chunks of 2048 bytes take 266240")
}

func TestHolderNames(t *testing.T) {
	for _, c := range []struct {
		h    xdp.Holder
		want string
		own  string
	}{
		{xdp.HeldByWorker, "worker", "free"},
		{xdp.HeldForReceive(0), "port 0 receive", "fill"},
		{xdp.HeldForSend(0), "port 0 send", "tx"},
		{xdp.HeldForReceive(15), "port 15 receive", "fill"},
		{xdp.HeldForSend(15), "port 15 send", "tx"},
	} {
		if c.h.String() != c.want || c.h.Owner().String() != c.own {
			t.Errorf("%d is %q, owner %q; want %q, %q", uint8(c.h), c.h, c.h.Owner(), c.want, c.own)
		}
	}
}

// TestHugePages reserves huge pages for itself, and takes them away again to
// see the fallback.
func TestHugePages(t *testing.T) {
	const file = "/proc/sys/vm/nr_hugepages"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	reserve := func(n int) {
		t.Helper()
		if err := os.WriteFile(file, []byte(strconv.Itoa(n)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	defer reserve(before)

	cfg := xdp.UMEMConfig{Chunks: 2048, HugePages: true} // 4 MiB, and a third page for the table
	reserve(before + 3)
	u := newUMEM(t, cfg)
	if !u.Config().HugePages || u.Note() != "" {
		t.Errorf("no huge pages: %s", u.Note())
	}
	m, err := xdp.MapUMEM(duplicate(t, u.FD()), u.Config())
	if err != nil {
		t.Fatal(err)
	}
	u.Frames()[0] = 42
	if m.Frames()[0] != 42 {
		t.Error("the mappings differ")
	}
	m.Close()
	u.Close()

	reserve(0)
	u = newUMEM(t, cfg)
	if u.Config().HugePages {
		t.Error("huge pages from nowhere")
	}
	if want := "no huge pages, ordinary ones are used (umem: map 6291456 bytes: cannot allocate memory): reserve 3 with vm.nr_hugepages"; u.Note() != want {
		t.Errorf("note %q\nwant %q", u.Note(), want)
	}
}
