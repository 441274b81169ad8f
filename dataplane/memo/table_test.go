package memo

import (
	"math/rand/v2"
	"testing"
	"unsafe"

	"fairlead/dataplane/flow"
	"fairlead/dataplane/ledger"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

// table is a table with one valid route.
func table(t testing.TB, directions int) (*Table, Way) {
	t.Helper()
	m, err := NewPrivate(directions, 4, Seed{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	m.routes[0] = Route{State: 1, Last: 1, MTU: 1500, Op: L2, Flags: InKernel}
	m.fresh = 1
	return m, Way{0, 1}
}

func key(peer uint64, port uint16) Key {
	return MakeKey(packet.Addr{Lo: 0xffff<<32 | peer}, port, 80, 7, packet.ProtoTCP)
}

// TestLayout asserts what the XDP program's maps have been made for.
func TestLayout(t *testing.T) {
	if EntrySize != 64 || RouteSize != 128 || CountSize != 64 {
		t.Errorf("an entry takes %d bytes, a route %d, a count %d; want 64, 128, 64", EntrySize, RouteSize, CountSize)
	}
}

// TestHashSpreads fills a table to its measure with the keys of one client's
// ports, of many clients' one port, and of random ones: nearly all find a place,
// and most the first.
func TestHashSpreads(t *testing.T) {
	const n = 30_000
	random := rand.New(rand.NewPCG(1, 2))
	for name, make := range map[string]func(i int) Key{
		"ports of a client": func(i int) Key { return key(0xcb007101, uint16(i)) },
		"clients":           func(i int) Key { return key(0xc6120000+uint64(i), 1024) },
		"IPv6 networks": func(i int) Key {
			return MakeKey(packet.Addr{Hi: 0x20010db8_00000000 + uint64(i), Lo: 1}, 1024, 80, 7, packet.ProtoUDP)
		},
		"random": func(int) Key { return Key{random.Uint64(), random.Uint64(), random.Uint64() &^ 0xff} },
	} {
		m, way := table(t, n)
		*m.inUse = m.most
		placed, first := 0, 0
		for i := range n {
			k := make(i)
			h := m.Hash(&k)
			if m.Put(&k, h, way, &Grant{}, 1000, 2000) {
				placed++
				_, missed := m.First(&k, h)
				first += 1 - missed
			}
		}
		if placed < n*98/100 || first < n*70/100 {
			t.Errorf("%s: of %d, %d have a place, %d the first", name, n, placed, first)
		}
	}
}

// TestPutReadDrop walks a memo through its life.
func TestPutReadDrop(t *testing.T) {
	m, way := table(t, 100)
	k, other := key(1, 1), key(1, 2)
	h := m.Hash(&k)
	g := DirectGrant(77)
	var got Memo
	read := func(k *Key, now flow.Time) bool {
		at, ok := m.Locate(k, m.Hash(k))
		return ok && m.Read(at, k, now, &got)
	}
	if read(&k, 1000) {
		t.Fatal("an empty table has a memo")
	}
	if !m.Put(&k, h, way, &g, 1000, 2000) || !read(&k, 2000) || got.entropy != 77 || got.Route != &m.routes[0] {
		t.Fatalf("the memo reads %+v", got)
	}
	if read(&other, 1000) || read(&k, 2001) {
		t.Error("another key has the memo, or it outlives its lease")
	}
	if !m.Put(&k, h, way, &g, 2001, 3000) || !read(&k, 3000) {
		t.Error("a lease that is over cannot be renewed")
	}
	m.Renew(&k, 4000)
	if !read(&k, 4000) {
		t.Error("Renew does not renew")
	}
	m.routes[0].State = 0
	if read(&k, 3000) {
		t.Error("the memo outlives its route")
	}
	m.routes[0].State = 2
	if read(&k, 3000) {
		t.Error("the memo takes the next route at its route's place")
	}
	m.routes[0].State = 1
	m.Drop(&other)
	if !read(&k, 3000) {
		t.Error("another key's end ends the memo")
	}
	m.Drop(&k)
	if read(&k, 3000) {
		t.Error("the memo outlives its end")
	}
	// A lease that crosses the clock's wrap.
	late := ^flow.Time(0) - 10
	if !m.Put(&k, h, way, &g, late, late+100) || !read(&k, late+100) || read(&k, late+101) {
		t.Error("a lease is wrong where the clock wraps")
	}
}

// TestFullPlaces fills all four places of keys that collide: the fifth has no
// memo until a lease is over.
func TestFullPlaces(t *testing.T) {
	m, way := table(t, 1) // one set: everything collides
	if m.Len() != 2 {
		t.Fatalf("%d entries", m.Len())
	}
	for i := range uint16(2) {
		k := key(1, i)
		if !m.Put(&k, m.Hash(&k), way, &Grant{}, 1000, 2000+flow.Time(i)) {
			t.Fatalf("key %d has no place", i)
		}
	}
	k := key(1, 9)
	if m.Put(&k, m.Hash(&k), way, &Grant{}, 1000, 5000) {
		t.Error("a live memo was pushed out")
	}
	if !m.Put(&k, m.Hash(&k), way, &Grant{}, 2001, 5000) {
		t.Error("a memo whose lease is over keeps its place")
	}
}

// TestAbandonedEntry asserts that an entry whose writer died in the middle is no
// memo, and is given away after a while.
func TestAbandonedEntry(t *testing.T) {
	m, way := table(t, 1)
	for i := range m.entries {
		m.entries[i][wordControl] = 1000<<leaseAt | busy
	}
	k := key(1, 1)
	if m.Put(&k, m.Hash(&k), way, &Grant{}, 1500, 5000) {
		t.Error("an entry that is being written was taken")
	}
	if !m.Put(&k, m.Hash(&k), way, &Grant{}, 2001, 5000) {
		t.Error("an entry whose writer died is never given away")
	}
}

// kernelTable is a table as the XDP program has it, on two CPUs.
func kernelTable(t *testing.T, routes int) *Table {
	t.Helper()
	memory := func(size int) []byte {
		words := make([]uint64, size/8+8)
		at := (64 - uintptr(unsafe.Pointer(&words[0]))%64) % 64 / 8
		return unsafe.Slice((*byte)(unsafe.Pointer(&words[at])), size)
	}
	m, err := New(Config{Entries: memory(Bytes(16)), Routes: memory(routes * RouteSize), Counts: memory(2 * routes * CountSize)})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestPromotion asserts that the kernel gets a memo only after some packets went
// by it, that a renewal keeps it there, and that one the kernel uses is named
// for renewal.
func TestPromotion(t *testing.T) {
	m := kernelTable(t, 2)
	m.routes[0], m.fresh = Route{State: 1, Last: 1, MTU: 1500, Op: L2, Flags: InKernel}, 1
	way := Way{0, 1}
	k := key(1, 1)
	h := m.Hash(&k)
	m.Put(&k, h, way, &Grant{entropy: 9}, 1000, 11_000)
	at, _ := m.Locate(&k, h)
	e := &m.entries[at]
	var got Memo
	for i := range promoteAfter + 1 {
		if e[wordUse]&forKernel != 0 {
			t.Fatalf("the kernel has the memo after %d packets", i)
		}
		m.Read(at, &k, 1000, &got)
	}
	if e[wordUse]&forKernel == 0 || uint32(e[wordUse]>>entropyAt) != 9 {
		t.Fatalf("the use word is %#x", e[wordUse])
	}
	if !m.Put(&k, h, way, &Grant{entropy: 9}, 1100, 12_000) || e[wordUse]&forKernel == 0 {
		t.Error("a renewal takes the memo from the kernel")
	}
	renewed := 0
	look := func(now flow.Time) int {
		renewed = 0
		m.Recent(0, m.Len(), now, func(got *Key, _ uint32) {
			if *got != k {
				t.Errorf("key %+v", *got)
			}
			renewed++
		})
		return renewed
	}
	e[wordUse] = e[wordUse]&^(0xffff<<seenAt) | uint64(8000>>seenUnit)<<seenAt
	if look(2000) != 0 || look(8000) != 1 || look(12_001) != 0 {
		t.Error("a memo is to be renewed in the second half of its lease and not after it")
	}
	e[wordUse] = e[wordUse]&^(0xffff<<seenAt) | uint64(1000>>seenUnit)<<seenAt
	if look(8000) != 0 {
		t.Error("a memo that the kernel has not used is renewed")
	}
	if !m.Put(&k, h, way, &Grant{entropy: 10}, 1100, 12_000) || e[wordUse]&forKernel != 0 {
		t.Error("another grant is the kernel's at once")
	}
}

// TestAccount asserts that what the kernel counts gets into the ledger exactly
// once, whatever process reads it.
func TestAccount(t *testing.T) {
	m := kernelTable(t, 2)
	m.routes[1], m.fresh = Route{State: 1, Op: NATReply, Port: 3, Service: 1, Backend: 2}, 2
	c := ledger.New(4, 4)
	m.KeepAccount(c)
	m.counts[1].Packets, m.counts[1].Bytes, m.counts[1].BytesSent = 5, 500, 600
	m.counts[3].Packets, m.counts[3].Bytes, m.counts[3].BytesSent = 2, 200, 240
	m.Account()
	m.Account()
	m.counts[3].Packets, m.counts[3].Bytes, m.counts[3].BytesSent = 3, 300, 360
	m.retire(1)
	l := c.Ledger
	if l.Received != 8 || l.Ended[reason.ReplyFlow] != 8 || l.ByMemo != 8 || l.TX[3] != 8 || l.Bytes != 800 || l.BytesSent != 960 {
		t.Errorf("the ledger is %+v", *l)
	}
	if c.Services[1].Packets != 8 || c.Backends[2].Bytes != 800 {
		t.Errorf("service %+v, backend %+v", c.Services[1], c.Backends[2])
	}
	if err := l.Check(); err != nil {
		t.Error(err)
	}
}

// TestNewRefuses asserts that wrong memory is refused with its reason, and that
// the routes another process has left are void.
func TestNewRefuses(t *testing.T) {
	good := Config{Entries: make([]byte, Bytes(4)), Routes: make([]byte, RouteSize)}
	for _, c := range []struct {
		edit func(*Config)
		want string
	}{
		{func(c *Config) { c.Entries = c.Entries[:4*EntrySize] }, "memo: memory of 256 bytes is not for a power of two of entries"},
		{func(c *Config) { c.Entries = nil }, "memo: memory of 0 bytes is not for a power of two of entries"},
		{func(c *Config) { c.Routes = nil }, "memo: memory for 0 routes, 1 to 65536 are possible"},
		{func(c *Config) { c.Counts = make([]byte, 1) }, "memo: memory of 1 bytes does not hold counts for 1 routes"},
	} {
		cfg := good
		c.edit(&cfg)
		if _, err := New(cfg); err == nil || err.Error() != c.want {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
	m := kernelTable(t, 2)
	m.routes[1].State = 5
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&m.routes[0])), 2*RouteSize)
	if Void(raw); m.routes[1].State != 0 {
		t.Error("Void leaves a route valid")
	}
	m.routes[1].State = 5
	if m.ways.init(m.routes); m.routes[1].State != 0 {
		t.Error("a new table leaves a route valid")
	}
}

// TestLease asserts that a lease is a part of the idle time and bounded.
func TestLease(t *testing.T) {
	for timeout, want := range map[uint32]uint32{0: 0, 400: 100, 30_000: 7500, 7_440_000: 10_000} {
		if got := Lease(timeout); got != want {
			t.Errorf("an idle time of %d ms gives a lease of %d, want %d", timeout, got, want)
		}
	}
}

// TestKeysAreExact asserts that an entry is found by its own key alone, among
// them keys whose words differ by the same bits.
func TestKeysAreExact(t *testing.T) {
	m, way := table(t, 1)
	own := Key{0x20010db8_00000000, 2, Rest(1024, 80, 7, packet.ProtoTCP)}
	m.Put(&own, m.Hash(&own), way, &Grant{}, 1000, 2000)
	at, _ := m.Locate(&own, m.Hash(&own))
	for bit := range 64 {
		b := uint64(1) << bit
		for _, k := range []Key{
			{own.Hi ^ b, own.Lo, own.Rest}, {own.Hi, own.Lo ^ b, own.Rest}, {own.Hi, own.Lo, own.Rest ^ b},
			{own.Hi ^ b, own.Lo ^ b, own.Rest}, {own.Hi ^ b, own.Lo | b, own.Rest}, {own.Hi, own.Lo ^ b, own.Rest ^ b}, {own.Hi, own.Lo | b, own.Rest ^ b},
			{own.Hi | b, own.Lo ^ b, own.Rest}, {own.Hi | b, own.Lo, own.Rest ^ b}, {own.Hi ^ b, own.Lo ^ b, own.Rest ^ b},
		} {
			if k != own && m.entries[at].has(&k) {
				t.Errorf("%x is taken for %x", k, own)
			}
		}
	}
}
