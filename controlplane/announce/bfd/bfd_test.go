package bfd

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"reflect"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// inside marks the process that runs in a network namespace of its own.
const inside = "FAIRLEAD_BFD_TEST_INSIDE"

func TestMain(m *testing.M) {
	if os.Getenv(inside) == "" {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			panic(err)
		}
		panic(syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), inside+"=1")))
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

func good() packet {
	return packet{state: Up, mult: 3, mine: 7, yours: 9, desiredTX: 300 * time.Millisecond, requireRX: 50 * time.Millisecond}
}

func TestPacket(t *testing.T) {
	for _, p := range []packet{
		good(),
		{state: Down, diag: diagExpired, mult: 1, mine: 1, desiredTX: time.Second, requireRX: time.Microsecond},
		{state: Init, poll: true, mult: 255, mine: 1<<32 - 1, yours: 1, desiredTX: time.Second},
		{state: AdminDown, diag: diagAdminDown, final: true, mult: 3, mine: 5},
	} {
		b := p.append(nil)
		if len(b) != packetSize {
			t.Errorf("%+v has %d bytes", p, len(b))
		}
		if got, err := parse(b); err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("%+v is read as %+v, %v", p, got, err)
		}
	}
	// As RFC 5880 draws it, by hand.
	want := []byte{0x21, 0xe0, 3, 24, 0, 0, 0, 7, 0, 0, 0, 9, 0, 4, 0x93, 0xe0, 0, 0, 0xc3, 0x50, 0, 0, 0, 0}
	p := good()
	p.diag, p.poll = diagExpired, true
	if got := p.append(nil); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

func TestPacketsRefused(t *testing.T) {
	change := func(at int, to byte) []byte {
		p := good()
		b := p.append(nil)
		b[at] = to
		return b
	}
	nameless := good()
	nameless.yours = 0
	for want, b := range map[string][]byte{
		"no BFD control packet: 0 bytes":                                        nil,
		"no BFD control packet: 23 bytes":                                       change(0, 0x20)[:23],
		"no BFD control packet: version 0":                                      change(0, 0),
		"no BFD control packet: its length is 25, and 24 bytes have come":       change(3, 25),
		"no BFD control packet: its length is 23, and 24 bytes have come":       change(3, 23),
		"no BFD control packet: it is authenticated, and no key is agreed upon": change(1, 0xc4),
		"no BFD control packet: the multipoint bit is set":                      change(1, 0xc1),
		"no BFD control packet: its detection multiplier is 0":                  change(2, 0),
		"no BFD control packet: its discriminator is 0":                         change(7, 0),
		"no BFD control packet: it is up and names no session":                  nameless.append(nil),
	} {
		if _, err := parse(b); !errors.Is(err, errPacket) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	p := good()
	f.Add(p.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parse(b)
		if err != nil {
			return
		}
		if again, err := parse(p.append(nil)); err != nil || again != p {
			t.Errorf("%+v is written and read as %+v, %v", p, again, err)
		}
	})
}

// TestTransitions is the state machine of RFC 5880, section 6.2, from each state
// by what the peer says.
func TestTransitions(t *testing.T) {
	for _, c := range []struct{ from, hears, to State }{
		{Down, AdminDown, Down}, {Down, Down, Init}, {Down, Init, Up}, {Down, Up, Down},
		{Init, AdminDown, Down}, {Init, Down, Init}, {Init, Init, Up}, {Init, Up, Up},
		{Up, AdminDown, Down}, {Up, Down, Down}, {Up, Init, Up}, {Up, Up, Up},
	} {
		var told []bool
		s := newSession(nil, Config{Interval: 100 * time.Millisecond, Multiplier: 3, Changed: func(up bool, _ string) { told = append(told, up) }}, 9)
		s.state = c.from
		if c.from == Up {
			s.desiredTX = 100 * time.Millisecond
		}
		s.receive(&packet{state: c.hears, mult: 5, mine: 7, yours: 9, desiredTX: 200 * time.Millisecond, requireRX: 400 * time.Millisecond})
		if s.state != c.to || s.Status().State != c.to && c.from != c.to {
			t.Errorf("from %s, hearing %s: %s, want %s", c.from, c.hears, s.state, c.to)
		}
		if changed := (c.from == Up) != (c.to == Up); changed != (len(told) == 1) || changed && told[0] != (c.to == Up) {
			t.Errorf("from %s to %s: told %v", c.from, c.to, told)
		}
		if s.detect() != time.Second || s.yours != 7 {
			t.Errorf("detection takes %v, the peer is %d", s.detect(), s.yours)
		}
		if want := map[bool]time.Duration{true: 400 * time.Millisecond, false: time.Second}[c.to == Up]; s.pace() != want {
			t.Errorf("%s: a packet each %v, want %v", c.to, s.pace(), want)
		}
		if s.polling != (c.to == Up && c.from != Up) {
			t.Errorf("from %s to %s: polling %v", c.from, c.to, s.polling)
		}
		for range 100 {
			if i := s.interval(); i < s.pace()*3/4 || i > s.pace() {
				t.Fatalf("%v to the next packet, of %v", i, s.pace())
			}
		}
	}
}

// TestStrangers has a session hear packets that are not of its peer: of another
// address, from farther away, of another session, and none at all. It stays as it
// is.
func TestStrangers(t *testing.T) {
	server, err := Listen(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	peer := netip.MustParseAddr("127.0.0.2")
	session, err := server.Add(Config{Peer: peer, Local: netip.MustParseAddr("127.0.0.1"), Interval: 50 * time.Millisecond, Multiplier: 3})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.Add(Config{Peer: peer}); err == nil || err.Error() != "BFD: there is a session with 127.0.0.2" {
		t.Errorf("a second session with the peer: %v", err)
	}
	send := func(from string, ttl int, b []byte) {
		t.Helper()
		conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP(from)}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		raw, err := conn.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, ttl) })
		if err != nil {
			t.Fatal(err)
		}
		conn.Write(b)
	}
	hello := packet{state: Down, mult: 3, mine: 77, desiredTX: time.Second, requireRX: time.Second}
	other := hello
	other.yours = session.mine + 1
	for range 50 {
		send("127.0.0.3", 255, hello.append(nil))
		send("127.0.0.2", 254, hello.append(nil))
		send("127.0.0.2", 255, other.append(nil))
		send("127.0.0.2", 255, []byte("GET / HTTP/1.1\r\n\r\n"))
	}
	// What comes after all these, and is of the peer, is heard: they were looked at.
	send("127.0.0.2", 255, hello.append(nil))
	for deadline := time.Now().Add(10 * time.Second); session.Status().Received == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if s := session.Status(); s.Received != 1 || s.State != Init {
		t.Errorf("the session is %+v", s)
	}
	for deadline := time.Now().Add(10 * time.Second); session.Status().State != Down && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if s := session.Status(); s.State != Down {
		t.Errorf("the session is %+v after its peer has fallen silent", s)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if _, err := server.Add(Config{Peer: peer}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a session after the end: %v", err)
	}
}
