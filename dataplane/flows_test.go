package dataplane_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/dgryski/go-maglev"

	"fairlead/dataplane"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

const (
	syn = packet.TCPFlagSYN
	ack = packet.TCPFlagACK
	fin = packet.TCPFlagFIN | packet.TCPFlagACK
	rst = packet.TCPFlagRST
)

// pooled is a service of three backends on 198.18.100.1, port 80.
func pooled(method fib.Method, proto uint8, edit func(*fib.Service)) testService {
	return testService{vip: "198.18.100.1", proto: proto, port: 80, method: method, edit: edit,
		backends: []string{"198.18.10.11:80", "198.18.10.12:80", "198.18.10.13:80"}}
}

const pooledVIP = "198.18.100.1:80"

func withPolicy(p fib.GonePolicy) func(*fib.Service) {
	return func(s *fib.Service) { s.Gone = p }
}

// repool gives the pool a new table of the backends that may be chosen, and
// publishes.
func (n *node) repool(pool int) {
	n.t.Helper()
	p := &n.b.Pools[pool]
	var names []string
	var index []uint16
	for i, slot := range n.b.Members[p.Members : p.Members+p.MemberCount] {
		b := &n.b.Backends[slot]
		if b.Flags&(fib.BackendDown|fib.BackendDraining) == 0 && b.Weight > 0 {
			names, index = append(names, endpoint(b.Addr, b.Port)), append(index, uint16(i))
		}
	}
	p.Table, p.TableSize = uint32(len(n.b.Tables)), 0
	if len(names) > 0 {
		p.TableSize = 1009
		table := maglev.New(names, 1009)
		for slot := range uint64(1009) {
			n.b.Tables = append(n.b.Tables, index[table.Lookup(slot)])
		}
	}
	n.publish()
}

// add puts one more backend into the first pool, which must be the only one.
func (n *node) add(end string) {
	ap := netip.MustParseAddrPort(end)
	slot := uint32(len(n.b.Backends))
	n.b.Backends = append(n.b.Backends, fib.Backend{Addr: packet.AddrFrom(ap.Addr()), ID: fib.MakeID(slot, 1), Weight: 1, Port: ap.Port(), Name: n.b.Name(end)})
	n.b.Members = append(n.b.Members, slot)
	n.b.Pools[0].MemberCount++
	n.repool(0)
}

// tcp sends a segment of a client and gives its verdict.
func (n *node) tcp(client, vip string, flags uint8, opts ...packettest.Option) dataplane.Verdict {
	n.t.Helper()
	_, v := n.one(0, fromClient(client, vip, append(opts, packettest.Flags(flags))...))
	return v
}

func (n *node) udp(client, vip string, opts ...packettest.Option) dataplane.Verdict {
	n.t.Helper()
	_, v := n.one(0, udpFrom(client, vip, opts...))
	return v
}

func udpFrom(client, vip string, opts ...packettest.Option) []byte {
	opts = append([]packettest.Option{packettest.MACs(ourMAC0, clientMAC)}, opts...)
	return packettest.UDP(packettest.AddrPort(client), packettest.AddrPort(vip), opts...)
}

// connect opens a connection until it is established for the node, and gives
// the slot of its backend and, with NAT, the frame that the backend got last.
func (n *node) connect(client, vip string) (backend uint32, seen []byte) {
	n.t.Helper()
	sent, v := n.one(0, fromClient(client, vip, packettest.Flags(syn)))
	n.expect(v, reason.ForwardNew)
	if v.Op == dataplane.OpNATForward {
		_, answer := n.one(1, reverse(sent[1][0]))
		n.expect(answer, reason.ReplyFlow)
	}
	sent, again := n.one(0, fromClient(client, vip, packettest.Flags(ack)))
	n.expect(again, reason.ForwardFlow)
	if again.Backend != v.Backend {
		n.t.Fatalf("the SYN of %s went to backend %d, the next segment to %d", client, v.Backend, again.Backend)
	}
	return v.Backend, sent[1][0]
}

func (n *node) expect(v dataplane.Verdict, want reason.Reason) {
	n.t.Helper()
	if v.Reason != want {
		n.t.Fatalf("the verdict is %v, want %v: %+v", v.Reason, want, v)
	}
}

func clientNumber(i int) string { return fmt.Sprintf("203.0.113.%d:%d", 1+i%200, 2000+i/200) }

