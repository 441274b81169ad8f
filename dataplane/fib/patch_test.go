package fib

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// spare is room for a few more of everything.
var spare = Spare{Pools: 3, Members: 20, Tables: 60, Backends: 10, NextHops: 4, Names: 50}

// images makes the two images of a builder.
func images(t testing.TB, b *Builder) *Images {
	t.Helper()
	b.Spare = spare
	m, err := NewImages(b, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	if err := m.Double(); err != nil {
		t.Fatal(err)
	}
	return m
}

// reader is the other side of Images: what the data process has.
type reader struct {
	mapped  [2]*Mapped
	force   int
	current *Snapshot
}

func newReader(t testing.TB, m *Images) *reader {
	t.Helper()
	r := &reader{}
	for i, fd := range []int{m.FD(), m.RestingFD()} {
		var err error
		if r.mapped[i], err = MapImage(fd); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.mapped[i].Close() })
		s, err := r.mapped[i].Open()
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			r.current = s
		}
	}
	return r
}

// follow takes a patch over, or not.
func (r *reader) follow(written []Range) error {
	s, err := r.mapped[1-r.force].Patched(r.current, written)
	if err == nil {
		r.force, r.current = 1-r.force, s
	}
	return err
}

// randomPatch writes a few records over those of an image, or after them:
// mostly right ones, with fields that may be wrong.
func randomPatch(r *rand.Rand, s *Snapshot) *Patch {
	p := &Patch{}
	index := func(n, spare int) uint32 { return uint32(r.IntN(n + 1 + r.IntN(spare))) }
	odd := func(right, most uint32) uint32 {
		if r.IntN(40) == 0 {
			return r.Uint32N(most + 2)
		}
		return right
	}
	for range 1 + r.IntN(3) {
		switch r.IntN(8) {
		case 0: // a pool gets other members and a table, as a compiler does it
			i := r.IntN(len(s.pools))
			pool := s.pools[i]
			var slots []uint32
			for range r.IntN(4) {
				slot := index(len(s.backends), 4)
				slots = append(slots, slot)
				p.SetBackend(slot, Backend{ID: MakeID(odd(slot, 20), uint8(odd(1, 1))), Pool: odd(uint32(i), 6), NextHop: odd(0, 3)})
			}
			pool.Members, pool.MemberCount = uint32(len(s.members)), uint32(len(slots))
			p.SetMembers(pool.Members, slots)
			pool.TableSize = 0
			if len(slots) > 0 {
				entries := make([]uint16, 1+r.IntN(6))
				for e := range entries {
					entries[e] = uint16(odd(r.Uint32N(pool.MemberCount), 4))
				}
				pool.Table, pool.TableSize = odd(uint32(len(s.tables)), 50), uint32(len(entries))
				p.SetTable(pool.Table, entries)
			}
			for _, slot := range s.Members(&s.pools[i]) {
				if r.IntN(8) > 0 && !slices.Contains(slots, slot) {
					p.SetBackend(slot, Backend{})
				}
			}
			p.SetPool(uint32(i), pool)
		case 1: // two pools share a table
			i, j := r.IntN(len(s.pools)), r.IntN(len(s.pools))
			pool := s.pools[i]
			pool.Table, pool.TableSize = s.pools[j].Table, odd(s.pools[j].TableSize, 20)
			p.SetPool(uint32(i), pool)
		case 2:
			p.SetPool(index(len(s.pools), 3), Pool{})
		case 3:
			p.SetNextHop(index(len(s.nextHops), 3), NextHop{Port: uint16(odd(0, 3)), MTU: 9})
		case 4:
			name := []byte("name")[:r.IntN(5)]
			at := index(len(s.names), 3)
			p.SetName(at, string(name))
			if slot := r.IntN(len(s.backends) + 1); slot < len(s.backends) {
				b := s.backends[slot]
				b.Name = NameRef{at, odd(uint32(len(name)), 200)}
				p.SetBackend(uint32(slot), b)
			}
		case 5:
			p.SetInterface(0, Interface{Gateway: odd(NoIndex, 4), MTU: r.Uint32N(9)})
		case 6:
			p.SetTable(index(len(s.tables), 5), []uint16{uint16(odd(0, 5))})
		case 7:
			if slot := r.IntN(len(s.backends) + 1); slot < len(s.backends) {
				b := s.backends[slot]
				b.Flags, b.Weight = uint8(r.IntN(4)), r.Uint32N(5)
				b.Pool = odd(b.Pool, 4)
				p.SetBackend(uint32(slot), b)
			}
		}
	}
	return p
}

// sections are the bytes of all sections of an image: spare room does not count.
func sections(image []byte) (out []byte) {
	h := headerAt(image)
	for i, e := range h.Section {
		out = append(out, image[e.Offset:e.Offset+e.Count*sectionInfo[i].size]...)
	}
	return out
}

