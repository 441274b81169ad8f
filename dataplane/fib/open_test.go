package fib

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"fairlead/dataplane/packet"
)

// headerOf is the header of an image, to be changed in place.
func headerOf(image []byte) *header { return (*header)(unsafe.Pointer(&image[0])) }

// section lays records over a section of an image, to be changed in place.
func sectionOf[T any](image []byte, s section) []T {
	return records[T](image, headerOf(image).Section[s])
}

// seal makes the header's checksum right again.
func seal(image []byte) { headerOf(image).Checksum = headerOf(image).checksum() }

func TestOpenRefusesHeaders(t *testing.T) {
	for _, c := range []struct {
		name string
		harm func(image []byte) []byte
		want string
	}{
		{"nothing", func([]byte) []byte { return nil }, "0 bytes are too few for a header of 296"},
		{"short", func(b []byte) []byte { return b[:295] }, "295 bytes are too few for a header of 296"},
		{"unaligned", func(b []byte) []byte {
			moved := alignedBytes(uint64(len(b)) + 8)[4:]
			copy(moved, b)
			return moved
		}, "its memory is not 8-byte aligned"},
		{"magic", func(b []byte) []byte { headerOf(b).Magic = 1; return b }, "it begins with 0x1 and not with 0x4649424c52414946"},
		{"version", func(b []byte) []byte { headerOf(b).Version = 9; return b }, "its layout version is 9, this program's 3"},
		{"sections", func(b []byte) []byte { headerOf(b).Sections = 15; return b }, "it has 15 sections and not 16"},
		{"checksum", func(b []byte) []byte { headerOf(b).Checksum = 7; headerOf(b).Generation = 42; return b }, "its header has checksum 0x"},
		{"cut off", func(b []byte) []byte { return b[:len(b)-1] }, "it is cut off: "},
		{"offset", func(b []byte) []byte { headerOf(b).Section[secPools].Offset++; seal(b); return b }, "section pools begins at 1089, not a multiple of 64"},
		{"count", func(b []byte) []byte { headerOf(b).Section[secSettings].Count = 2; seal(b); return b }, "section settings has 2 records, at most 1 are allowed"},
		{"overlap", func(b []byte) []byte {
			headerOf(b).Section[secLocals].Offset = headerOf(b).Section[secSettings].Offset
			seal(b)
			return b
		}, "section locals begins at 320, inside what comes before it"},
		{"in header", func(b []byte) []byte { headerOf(b).Section[secSettings].Offset = 0; seal(b); return b }, "section settings begins at 0, inside what comes before it"},
		{"beyond", func(b []byte) []byte { headerOf(b).Section[secNames].Count = 1 << 20; seal(b); return b }, "section names with 1048576 records at "},
		{"far beyond", func(b []byte) []byte { headerOf(b).Section[secNames].Offset = 1 << 63; seal(b); return b }, "section names with 44 records at 9223372036854775808 does not fit the image of "},
		{"no settings", func(b []byte) []byte { headerOf(b).Section[secSettings].Count = 0; seal(b); return b }, "it has no settings"},
	} {
		t.Run(c.name, func(t *testing.T) {
			image := c.harm(encode(t, small()))
			_, err := Open(image)
			if !errors.Is(err, ErrImage) {
				t.Fatalf("error is %v", err)
			}
			if want := "fib: not a usable image: " + c.want; !strings.HasPrefix(err.Error(), want) {
				t.Errorf("error is %s, want %s", err, want)
			}
		})
	}
}