// TestFlowsKeepTheirBackend changes a pool under established flows in every
// way that leaves their backends alive, with each method and protocol.
func TestFlowsKeepTheirBackend(t *testing.T) {
	const flows = 120
	for _, method := range []fib.Method{fib.MethodNAT, fib.MethodIPIP, fib.MethodGUE, fib.MethodL2} {
		for _, proto := range []uint8{packet.ProtoTCP, packet.ProtoUDP} {
			t.Run(fmt.Sprint(method, " protocol ", proto), func(t *testing.T) {
				n := newNode(t, pooled(method, proto, nil))
				send := func(i int, flags uint8) dataplane.Verdict {
					if proto == packet.ProtoUDP {
						return n.udp(clientNumber(i), pooledVIP)
					}
					return n.tcp(clientNumber(i), pooledVIP, flags)
				}
				home := make([]uint32, flows)
				for i := range home {
					home[i] = send(i, syn).Backend
				}
				newcomers := flows
				check := func(change string, banned ...uint32) {
					t.Helper()
					for i := range home {
						v := send(i, ack)
						if v.Reason != reason.ForwardFlow || v.Backend != home[i] {
							t.Fatalf("%s: flow %d was at backend %d: %+v %v", change, i, home[i], v, v.Reason)
						}
					}
					for range flows {
						v := send(newcomers, syn)
						newcomers++
						n.expect(v, reason.ForwardNew)
						for _, b := range banned {
							if v.Backend == b {
								t.Fatalf("%s: a new flow goes to backend %d", change, b)
							}
						}
					}
				}
				check("nothing changed")
				n.add("198.18.10.14:80")
				check("one added")
				n.b.Backends[1].Flags, n.b.Backends[1].Weight = fib.BackendDraining, 0
				n.repool(0)
				check("one drains", 1)
				n.b.Backends[2].Weight = 0
				n.repool(0)
				check("one has weight 0", 1, 2)
				n.b.Backends[1].Flags, n.b.Backends[1].Weight = 0, 1
				n.repool(0)
				check("the one that drained is back", 2)
				n.b.Backends[1].Weight, n.b.Backends[3].Weight, n.b.Backends[4].Weight = 0, 0, 0
				n.repool(0)
				for i := range home {
					if v := send(i, ack); v.Reason != reason.ForwardFlow || v.Backend != home[i] {
						t.Fatalf("all have weight 0: flow %d: %+v", i, v)
					}
				}
				n.expect(send(newcomers, syn), reason.RefusedReply)
			})
		}
	}
}

// TestDeadBackend has a backend die under TCP connections: what becomes of
// them is the service's policy; SYNs and UDP go to a living one at once.
func TestDeadBackend(t *testing.T) {
	for _, method := range []fib.Method{fib.MethodNAT, fib.MethodIPIP, fib.MethodL2} {
		for _, c := range []struct {
			policy fib.GonePolicy
			want   reason.Reason
			after  reason.Reason // of the segment after that, NAT and direct reply
			direct reason.Reason
		}{
			{fib.GoneReset, reason.ResetReply, reason.ResetReply, reason.ResetReply}, // as a challenge ACK asks for it
			{fib.GoneDrop, reason.BackendGone, reason.TCPNotSYN, reason.ForwardNew},
			{fib.GoneRehash, reason.ForwardNew, reason.ForwardFlow, reason.ForwardFlow},
		} {
			for _, removed := range []bool{false, true} {
				t.Run(fmt.Sprint(method, " policy ", c.policy, " removed ", removed), func(t *testing.T) {
					n := newNode(t, pooled(method, packet.ProtoTCP, withPolicy(c.policy)))
					dead, _ := n.connect("203.0.113.9:1000", pooledVIP)
					var half string // a client whose SYN alone has come to the same backend
					for i := 0; half == ""; i++ {
						if v := n.tcp(clientNumber(i), pooledVIP, syn); v.Backend == dead {
							half = clientNumber(i)
						}
					}
					n.b.Backends[dead].Flags = fib.BackendDown
					if removed {
						n.b.Backends[dead].ID = fib.MakeID(dead, 2)
					}
					n.repool(0)
					sent, v := n.one(0, fromClient("203.0.113.9:1000", pooledVIP, packettest.Flags(ack), packettest.Seq(7000), packettest.Ack(9000), packettest.PayloadLen(5)))
					n.expect(v, c.want)
					switch c.want {
					case reason.ResetReply:
						if len(sent[0]) != 1 {
							t.Fatalf("%d frames to the client", len(sent[0]))
						}
						if err := packettest.Verify(sent[0][0]); err != nil {
							t.Fatal(err)
						}
						var info packet.Info
						packet.Parse(sent[0][0], &info)
						if info.TCPFlags != rst || packet.TCP(sent[0][0][info.L4:]).Seq() != 9000 || endpoint(info.Src, info.SrcPort) != pooledVIP {
							t.Fatalf("the reset is %+v", info)
						}
					case reason.ForwardNew:
						if v.Backend == dead {
							t.Fatal("it goes to the dead one")
						}
					}
					want := c.after
					if method != fib.MethodNAT {
						want = c.direct
					}
					if v := n.tcp("203.0.113.9:1000", pooledVIP, ack); v.Reason != want || v.Backend == dead {
						t.Errorf("the next segment: %+v %v", v, v.Reason)
					}
					if c.policy == fib.GoneReset {
						if v := n.tcp("203.0.113.9:1000", pooledVIP, syn); v.Reason != reason.ForwardNew || v.Backend == dead {
							t.Errorf("a new connection from the same port: %+v %v", v, v.Reason)
						}
					}
					if v := n.tcp(half, pooledVIP, syn); v.Reason != reason.ForwardNew || v.Backend == dead {
						t.Errorf("a SYN sent again: %+v %v", v, v.Reason)
					}
				})
			}
		}
		t.Run(fmt.Sprint(method, " UDP"), func(t *testing.T) {
			n := newNode(t, pooled(method, packet.ProtoUDP, nil))
			dead := n.udp("203.0.113.9:1000", pooledVIP).Backend
			n.b.Backends[dead].Flags = fib.BackendDown
			n.repool(0)
			v := n.udp("203.0.113.9:1000", pooledVIP)
			if v.Reason != reason.ForwardNew || v.Backend == dead {
				t.Fatalf("%+v %v", v, v.Reason)
			}
			n.b.Backends[dead].Flags = 0
			n.repool(0)
			if again := n.udp("203.0.113.9:1000", pooledVIP); again.Backend != v.Backend {
				t.Error("it goes back when the dead one lives again")
			}
		})
	}
}

