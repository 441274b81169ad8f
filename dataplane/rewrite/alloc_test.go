package rewrite

import (
	"testing"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

// operation is one rewrite, as the allocation test and the benchmarks run it:
// again and again on the same frame, which is put back in place each time.
type operation struct {
	name  string
	frame []byte
	do    func(b *Buf, info *packet.Info) reason.Reason
	// rebuild says that the rewrite destroys its input, so that a copy is
	// restored before each run.
	rebuild bool
}

func operations() []operation {
	there4, back4 := natArgs(snatEnd4, backendEnd4), natArgs(clientEnd4, vipEnd4)
	there6, back6 := natArgs(snatEnd6, backendEnd6), natArgs(clientEnd6, vipEnd6)
	// NAT there and back again, so that every run changes something.
	turn := func(there, back *NATArgs) func(*Buf, *packet.Info) reason.Reason {
		to := there
		return func(b *Buf, info *packet.Info) reason.Reason {
			r := NAT(b.Frame(), info, to)
			if to == there {
				to = back
			} else {
				to = there
			}
			return r
		}
	}
	ipip4, ipip6 := outerArgs(tunnel4, backend4), outerArgs(tunnel6, backend6)
	gue4 := GUEArgs{OuterArgs: ipip4, SrcPort: 50000, DstPort: packet.GUEPort}
	gue6 := GUEArgs{OuterArgs: ipip6, SrcPort: 50000, DstPort: packet.GUEPort}
	gue6zero := gue6
	gue6zero.ZeroUDP6 = true
	pushIPIP := func(args *OuterArgs) func(*Buf, *packet.Info) reason.Reason {
		return func(b *Buf, info *packet.Info) reason.Reason { return IPIP(b, info, args) }
	}
	pushGUE := func(args *GUEArgs) func(*Buf, *packet.Info) reason.Reason {
		return func(b *Buf, info *packet.Info) reason.Reason { return GUE(b, info, args) }
	}
	vip4Addr, vip6Addr := addr(vip4), addr(vip6)
	second := make([]byte, 2048)

	udp4 := packettest.UDP(ap(clientEnd4), ap(vipEnd4), packettest.PayloadLen(18))
	udp6 := packettest.UDP(ap(clientEnd6), ap(vipEnd6), packettest.PayloadLen(18))
	big4 := packettest.UDP(ap(clientEnd4), ap(vipEnd4), packettest.PayloadLen(1400))
	big6 := packettest.UDP(ap(clientEnd6), ap(vipEnd6), packettest.PayloadLen(1380))
	tcp4 := packettest.TCP(ap(clientEnd4), ap(vipEnd4))
	error4 := packettest.ICMPError(ip(router4), ip(snat4), 3, 4, packettest.TCP(ap(snatEnd4), ap(backendEnd4), packettest.PayloadLen(1400)))
	error6 := packettest.ICMPError(ip(router6), ip(snat6), 2, 0, packettest.TCP(ap(snatEnd6), ap(backendEnd6), packettest.PayloadLen(1400)))
	return []operation{
		{name: "NAT/TCP4", frame: tcp4, do: turn(there4, back4)},
		{name: "NAT/UDP4", frame: udp4, do: turn(there4, back4)},
		{name: "NAT/UDP6", frame: udp6, do: turn(there6, back6)},
		{name: "NAT/SCTP4", frame: packettest.SCTP(ap(clientEnd4), ap(vipEnd4), packettest.PayloadLen(1400)), do: turn(there4, back4)},
		{name: "IPIP/4in4", frame: udp4, do: pushIPIP(&ipip4)},
		{name: "IPIP/6in6", frame: udp6, do: pushIPIP(&ipip6)},
		{name: "IPIP/4in6", frame: udp4, do: pushIPIP(&ipip6)},
		{name: "IPIP/6in4", frame: udp6, do: pushIPIP(&ipip4)},
		{name: "IPIP/4in4_tagged", frame: packettest.UDP(ap(clientEnd4), ap(vipEnd4), packettest.VLAN(5, 6)), do: pushIPIP(&ipip4), rebuild: true},
		{name: "GUE/4in4", frame: udp4, do: pushGUE(&gue4)},
		{name: "GUE/6in4_1428", frame: big6, do: pushGUE(&gue4)},
		{name: "GUE/4in6", frame: udp4, do: pushGUE(&gue6)},
		{name: "GUE/4in6_1428", frame: big4, do: pushGUE(&gue6)},
		{name: "GUE/4in6_1428_zero", frame: big4, do: pushGUE(&gue6zero)},
		{name: "L2", frame: udp4, do: func(b *Buf, _ *packet.Info) reason.Reason {
			SetMACs(b.Frame(), nextHopMAC, nodeMAC)
			return reason.None
		}},
		{name: "TTL/IPv4", frame: udp4, do: func(b *Buf, info *packet.Info) reason.Reason {
			DecrementTTL(b.Frame(), info)
			return reason.None
		}},
		{name: "TTL/IPv6", frame: udp6, do: func(b *Buf, info *packet.Info) reason.Reason {
			DecrementTTL(b.Frame(), info)
			return reason.None
		}},
		{name: "ClampMSS", frame: packettest.TCP(ap(clientEnd4), ap(vipEnd4), packettest.MSS(1460)), rebuild: true,
			do: func(b *Buf, info *packet.Info) reason.Reason {
				ClampMSS(b.Frame(), info, 1400)
				return reason.None
			}},
		{name: "EchoReply/IPv4", frame: packettest.Echo(ip(client4), ip(vip4), 1, 2, packettest.PayloadLen(56)), do: EchoReply, rebuild: true},
		{name: "EchoReply/IPv6", frame: packettest.Echo(ip(client6), ip(vip6), 1, 2, packettest.PayloadLen(56)), do: EchoReply, rebuild: true},
		{name: "ARPReply", frame: packettest.ARPRequest(ip(client4), ip(vip4)), rebuild: true,
			do: func(b *Buf, info *packet.Info) reason.Reason { return ARPReply(b.Frame(), info, nodeMAC) }},
		{name: "NeighborAdvert", frame: packettest.NeighborSolicit(ip(client6), ip(vip6)), rebuild: true,
			do: func(b *Buf, info *packet.Info) reason.Reason { return NeighborAdvert(b, info, nodeMAC) }},
		{name: "TooBig/IPv4", frame: big4, rebuild: true,
			do: func(b *Buf, info *packet.Info) reason.Reason { return TooBig(b, info, vip4Addr, 1380) }},
		{name: "TooBig/IPv6", frame: big6, rebuild: true,
			do: func(b *Buf, info *packet.Info) reason.Reason { return TooBig(b, info, vip6Addr, 1380) }},
		{name: "TimeExceeded/IPv4", frame: udp4, rebuild: true,
			do: func(b *Buf, info *packet.Info) reason.Reason { return TimeExceeded(b, info, vip4Addr) }},
		{name: "Unreachable/IPv6", frame: udp6, rebuild: true,
			do: func(b *Buf, info *packet.Info) reason.Reason { return Unreachable(b, info, vip6Addr, 4) }},
		{name: "Reset/IPv4", frame: tcp4, do: Reset, rebuild: true},
		{name: "Reset/IPv6", frame: packettest.TCP(ap(clientEnd6), ap(vipEnd6)), do: Reset, rebuild: true},
		{name: "ICMPToClient/IPv4", frame: error4,
			do: func(b *Buf, info *packet.Info) reason.Reason { return ICMPToClient(b.Frame(), info, there4) }},
		{name: "ICMPToBackend/IPv6", frame: error6,
			do: func(b *Buf, info *packet.Info) reason.Reason { return ICMPToBackend(b.Frame(), info, there6) }},
		{name: "Split4", frame: big4, rebuild: true,
			do: func(b *Buf, info *packet.Info) reason.Reason {
				if _, _, ok := Split4(b.Frame(), info, 1300, second); !ok {
					return reason.TooBig
				}
				return reason.None
			}},
		{name: "MayReply", frame: tcp4, do: func(b *Buf, info *packet.Info) reason.Reason {
			if !MayReply(b.Frame(), info) || !MayReset(b.Frame(), info) {
				return reason.SourceInvalid
			}
			return reason.None
		}},
	}
}

// restore puts the frame back where the next run finds it.
func (op *operation) restore(b *Buf) {
	b.Start, b.End = testHeadroom, testHeadroom+len(op.frame)
	if op.rebuild {
		copy(b.Chunk[testHeadroom:], op.frame)
	}
}

func TestNothingAllocates(t *testing.T) {
	for _, op := range operations() {
		b := newBuf(op.frame)
		info := parse(t, op.frame)
		r := reason.None
		allocs := testing.AllocsPerRun(100, func() {
			op.restore(b)
			if got := op.do(b, info); got != reason.None {
				r = got
			}
		})
		if r != reason.None {
			t.Errorf("%s: reason is %v", op.name, r)
		}
		if allocs != 0 {
			t.Errorf("%s allocates %v times", op.name, allocs)
		}
	}
}

// BenchmarkRewrite is the time of each rewrite of one packet that is in the
// cache. Where the rewrite destroys its input, restoring it is counted in.
func BenchmarkRewrite(b *testing.B) {
	for _, op := range operations() {
		b.Run(op.name, func(b *testing.B) {
			buf := newBuf(op.frame)
			info := parse(b, op.frame)
			b.ReportAllocs()
			for b.Loop() {
				op.restore(buf)
				op.do(buf, info)
			}
		})
	}
}