// TestOpenRefusesRecords breaks one reference at a time.
func TestOpenRefusesRecords(t *testing.T) {
	for _, c := range []struct {
		harm func(image []byte)
		want string
	}{
		{func(b []byte) { sectionOf[Interface](b, secInterfaces)[0].Gateway = 2 }, "interface 0 has next hop 2 of 2 as its gateway"},
		{func(b []byte) { sectionOf[Interface](b, secInterfaces)[1].Name.Length = 1000 }, "the name of interface 1 lies outside the names"},
		{func(b []byte) { sectionOf[Interface](b, secInterfaces)[1].Name.Offset = NoIndex }, "the name of interface 1 lies outside the names"},
		{func(b []byte) { sectionOf[NextHop](b, secNextHops)[1].Port = 2 }, "next hop 1 is at interface 2 of 2"},
		{func(b []byte) { findIn(b, "198.18.0.10").Kind = 0 }, "local 198.18.0.10 is of unknown kind 0"},
		{func(b []byte) { findIn(b, "198.18.0.10").Kind = 4 }, "local 198.18.0.10 is of unknown kind 4"},
		{func(b []byte) { findIn(b, "198.18.0.10").ID = 4 }, "local 198.18.0.10 is not found by its ID 4"},
		{func(b []byte) { findIn(b, "198.18.0.10").ID = 999 }, "local 198.18.0.10 is not found by its ID 999"},
		{func(b []byte) { findIn(b, "198.18.0.10").SNAT = 0 }, "local 198.18.0.10 is no SNAT address and refers to one"},
		{func(b []byte) { findIn(b, "198.18.0.200").SNAT = 2 }, "local 198.18.0.200 is SNAT address 2 of 2"},
		{func(b []byte) { findIn(b, "198.18.0.200").SNAT = 0 }, "local 198.18.0.200 is SNAT address 0, which belongs to local 0"},
		{func(b []byte) {
			// To where its home is one place behind it.
			locals := sectionOf[Local](b, secLocals)
			at := slices.IndexFunc(locals, func(l Local) bool { return l.ID == 3 })
			for localHash(locals[at].Addr)&7 != uint64(at+1)&7 {
				locals[at].Addr.Lo++
			}
		}, "local 198.18.0.13 is not found by its address"},
		{func(b []byte) { sectionOf[uint32](b, secLocalIDs)[2] = 0 }, "local ID 2 leads to another local"},
		{func(b []byte) { sectionOf[uint32](b, secLocalIDs)[2] = 8 }, "local ID 2 leads to another local"},
		{func(b []byte) {
			headerOf(b).Section[secLocalIDs].Count = 16 // there is room up to the next section
			seal(b)
			ids, next := sectionOf[uint32](b, secLocalIDs), uint16(8)
			for i := 8; i < 16; i++ {
				ids[i] = NoIndex
			}
			locals := sectionOf[Local](b, secLocals)
			for i := range locals {
				if locals[i].ID == 0 {
					locals[i] = Local{Addr: packet.Addr{Hi: 1, Lo: uint64(i)}, ID: next, Kind: LocalVIP, SNAT: NoIndex}
					ids[next] = uint32(i)
					next++
				}
			}
		}, "the table of locals is full"},
		{func(b []byte) { headerOf(b).Section[secLocals].Count = 7; seal(b) }, "the table of locals has 7 entries, not a power of two"},
		{func(b []byte) { headerOf(b).Section[secLocals].Count = 0; seal(b) }, "the table of locals has 0 entries, not a power of two"},
		{func(b []byte) { sectionOf[SNAT](b, secSNATs)[1].Local = 3 }, "local 198.18.0.200 is SNAT address 1, which belongs to local 3"},
		{func(b []byte) { sectionOf[SNAT](b, secSNATs)[0].Local = 3 }, "SNAT address 0 belongs to local 3, which is not its own"},
		{func(b []byte) { sectionOf[SNAT](b, secSNATs)[0].Local = 7 }, "SNAT address 0 belongs to local 7, which is not its own"},
		{func(b []byte) { sectionOf[SNAT](b, secSNATs)[1].Addr = ip("198.18.0.201") }, "SNAT address 1 is 198.18.0.201, its local 198.18.0.200"},
		{func(b []byte) { sectionOf[SNAT](b, secSNATs)[1].PortFirst = 0 }, "SNAT address 198.18.0.200 has ports 0 to 65535"},
		{func(b []byte) { sectionOf[SNAT](b, secSNATs)[1].PortLast = 1023 }, "SNAT address 198.18.0.200 has ports 1024 to 1023"},
		{func(b []byte) { sectionOf[Pool](b, secPools)[2].Name.Offset = 1000 }, "the name of pool 2 lies outside the names"},
		{func(b []byte) { sectionOf[Pool](b, secPools)[2].MemberCount = 65536 }, "pool 2 has 65536 members"},
		{func(b []byte) { sectionOf[Pool](b, secPools)[1].Members = 3 }, "the members of pool 1 lie outside the section"},
		{func(b []byte) { sectionOf[Pool](b, secPools)[1].TableSize = 3 }, "the table of pool 1 lies outside the section"},
		{func(b []byte) { sectionOf[Pool](b, secPools)[2].Table = NoIndex }, "the table of pool 2 lies outside the section"},
		{func(b []byte) { sectionOf[uint32](b, secMembers)[1] = 4 }, "pool 0 has backend slot 4, which is unused"},
		{func(b []byte) { sectionOf[uint32](b, secMembers)[1] = 1 }, "pool 0 has backend slot 1, which is unused"},
		{func(b []byte) { sectionOf[uint32](b, secMembers)[1] = 3 }, "pool 0 has backend slot 3, which belongs to pool 1"},
		{func(b []byte) { sectionOf[Pool](b, secPools)[1].Table = 4 }, "the tables of pools 0 and 1 overlap"},
		{func(b []byte) {
			p := &sectionOf[Pool](b, secPools)[2]
			p.Base, p.BaseSize = 5, 3
		}, "the base of pool 2 lies outside the section"},
		{func(b []byte) {
			p := &sectionOf[Pool](b, secPools)[1]
			p.Base, p.BaseSize = 1, 3
		}, "the tables of pools 0 and 1 overlap"},
		{func(b []byte) {
			p := &sectionOf[Pool](b, secPools)[1]
			p.Base, p.BaseSize = 0, 5
		}, "slot 1 of the base of pool 1 has member 1 of 1"},
		{func(b []byte) {
			sectionOf[uint16](b, secTables)[5] = NoMember - 1
			p := &sectionOf[Pool](b, secPools)[1]
			p.Base, p.BaseSize = 5, 2
		}, "slot 0 of the table of pool 1 has member 65534 of 1"},
		{func(b []byte) { sectionOf[uint16](b, secTables)[3] = 2 }, "slot 3 of the table of pool 0 has member 2 of 2"},
		{func(b []byte) {
			p := sectionOf[Pool](b, secPools)
			p[1].Table, p[1].TableSize = p[0].Table, p[0].TableSize
		}, "slot 1 of the table of pool 1 has member 1 of 1"},
		{func(b []byte) { sectionOf[Backend](b, secBackends)[2].ID = MakeID(1, 1) }, "backend slot 2 has ID 0x1000001"},
		{func(b []byte) { sectionOf[Backend](b, secBackends)[2].ID = 2 }, "backend slot 2 has ID 0x2"},
		{func(b []byte) { sectionOf[Backend](b, secBackends)[2].NextHop = 2 }, "backend slot 2 has next hop 2 of 2"},
		{func(b []byte) { sectionOf[Backend](b, secBackends)[1] = Backend{ID: MakeID(1, 1), Pool: 3} }, "backend slot 1 belongs to pool 3 of 3"},
		{func(b []byte) { sectionOf[Backend](b, secBackends)[2].Name.Length = 99 }, "the name of backend slot 2 lies outside the names"},
		{func(b []byte) { sectionOf[Service](b, secServices)[1].ID = MakeID(2, 1) }, "service slot 1 has ID 0x1000002"},
		{func(b []byte) { sectionOf[Service](b, secServices)[1].Pool = 3 }, "service slot 1 has pool 3 of 3"},
		{func(b []byte) { sectionOf[Service](b, secServices)[1].Local = 2 }, "service slot 1 is at local 2, which is no VIP"},
		{func(b []byte) { sectionOf[Service](b, secServices)[1].Local = 7 }, "service slot 1 is at local 7, which is no VIP"},
		{func(b []byte) { sectionOf[Service](b, secServices)[1].PortLast = 79 }, "service slot 1 has ports 80 to 79"},
		{func(b []byte) { sectionOf[Service](b, secServices)[1].PortFirst = 0 }, "service slot 1 has ports 0 to 80"},
		{func(b []byte) { sectionOf[Service](b, secServices)[1].Method = 0 }, "service slot 1 has unknown method 0"},
		{func(b []byte) { sectionOf[Service](b, secServices)[1].Method = 5 }, "service slot 1 has unknown method 5"},
		{func(b []byte) { sectionOf[Service](b, secServices)[1].Gone = 3 }, "service slot 1 has unknown policy 3 for gone backends"},
		{func(b []byte) { sectionOf[Service](b, secServices)[1].Affinity = 2 }, "service slot 1 has a flag that is neither 0 nor 1"},
		{func(b []byte) { sectionOf[Service](b, secServices)[1].Timeouts = 1 }, "service slot 1 has timeouts 1 of 1"},
		{func(b []byte) { sectionOf[Service](b, secServices)[1].Ranges = 1 }, "the source ranges of service slot 1 lie outside the section"},
		{func(b []byte) { sectionOf[Service](b, secServices)[1].Name.Length = 99 }, "the name of service slot 1 lies outside the names"},
		{func(b []byte) { sectionOf[SourceRange](b, secSourceRanges)[1].Bits = 129 }, "the source ranges of service slot 1: a prefix has 129 bits"},
		{func(b []byte) { sectionOf[SourceRange](b, secSourceRanges)[1].Bits = 119 }, "the source ranges of service slot 1: 203.0.113.0/119 has bits set after its prefix"},
		{func(b []byte) { r := sectionOf[SourceRange](b, secSourceRanges); slices.Reverse(r) }, "the source ranges of service slot 1: they are not sorted and apart"},
		{func(b []byte) { sectionOf[uint64](b, secPorts)[portAt(b, 80)]++ }, "port 80 leads to service slot 2, which does not claim it"},
		{func(b []byte) { sectionOf[uint64](b, secPorts)[portAt(b, 80)] += 2 }, "port 80 leads to service slot 3, which is unused"},
		{func(b []byte) { sectionOf[uint64](b, secPorts)[portAt(b, 80)] += 4 }, "port 80 leads to service slot 5, which is unused"},
		{func(b []byte) { headerOf(b).Section[secPorts].Count = 3; seal(b) }, "the table of ports has 3 entries, not a power of two"},
		{func(b []byte) {
			ports := sectionOf[uint64](b, secPorts)
			entry := ports[portAt(b, 80)]
			for i := range ports {
				ports[i] = entry
			}
		}, "the table of ports is full"},
		{func(b []byte) {
			ports := sectionOf[uint64](b, secPorts)
			at := portAt(b, 80)
			ports[(at+4)%8], ports[at] = ports[at], 0
		}, "port 80 is not found where it is looked for"},
		{func(b []byte) { sectionOf[PortMatch](b, secRanges)[0].Service = 9 }, "port range 0 leads to service slot 9, which is unused"},
		{func(b []byte) { sectionOf[PortMatch](b, secRanges)[0].Service = 1 }, "port range 0 leads to service slot 1, which does not claim it"},
	} {
		t.Run(c.want, func(t *testing.T) {
			image := encode(t, small())
			c.harm(image)
			_, err := Open(image)
			if !errors.Is(err, ErrImage) {
				t.Fatalf("error is %v", err)
			}
			if want := "fib: not a usable image: " + c.want; err.Error() != want {
				t.Errorf("error is %s, want %s", err, want)
			}
		})
	}
}

