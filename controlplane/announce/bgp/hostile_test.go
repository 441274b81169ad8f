package bgp

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"fairlead/controlplane/model"
)

// hostile is a peer that a test plays on an address of the router's host.
type hostile struct {
	name    string
	serve   func(c net.Conn) // one session
	asn     uint32
	wants   string // in the peer's last error
	state   State  // that the peer must come to; "": any
	address netip.Addr
	met     atomic.Int64 // sessions
}

func serialize(m *bgp.BGPMessage) []byte {
	b, err := m.Serialize()
	if err != nil {
		panic(err)
	}
	return b
}

func open(asn uint16, hold uint16, id string) []byte {
	families := bgp.NewOptionParameterCapability([]bgp.ParameterCapabilityInterface{bgp.NewCapMultiProtocol(bgp.RF_IPv4_UC), bgp.NewCapFourOctetASNumber(uint32(asn))})
	m, err := bgp.NewBGPOpenMessage(asn, hold, netip.MustParseAddr(id), []bgp.OptionParameterInterface{families})
	if err != nil {
		panic(err)
	}
	return serialize(m)
}

// establish does what is due until the session stands.
func establish(c net.Conn) bool {
	c.Write(open(routerASN, 9, "192.0.2.9"))
	if !readMessage(c) { // their OPEN
		return false
	}
	c.Write(serialize(bgp.NewBGPKeepAliveMessage()))
	return readMessage(c)
}

func readMessage(c net.Conn) bool {
	header := make([]byte, 19)
	if _, err := io.ReadFull(c, header); err != nil {
		return false
	}
	_, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint16(header[16:]))-19)
	return err == nil
}

// update announces n prefixes, the first of number from.
func update(from, n int) []byte {
	var nlri []bgp.PathNLRI
	for i := range n {
		k := from + i
		prefix, err := bgp.NewIPAddrPrefix(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(k >> 16), byte(k >> 8), byte(k)}), 32))
		if err != nil {
			panic(err)
		}
		nlri = append(nlri, bgp.PathNLRI{NLRI: prefix})
	}
	hop, err := bgp.NewPathAttributeNextHop(netip.MustParseAddr("198.18.0.254"))
	if err != nil {
		panic(err)
	}
	return serialize(bgp.NewBGPUpdateMessage(nil, []bgp.PathAttributeInterface{
		bgp.NewPathAttributeOrigin(0), hop,
		bgp.NewPathAttributeAsPath([]bgp.AsPathParamInterface{bgp.NewAs4PathParam(bgp.BGP_ASPATH_ATTR_TYPE_SEQ, []uint32{routerASN})}),
	}, nlri))
}

// drain reads until the connection ends.
func drain(c net.Conn) { io.Copy(io.Discard, c) }