// TestReplyFromRemovedBackend has the last slot of the backends' table go away
// under a NAT flow that is being opened.
func TestReplyFromRemovedBackend(t *testing.T) {
	n := newNode(t, testService{vip: "198.18.100.1", proto: packet.ProtoTCP, port: 80, method: fib.MethodNAT, backends: []string{"198.18.10.11:80"}})
	sent, _ := n.one(0, fromClient("203.0.113.9:1000", pooledVIP, packettest.Flags(syn)))
	n.b.Backends = n.b.Backends[:1]
	n.b.Members, n.b.Tables, n.b.Pools[0] = nil, nil, fib.Pool{}
	n.publish()
	_, v := n.one(1, reverse(sent[1][0]))
	n.expect(v, reason.BackendGone)
	quote := packettest.ICMPError(packettest.Addr("192.0.2.7"), packettest.Addr("198.18.10.200"), packet.ICMPv4Unreachable, 1, sent[1][0])
	_, v = n.one(1, quote)
	n.expect(v, reason.ICMPFlowNotFound)
	n.expect(n.tcp("203.0.113.9:1000", pooledVIP, ack), reason.ResetReply)
}

// TestClosedTupleIsUsedAgain asserts that a SYN on the tuple of a connection
// that is closing opens a new one, and that one on a living connection does
// not.
func TestClosedTupleIsUsedAgain(t *testing.T) {
	for _, method := range []fib.Method{fib.MethodNAT, fib.MethodL2} {
		t.Run(method.String(), func(t *testing.T) {
			n := newNode(t, pooled(method, packet.ProtoTCP, nil))
			n.connect("203.0.113.9:1000", pooledVIP)
			n.expect(n.tcp("203.0.113.9:1000", pooledVIP, syn), reason.ForwardFlow)
			for _, how := range []uint8{fin, rst} {
				n.expect(n.tcp("203.0.113.9:1000", pooledVIP, how), reason.ForwardFlow)
				n.expect(n.tcp("203.0.113.9:1000", pooledVIP, ack), reason.ForwardFlow)
				n.tcp("203.0.113.9:1000", pooledVIP, how)
				n.connect("203.0.113.9:1000", pooledVIP)
			}
		})
	}
}

// TestMidStream asserts that direct-reply methods take up a connection that
// began elsewhere, and that NAT cannot.
func TestMidStream(t *testing.T) {
	for _, method := range []fib.Method{fib.MethodIPIP, fib.MethodGUE, fib.MethodL2} {
		n := newNode(t, pooled(method, packet.ProtoTCP, nil))
		want := n.tcp("203.0.113.9:1000", pooledVIP, ack)
		n.expect(want, reason.ForwardNew)
		n.add("198.18.10.14:80")
		n.now += 3_000_000 // long, but less than tcp_established
		if v := n.tcp("203.0.113.9:1000", pooledVIP, ack); v.Reason != reason.ForwardFlow || v.Backend != want.Backend {
			t.Errorf("%v: %+v %v", method, v, v.Reason)
		}
	}
	n := newNode(t, pooled(fib.MethodNAT, packet.ProtoTCP, nil))
	n.expect(n.tcp("203.0.113.9:1000", pooledVIP, ack), reason.TCPNotSYN)
	n.expect(n.tcp("203.0.113.9:1000", pooledVIP, syn|ack), reason.TCPNotSYN)
}