func findIn(image []byte, a string) *Local {
	locals := sectionOf[Local](image, secLocals)
	return &locals[slices.IndexFunc(locals, func(l Local) bool { return l.ID != 0 && l.Addr == ip(a) })]
}

func portAt(image []byte, port uint16) int {
	return slices.IndexFunc(sectionOf[uint64](image, secPorts), func(e uint64) bool { return e != 0 && uint16(e>>SlotBits) == port })
}

func TestEncodeRefuses(t *testing.T) {
	for _, c := range []struct {
		harm func(b *Builder)
		want string
	}{
		{func(b *Builder) { b.Locals[0].ID = 0 }, "fib: local 198.18.0.10 has no ID"},
		{func(b *Builder) { b.Locals[1].Addr = b.Locals[0].Addr }, "fib: local 198.18.0.10 is there twice"},
		{func(b *Builder) { b.Matches[2].Service = 1 << SlotBits }, "fib: port match 2 is of service slot 16777216, beyond the last"},
		{func(b *Builder) { b.Matches[0].PortFirst = 0 }, "fib: port match 0 begins at port 0 and is no default"},
		{func(b *Builder) { b.Matches[0] = b.Matches[2]; b.Matches[0].Service = 2 }, "fib: services 2 and 1 claim one port 80 of local 3, protocol 6"},
		{func(b *Builder) {
			second := b.Matches[0]
			second.PortFirst, second.Service = 8005, 3
			b.Services[3] = b.Services[2]
			b.Services[3].ID, b.Services[3].PortFirst = MakeID(3, 1), 8005
			b.Matches = append(b.Matches, second)
		}, "fib: not a usable image: port range 1 is not sorted or overlaps the one before it"},
		{func(b *Builder) { b.Backends[0].Pool = 7 }, "fib: not a usable image: pool 0 has backend slot 0, which belongs to pool 7"},
	} {
		t.Run(c.want, func(t *testing.T) {
			b := small()
			c.harm(b)
			if _, err := b.Encode(1); err == nil || err.Error() != c.want {
				t.Errorf("error is %v, want %s", err, c.want)
			}
		})
	}
	b := small()
	b.Locals[1].ID = 3
	if _, err := b.Encode(1); err == nil || !strings.HasSuffix(err.Error(), "have one ID 3") {
		t.Errorf("error is %v", err)
	}
}