// TestPatchedAgreesWithOpen applies thousands of random patches, right and
// wrong ones: looking at what was written accepts and refuses what looking at
// everything does, what is accepted can be looked up in, and what is refused
// leaves both images as they were, here and for a reader that missed none, one
// that joins late, and one that refuses by itself.
func TestPatchedAgreesWithOpen(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 2))
	taken, refused, full := 0, 0, 0
	for range 300 {
		m := images(t, random(r, 1+r.IntN(4)))
		read := newReader(t, m)
		for generation := uint64(2); generation < 100; generation++ {
			p := randomPatch(r, m.Snapshot())
			before := bytes.Clone(m.images[m.force].memory)

			// The slow way: a copy, patched and opened as a whole.
			slow := alignedBytes(uint64(len(before)))
			copy(slow, before)
			var slowErr error
			if p.fits(headerAt(slow)) == nil {
				p.write(slow, generation)
				_, slowErr = Open(slow)
			} else {
				slowErr = ErrNoRoom
			}

			written, err := m.Patch(p, generation)
			if (err == nil) != (slowErr == nil) || errors.Is(err, ErrNoRoom) != errors.Is(slowErr, ErrNoRoom) || errors.Is(err, ErrImage) != errors.Is(slowErr, ErrImage) {
				t.Fatalf("patched: %v; opened as a whole: %v", err, slowErr)
			}
			if !bytes.Equal(before, m.images[m.force].memory) {
				t.Fatal("the image in force has changed")
			}
			if errors.Is(err, ErrNoRoom) {
				full++
				break
			}
			if err != nil {
				refused++
				if rest := m.resting().memory; !bytes.Equal(sections(before), sections(rest)) {
					t.Fatalf("after %v the resting image is another", err)
				}
				continue
			}
			if !bytes.Equal(sections(slow), sections(m.resting().memory)) {
				t.Fatal("the candidate is not what it is to be")
			}
			if r.IntN(10) == 0 {
				read = newReader(t, m) // the data process is a new one; it has both images, also the candidate
				m.Abandon()
				if !bytes.Equal(sections(before), sections(m.resting().memory)) {
					t.Fatal("an abandoned patch leaves traces")
				}
				continue
			}
			if err := read.follow(written); err != nil {
				t.Fatalf("the reader refuses: %v", err)
			}
			if !m.Commit() || m.Commit() {
				t.Fatal("a candidate is committed once")
			}
			taken++
			if s := m.Snapshot(); s.Generation() != generation || read.current.Generation() != generation {
				t.Fatalf("generations %d and %d, want %d", s.Generation(), read.current.Generation(), generation)
			}
			exercise(read.current, r)
		}
	}
	t.Logf("%d patches were taken, %d refused, %d images were full", taken, refused, full)
	if taken < 300 || refused < 100 || full < 10 {
		t.Error("the patches do not reach everything")
	}
}

// FuzzPatched compares the verdict on a patch of arbitrary bytes over arbitrary
// records with that of Open.
func FuzzPatched(f *testing.F) {
	f.Add(uint64(1), []byte{0, 0, 0, 0, 0})
	f.Add(uint64(2), []byte{1, 0, 0, 4, 1, 2, 0, 1, 0, 9})
	f.Fuzz(func(t *testing.T, seed uint64, changes []byte) {
		r := rand.New(rand.NewPCG(seed, 0))
		b := random(r, 1+int(seed%4))
		b.Spare = spare
		plan, err := b.plan(true)
		if err != nil {
			t.Fatal(err)
		}
		image := alignedBytes(plan.size)
		if _, err := plan.write(image, 1); err != nil {
			t.Fatal(err)
		}
		old := alignedBytes(plan.size)
		copy(old, image)
		before, err := Open(old)
		if err != nil {
			t.Fatal(err)
		}
		p := randomPatch(r, before)
		for ; len(changes) >= 5; changes = changes[5:] {
			s := []section{secPools, secMembers, secTables, secBackends, secNextHops, secInterfaces}[changes[0]%6]
			first := uint32(changes[1])
			record := make([]byte, sectionInfo[s].size)
			if e := headerAt(image).Section[s]; uint64(first) < e.Count {
				copy(record, image[e.Offset+uint64(first)*sectionInfo[s].size:])
			}
			record[int(changes[2])%len(record)] = changes[3]
			p.writes = append(p.writes, patchWrite{s, first, 1, record})
		}
		if p.fits(headerAt(image)) != nil {
			return
		}
		written := p.write(image, 2)
		_, slow := Open(image)
		s, err := OpenPatched(image, before, written)
		if (err == nil) != (slow == nil) {
			t.Fatalf("patched: %v; opened as a whole: %v", err, slow)
		}
		if err == nil {
			exercise(s, r)
		}
	})
}