// TestPeersThatMisbehave has a speaker with peers that send nonsense, lie, flood,
// and do not listen, beside one that behaves: its route comes, stays, and goes
// when it should.
func TestPeersThatMisbehave(t *testing.T) {
	w := newWorld(t)
	w.bird(`protocol bgp four from fairlead { local 198.18.0.254 as 65000; strict bind on; neighbor 198.18.0.1 as 65010; }`)
	garbage := rand.NewChaCha8([32]byte{1})
	var mixing sync.Mutex
	noise := func(n int) []byte {
		mixing.Lock()
		defer mixing.Unlock()
		b := make([]byte, n)
		garbage.Read(b)
		return b
	}
	marker := []byte(strings.Repeat("\xff", 16))
	peers := []*hostile{
		{name: "bytes that are no BGP", serve: func(c net.Conn) { c.Write(noise(4096)); drain(c) }, wants: ""},
		{name: "nonsense in proper headers", serve: func(c net.Conn) {
			for range 20 {
				body := noise(200)
				c.Write(append(append(append([]byte{}, marker...), 0, 219, 1+body[0]%5), body...))
			}
			drain(c)
		}},
		{name: "a length of all", serve: func(c net.Conn) { c.Write(append(append([]byte{}, marker...), 0xff, 0xff, 2)); drain(c) }},
		{name: "another AS", asn: 65001, serve: func(c net.Conn) { c.Write(open(65001, 9, "192.0.2.9")); drain(c) }},
		{name: "a hold time of 1 s", serve: func(c net.Conn) { c.Write(open(routerASN, 1, "192.0.2.9")); drain(c) }},
		{name: "our own router id and AS", serve: func(c net.Conn) { c.Write(open(ownASN, 9, own4.String())); drain(c) }},
		{name: "endless OPENs", serve: func(c net.Conn) {
			go drain(c)
			for {
				if _, err := c.Write(open(routerASN, 9, "192.0.2.9")); err != nil {
					return
				}
			}
		}},
		{name: "nothing at all", serve: drain},
		{name: "closes at once", serve: func(net.Conn) {}},
		{name: "nonsense in updates", serve: func(c net.Conn) {
			if establish(c) {
				go drain(c)
				for range 50 {
					body := noise(100)
					if _, err := c.Write(append(append(append([]byte{}, marker...), 0, 119, 2), body...)); err != nil {
						return
					}
				}
			}
		}},
		{name: "a flood of routes", state: OverLimit, wants: "the peer sent more than 1000 prefixes; it is tried again after 5m0s", serve: func(c net.Conn) {
			if !establish(c) {
				return
			}
			go drain(c)
			for i := 0; ; i++ {
				if _, err := c.Write(update(i*500, 500)); err != nil {
					return
				}
			}
		}},
		{name: "never reads", serve: func(c net.Conn) {
			c.(*net.TCPConn).SetReadBuffer(1)
			if !establish(c) {
				return
			}
			for {
				time.Sleep(100 * time.Millisecond)
				if _, err := c.Write(serialize(bgp.NewBGPKeepAliveMessage())); err != nil {
					return
				}
			}
		}},
	}
	w.play(peers)
	s := w.speak(config(func(b *model.BGP) {
		b.MaxPrefixes = 1000
		for _, p := range peers {
			peer := peer4()
			peer.Address, peer.Port = p.address, hostilePort
			b.Peers = append(b.Peers, peer)
		}
	}), Options{})
	w.must(s.Set(told(vip4)))
	w.hops(vip4, own4)
	removed := w.watchRoute(vip4)
	standing := w.established(s, router4.String())

	for _, p := range peers {
		w.until("the peer with "+p.name+" was met", func() bool { return p.met.Load() > 0 })
		w.until("the peer with "+p.name+" is seen through", func() bool {
			for _, v := range s.Peers() {
				if v.Name == p.address.String() {
					return (p.state == "" || v.State == p.state) && strings.Contains(v.LastError, p.wants)
				}
			}
			return false
		})
	}
	// Enough changes that a peer that does not read has a queue.
	many := told(vip4)
	for i := range 2000 {
		many = append(many, told(netip.AddrFrom4([4]byte{203, 0, 114 + byte(i/250), byte(i % 250)}))...)
	}
	w.must(s.Set(many))
	w.hops(netip.MustParseAddr("203.0.121.249"), own4)
	w.must(s.Set(told(vip4)))
	w.hops(netip.MustParseAddr("203.0.121.249"))

	if p := w.established(s, router4.String()); p.Ups != standing.Ups || p.Since != standing.Since {
		t.Errorf("the session with the peer that behaves was %+v and is %+v", standing, p)
	}
	if n := removed(); n != 0 {
		t.Errorf("its route was removed %d times", n)
	}
	begin := time.Now()
	w.must(s.Close())
	t.Logf("closed in %v", time.Since(begin))
	w.hops(vip4)
}

const hostilePort = 1790

// play gives each peer an address of the router's and lets it wait there.
func (w *world) play(peers []*hostile) {
	w.t.Helper()
	ns, err := netns.GetFromName(w.router.Namespace)
	w.must(err)
	defer ns.Close()
	link, err := w.router.Netlink().LinkByName("down0")
	w.must(err)
	var running sync.WaitGroup
	w.t.Cleanup(running.Wait)
	for i, p := range peers {
		p.address = netip.AddrFrom4([4]byte{198, 18, 0, byte(100 + i)})
		a, err := netlink.ParseAddr(p.address.String() + "/24")
		w.must(err)
		w.must(w.router.Netlink().AddrAdd(link, a))
		l, err := w.router.Listen("tcp", netip.AddrPortFrom(p.address, hostilePort).String())
		w.must(err)
		w.t.Cleanup(func() { l.Close() })
		running.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				p.met.Add(1)
				running.Go(func() {
					defer c.Close()
					stop := time.AfterFunc(15*time.Second, func() { c.Close() })
					defer stop.Stop()
					p.serve(c)
				})
			}
		})
	}
}