func TestEncodeTo(t *testing.T) {
	b := small()
	size, err := b.Size()
	if err != nil {
		t.Fatal(err)
	}
	want := encode(t, b)
	if size != len(want) || size != openImage(t, want).Size() {
		t.Errorf("size is %d, the image has %d bytes", size, len(want))
	}
	memory := alignedBytes(uint64(size) + 4096)
	n, err := b.EncodeTo(memory, 42)
	if err != nil || n != size || !slices.Equal(memory[:n], want) {
		t.Errorf("%d bytes, error %v, equal %v", n, err, slices.Equal(memory[:n], want))
	}
	if s := openImage(t, memory); s.Size() != size {
		t.Errorf("an image in longer memory has %d bytes, want %d", s.Size(), size)
	}
	if _, err := b.EncodeTo(memory[:size-1], 42); err == nil || !strings.HasPrefix(err.Error(), "fib: the image has ") {
		t.Errorf("error is %v", err)
	}
	if _, err := b.EncodeTo(memory[4:], 42); err == nil || err.Error() != "fib: the memory for the image is not 8-byte aligned" {
		t.Errorf("error is %v", err)
	}
}

func TestNamesAreKeptOnce(t *testing.T) {
	b := &Builder{}
	first, second := b.Name("one"), b.Name("two")
	if again := b.Name("one"); again != first || first == second || string(b.Names) != "onetwo" {
		t.Errorf("references are %v, %v, %v to %q", first, second, again, b.Names)
	}
	if empty := b.Name(""); empty.Length != 0 {
		t.Errorf("the empty name is %v", empty)
	}
}