// TestPatchRefuses: what a patch may not do to an image, and what it is said
// to have written.
func TestPatchRefuses(t *testing.T) {
	base := func() ([]byte, *Snapshot) {
		image := encode(t, small())
		return image, openImage(t, slices.Clone(image))
	}
	for _, c := range []struct {
		name    string
		harm    func(image []byte)
		written []Range
		want    string
	}{
		{"shorter", func(b []byte) { headerOf(b).Section[secBackends].Count--; seal(b) }, nil, "a patch takes section backends from 4 to 3 records"},
		{"longer", func(b []byte) { headerOf(b).Section[secTimeouts].Count++; seal(b) }, nil, "a patch brings section timeouts from 1 to 2 records"},
		{"moved", func(b []byte) { headerOf(b).Section[secNames].Offset += 64; seal(b) }, nil, "section names with "},
		{"another section", func([]byte) {}, []Range{{uint32(secServices), 0, 1}}, "a patch writes to section 3, which is never patched"},
		{"no section", func([]byte) {}, []Range{{99, 0, 1}}, "a patch writes to section 99, which is never patched"},
		{"member gone", func(b []byte) { sectionOf[Backend](b, secBackends)[2] = Backend{} }, []Range{{uint32(secBackends), 2, 1}}, "pool 0 has backend slot 2, which is unused"},
		{"member of another", func(b []byte) { sectionOf[Backend](b, secBackends)[3].Pool = 0 }, []Range{{uint32(secBackends), 3, 1}}, "pool 1 has backend slot 3, which belongs to pool 0"},
		{"table", func(b []byte) { sectionOf[uint16](b, secTables)[6] = 1 }, []Range{{uint32(secTables), 6, 1}}, "slot 1 of the table of pool 1 has member 1 of 1"},
		{"base", func(b []byte) {
			p := &sectionOf[Pool](b, secPools)[1]
			p.Base, p.BaseSize = 0, 5
		}, []Range{{uint32(secPools), 1, 1}}, "slot 1 of the base of pool 1 has member 1 of 1"},
		{"base overlaps", func(b []byte) {
			p := &sectionOf[Pool](b, secPools)[1]
			p.Base, p.BaseSize = 2, 1 // a member of pool 1, whose table has 0 there
		}, []Range{{uint32(secPools), 1, 1}}, "the tables of pools 1 and 0 overlap"},
		{"overlap", func(b []byte) { sectionOf[Pool](b, secPools)[1].Table = 2; sectionOf[uint16](b, secTables)[3] = 0 }, []Range{{uint32(secPools), 1, 1}}, "the tables of pools 1 and 0 overlap"},
	} {
		t.Run(c.name, func(t *testing.T) {
			image, before := base()
			c.harm(image)
			_, err := OpenPatched(image, before, c.written)
			if want := "fib: not a usable image: " + c.want; err == nil || !bytes.HasPrefix([]byte(err.Error()), []byte(want)) {
				t.Errorf("error is %v, want %s", err, want)
			}
		})
	}
}

func TestPatchWithoutRoom(t *testing.T) {
	m := images(t, small())
	p := &Patch{}
	p.SetBackend(100, Backend{})
	// 14 are asked for; the section ends where the next can begin.
	if _, err := m.Patch(p, 2); !errors.Is(err, ErrNoRoom) || err.Error() != "fib: no room in the image: 101 backends, there is room for 14" {
		t.Errorf("error is %v", err)
	}
	p = &Patch{}
	p.SetInterface(2, Interface{Gateway: NoIndex})
	if _, err := m.Patch(p, 2); err == nil || err.Error() != "fib: no room in the image: 3 interfaces, there is room for 2" {
		t.Errorf("error is %v", err)
	}
	b := small()
	single, err := NewImages(b, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer single.Close()
	if _, err := single.Patch(&Patch{}, 2); err == nil || err.Error() != "fib: no room in the image: there is no second one" {
		t.Errorf("error is %v", err)
	}
}

// TestImagesAreSealed: nobody but the writer can change them, and nothing is
// left behind.
func TestImagesAreSealed(t *testing.T) {
	before := openDescriptors(t)
	b := small()
	b.Spare = spare
	m, err := NewImages(b, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Double(); err != nil {
		t.Fatal(err)
	}
	for _, fd := range []int{m.FD(), m.RestingFD()} {
		if _, err := unix.Pwrite(fd, []byte{1}, 0); !errors.Is(err, unix.EPERM) {
			t.Errorf("writing: %v", err)
		}
		if _, err := unix.Mmap(fd, 0, 4096, unix.PROT_WRITE, unix.MAP_SHARED); !errors.Is(err, unix.EPERM) {
			t.Errorf("mapping for writing: %v", err)
		}
		if err := unix.Ftruncate(fd, 1); !errors.Is(err, unix.EPERM) {
			t.Errorf("shrinking: %v", err)
		}
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if after := openDescriptors(t); after != before {
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
}