// TestSourceRangesChange asserts that the next packet obeys, in both
// directions.
func TestSourceRangesChange(t *testing.T) {
	n := newNode(t, pooled(fib.MethodNAT, packet.ProtoTCP, nil))
	_, first := n.connect("203.0.113.9:1000", pooledVIP)
	_, second := n.connect("203.0.113.9:1001", pooledVIP)
	n.b.SourceRanges = []fib.SourceRange{fib.SourceRangeFrom(netip.MustParsePrefix("192.0.2.0/24"))}
	n.b.Services[1].RangeCount = 1
	n.publish()
	n.expect(n.tcp("203.0.113.9:1000", pooledVIP, ack), reason.SourceNotAllowed)
	_, v := n.one(1, reverse(first))
	n.expect(v, reason.FlowNotFound)
	_, v = n.one(1, reverse(second))
	n.expect(v, reason.SourceNotAllowed)
	n.expect(n.tcp("192.0.2.9:1000", pooledVIP, syn), reason.ForwardNew)
}

// TestServiceRemoved asserts that the next packet of a flow obeys, in both
// directions, and that a service that takes the place of a removed one gets
// its packets.
func TestServiceRemoved(t *testing.T) {
	for _, method := range []fib.Method{fib.MethodNAT, fib.MethodL2} {
		for _, policy := range []fib.GonePolicy{fib.GoneReset, fib.GoneRehash, fib.GoneDrop} {
			t.Run(fmt.Sprint(method, " policy ", policy), func(t *testing.T) {
				n := newNode(t, pooled(method, packet.ProtoTCP, withPolicy(policy)))
				_, seen := n.connect("203.0.113.9:1000", pooledVIP)
				n.connect("203.0.113.9:1001", pooledVIP)
				match := n.b.Matches
				n.b.Matches = nil
				service := n.b.Services[1]
				n.b.Services[1] = fib.Service{}
				n.publish()
				if method == fib.MethodNAT {
					_, v := n.one(1, reverse(seen))
					n.expect(v, reason.ServiceNotFound)
				}
				n.expect(n.tcp("203.0.113.9:1000", pooledVIP, ack), reason.ServiceNotFound)
				service.ID = fib.MakeID(1, 2)
				n.b.Matches, n.b.Services[1] = match, service
				n.publish()
				want := reason.ForwardNew
				if method == fib.MethodNAT {
					want = map[fib.GonePolicy]reason.Reason{fib.GoneReset: reason.ResetReply, fib.GoneRehash: reason.ForwardNew, fib.GoneDrop: reason.BackendGone}[policy]
				}
				n.expect(n.tcp("203.0.113.9:1001", pooledVIP, ack), want)
				n.connect("203.0.113.9:1002", pooledVIP)
			})
		}
	}
}

// TestMethodChanges changes a service's method under live flows.
func TestMethodChanges(t *testing.T) {
	for _, c := range []struct {
		name     string
		from, to fib.Method
		want     reason.Reason // of a segment in the middle
		op       dataplane.Op
	}{
		{"nat to l2", fib.MethodNAT, fib.MethodL2, reason.ResetReply, dataplane.OpReset},
		{"l2 to nat", fib.MethodL2, fib.MethodNAT, reason.ResetReply, dataplane.OpReset},
		{"l2 to ipip", fib.MethodL2, fib.MethodIPIP, reason.ForwardFlow, dataplane.OpIPIP},
		{"ipip to gue", fib.MethodIPIP, fib.MethodGUE, reason.ForwardFlow, dataplane.OpGUE},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t, pooled(c.from, packet.ProtoTCP, nil))
			home, seen := n.connect("203.0.113.9:1000", pooledVIP)
			n.b.Services[1].Method = c.to
			n.publish()
			if c.from == fib.MethodNAT {
				_, v := n.one(1, reverse(seen))
				n.expect(v, reason.ReplyFlow)
			}
			v := n.tcp("203.0.113.9:1000", pooledVIP, ack)
			n.expect(v, c.want)
			if v.Op != c.op || v.Reason == reason.ForwardFlow && v.Backend != home {
				t.Fatalf("%+v", v)
			}
			n.connect("203.0.113.9:1001", pooledVIP)
		})
	}
}