// exercise looks everything up that a snapshot has, and some that it has not.
func exercise(s *Snapshot, r *rand.Rand) (sum uint64) {
	s.Locals(func(l *Local) bool {
		sum += uint64(s.Local(l.Addr).ID) + uint64(s.LocalByID(l.ID).Kind)
		if l.SNAT != NoIndex {
			sum += uint64(s.SNAT(l.SNAT).PortFirst)
		}
		for _, port := range []uint16{0, 1, 80, 8005, 65535, uint16(r.Uint32())} {
			for _, proto := range []uint8{0, 6, 17, 255} {
				if v := s.Service(l.ID, proto, port); v != nil {
					sum += uint64(v.ID)
				}
			}
		}
		return true
	})
	for i := range s.Services() {
		v := &s.Services()[i]
		if s.ServiceByID(v.ID) == nil {
			continue
		}
		sum += uint64(s.Timeouts(v.Timeouts).UDP) + uint64(len(s.Name(v.Name))) + uint64(s.LocalByID(v.Local).Kind)
		for range 4 {
			if s.Allowed(v, packet.Addr{Hi: r.Uint64(), Lo: r.Uint64()}) {
				sum++
			}
			p := s.Pool(v.Pool)
			if slot := s.Pick(p, r.Uint64()); slot != NoIndex {
				b := s.BackendByID(s.Backend(slot).ID)
				sum += uint64(b.Weight) + uint64(len(s.Name(b.Name)))
				if n := s.NextHop(b.NextHop); n != nil {
					sum += uint64(s.Interface(n.Port).MTU)
				}
			}
		}
	}
	for i := range s.Pools() {
		p := s.Pool(uint32(i))
		sum += uint64(len(s.Table(p))) + uint64(len(s.Members(p))) + uint64(len(s.Name(p.Name)))
		if slot := s.Pick(p, ^uint64(0)); slot != NoIndex {
			sum += uint64(s.Backend(slot).Port)
		}
	}
	for i := range s.Backends() {
		b := s.Backend(uint32(i))
		if s.BackendByID(b.ID) == b {
			sum += uint64(len(s.Name(b.Name))) + uint64(len(s.Name(s.Pool(b.Pool).Name)))
		}
	}
	for i := range s.Interfaces() {
		in := s.Interface(uint16(i))
		sum += uint64(len(s.Name(in.Name)))
		if n := s.NextHop(in.Gateway); n != nil {
			sum += uint64(n.MTU)
		}
	}
	return sum + s.FlowHash(packet.Addr{Hi: r.Uint64()}, packet.Addr{Lo: r.Uint64()}, 1, 2, 3)
}

// TestMutatedImages flips random bytes of valid images; what Open accepts can
// be looked up in without a panic.
func TestMutatedImages(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 42))
	accepted := 0
	for i := range 4000 {
		b := small()
		if i%2 == 1 {
			b = random(r, 1+r.IntN(6))
		}
		image := encode(t, b)
		for range 1 + r.IntN(3) {
			image[r.IntN(len(image))] = byte(r.Uint32() >> r.IntN(8))
		}
		h := headerOf(image)
		h.Magic, h.Version, h.Sections = magic, layoutVersion, uint32(sectionCount)
		seal(image)
		if s, err := Open(image); err == nil {
			accepted++
			exercise(s, r)
		}
	}
	if accepted < 100 {
		t.Errorf("only %d of 4000 changed images were accepted; the test does not reach the lookups", accepted)
	}
}

// FuzzOpen feeds arbitrary bytes, with the fields of the header made right
// that a fuzzer would not guess.
func FuzzOpen(f *testing.F) {
	f.Add(encode(f, small()))
	f.Add(encode(f, &Builder{}))
	for n := range 4 {
		f.Add(encode(f, random(rand.New(rand.NewPCG(uint64(n), 1)), n)))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		image := alignedBytes(max(uint64(len(in)), 8))[:len(in)]
		copy(image, in)
		if uint64(len(image)) >= headerSize {
			h := headerOf(image)
			h.Magic, h.Version, h.Sections = magic, layoutVersion, uint32(sectionCount)
			h.Size = min(h.Size, uint64(len(image)))
			seal(image)
		}
		s, err := Open(image)
		if err != nil {
			if !errors.Is(err, ErrImage) {
				t.Fatalf("error is %v", err)
			}
			return
		}
		exercise(s, rand.New(rand.NewPCG(1, 1)))
	})
}

// openDescriptors is how many descriptors this process has open.
func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join("/proc", "self", "fd"))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