// TestSlotReuse gives the slots of a removed backend and of a removed service
// to others: no flow of the old owner reaches the new one.
func TestSlotReuse(t *testing.T) {
	for _, method := range []fib.Method{fib.MethodNAT, fib.MethodL2} {
		n := newNode(t, pooled(method, packet.ProtoTCP, nil))
		home, seen := n.connect("203.0.113.9:1000", pooledVIP)
		n.b.Backends[home].ID = fib.MakeID(home, 2)
		n.b.Backends[home].Addr = addr("198.18.10.99")
		n.repool(0)
		if method == fib.MethodNAT {
			_, v := n.one(1, reverse(seen))
			n.expect(v, reason.BackendGone)
		}
		v := n.tcp("203.0.113.9:1000", pooledVIP, ack)
		if v.Reason != reason.ResetReply || v.Backend != fib.NoIndex {
			t.Errorf("%v: %+v %v", method, v, v.Reason)
		}
	}
}

// TestSNATRemoved takes the SNAT address of a flow away.
func TestSNATRemoved(t *testing.T) {
	n := newNode(t, pooled(fib.MethodNAT, packet.ProtoTCP, nil))
	_, seen := n.connect("203.0.113.9:1000", pooledVIP)
	// Another address takes its place; IDs of addresses are not given out
	// again.
	n.b.SNATs[0] = fib.SNAT{Addr: addr("198.18.10.201"), Local: 50, PortFirst: 1024, PortLast: 65535}
	for i := range n.b.Locals {
		if n.b.Locals[i].Addr == addr("198.18.10.200") {
			n.b.Locals[i].Addr, n.b.Locals[i].ID = addr("198.18.10.201"), 50
		}
	}
	n.publish()
	_, v := n.one(1, reverse(seen))
	n.expect(v, reason.PassNotOurs)
	n.expect(n.tcp("203.0.113.9:1000", pooledVIP, ack), reason.ResetReply)
	_, seen = n.connect("203.0.113.9:1001", pooledVIP)
	var info packet.Info
	if packet.Parse(seen, &info); info.Src != addr("198.18.10.201") {
		t.Errorf("a new flow leaves from %v", info.Src)
	}
}

// TestClientMoves has a client's packets come through another gateway, then
// through another interface: replies follow.
func TestClientMoves(t *testing.T) {
	n := newNode(t, pooled(fib.MethodNAT, packet.ProtoTCP, nil))
	_, seen := n.connect("203.0.113.9:1000", pooledVIP)
	other := [6]byte{2, 0, 0, 0, 0, 77}
	for _, c := range []struct {
		port int
		mac  [6]byte
		ours [6]byte
	}{{0, other, ourMAC0}, {1, other, ourMAC1}, {1, clientMAC, ourMAC1}, {0, clientMAC, ourMAC0}} {
		_, v := n.one(c.port, packettest.TCP(packettest.AddrPort("203.0.113.9:1000"), packettest.AddrPort(pooledVIP),
			packettest.MACs(c.ours, c.mac), packettest.Flags(ack)))
		n.expect(v, reason.ForwardFlow)
		sent, v := n.one(1, reverse(seen))
		n.expect(v, reason.ReplyFlow)
		if len(sent[c.port]) != 1 || packet.Ethernet(sent[c.port][0]).DstMAC() != c.mac || packet.Ethernet(sent[c.port][0]).SrcMAC() != c.ours {
			t.Fatalf("the reply to %x at port %d is %x", c.mac, c.port, sent)
		}
	}
}

// TestResetFlowIsForgotten asserts that a connection which was reset from our
// side takes its place in the table for as long as a closed one does, not for as
// long as an established one.
func TestResetFlowIsForgotten(t *testing.T) {
	n := newNode(t, pooled(fib.MethodNAT, packet.ProtoTCP, nil))
	n.expect(n.tcp("203.0.113.9:1000", pooledVIP, syn), reason.ForwardNew)
	n.expect(n.tcp("203.0.113.9:1000", pooledVIP, ack), reason.ForwardFlow)
	for i := range n.b.Backends {
		n.b.Backends[i].Flags = fib.BackendDown
	}
	n.publish()
	n.expect(n.tcp("203.0.113.9:1000", pooledVIP, ack), reason.ResetReply)
	n.now += flow.Time(n.b.Timeouts[0].TCPClose)
	n.expect(n.tcp("203.0.113.9:1000", pooledVIP, ack), reason.TCPNotSYN)
}
