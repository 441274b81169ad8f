package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"fairlead/configs"
	"fairlead/controlplane/compile"
	"fairlead/dataplane"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/ledger"
	"fairlead/dataplane/nic"
	"fairlead/dataplane/nic/nictest"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
	"fairlead/perf/lab"
	"fairlead/xdp"
	"fairlead/xdp/handover"
	"fairlead/xdp/steer"
)

// pathConfig has each method in both families, on addresses that need no
// network: all MAC addresses are given.
const pathConfig = `
[node]
hash_seed = "path"
[[interface]]
name = "eth0"
mac = "02:00:00:00:01:00"
mtu = 1500
[[interface]]
name = "eth1"
mac = "02:00:00:00:01:01"
mtu = 1500
[tunnel]
source_ipv4 = "198.18.10.1"
source_ipv6 = "2001:db8:10::1"
[[snat]]
address = "198.18.10.200"
[[snat]]
address = "2001:db8:10::200"
[[neighbor]]
address = "198.18.10.11"
mac = "02:00:00:00:02:11"
interface = "eth1"
[[neighbor]]
address = "2001:db8:10::11"
mac = "02:00:00:00:02:11"
interface = "eth1"
[[pool]]
name = "four"
[[pool.backend]]
address = "198.18.10.11"
[[pool]]
name = "six"
[[pool.backend]]
address = "2001:db8:10::11"
`

var (
	pathClient  = [6]byte{2, 0, 0, 0, 0, 1}
	pathNode    = [2][6]byte{{2, 0, 0, 0, 1, 0}, {2, 0, 0, 0, 1, 1}}
	pathBackend = [6]byte{2, 0, 0, 0, 2, 0x11}
)

// pathWire is what a worker sits between: queues in memory, or sockets on real
// interfaces.
type pathWire struct {
	pool   *nic.Pool
	queues []dataplane.PortQueue
	inject func(port int, frame []byte)
	sent   func(port int) [][]byte // what left since the last call and was addressed to a station of the test
}

// TestPathInMemoryAndOnAFXDP sends the same frames through the same worker, once
// over rings in memory and once over AF_XDP sockets on veth pairs, and asserts
// the same bytes in the same order at every port, and a balanced ledger.
func TestPathInMemoryAndOnAFXDP(t *testing.T) {
	snapshot := pathSnapshot(t)
	var memory [][2][][]byte
	t.Run("memory", func(t *testing.T) { memory = runPath(t, snapshot, memoryWire(t)) })
	t.Run("AF_XDP", func(t *testing.T) {
		real := runPath(t, snapshot, realWire(t, snapshot))
		for step := range memory {
			for port := range memory[step] {
				if a, b := memory[step][port], real[step][port]; !equalFrames(a, b) {
					t.Errorf("step %d, port %d: in memory\n%x\non AF_XDP\n%x", step, port, a, b)
				}
			}
		}
	})
}

func equalFrames(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// pathServices is each service's method, VIP and pool.
func pathServices() (list [][3]string) {
	n := 0
	for _, m := range []string{"nat", "l2", "ipip", "gue"} {
		for _, c := range [][2]string{{"198.18.100.%d", "four"}, {"2001:db8:100::%d", "six"}, {"198.18.100.%d", "six"}, {"2001:db8:100::%d", "four"}} {
			if crosses := (c[0][0] == '1') != (c[1] == "four"); crosses && (m == "nat" || m == "l2") {
				continue
			}
			n++
			list = append(list, [3]string{m, fmt.Sprintf(c[0], n), c[1]})
		}
	}
	return list
}

func pathSnapshot(t *testing.T) *fib.Snapshot {
	text := pathConfig
	for _, s := range pathServices() {
		text += fmt.Sprintf("[[service]]\nname = \"%[1]s %[2]s\"\nvip = %[2]q\nprotocol = \"udp\"\nport = 53\npool = %[3]q\nmethod = %[1]q\n", s[0], s[1], s[2])
	}
	cfg, err := configs.Parse("path.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	result, err := compile.Compile(&cfg.State, cfg.StaticObservations(), nil, compile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	image, err := result.Builder.Encode(1)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := fib.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	return snapshot
}

// runPath is the test's body. It returns what each step sent.
func runPath(t *testing.T, snapshot *fib.Snapshot, wire *pathWire) (outputs [][2][][]byte) {
	var snapshots dataplane.Publisher
	snapshots.Publish(snapshot)
	table, err := flow.New(make([]byte, flow.Size(4096)), flow.Config{Flows: 4096, Workers: 1, Seed: [2]uint64{1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	var last dataplane.Verdict
	ended := 0
	counters := ledger.New(256, 256)
	worker, err := dataplane.NewWorker(dataplane.Config{Pool: wire.pool, Queues: wire.queues, Flows: table, Snapshots: &snapshots,
		Counters: counters, Clock: func() flow.Time { return 1000 }, HoldMost: 16,
		Trace: func(_ uint64, v dataplane.Verdict) { last = v; ended++ }})
	if err != nil {
		t.Fatal(err)
	}
	worker.Step()
	// through sends one frame and collects the frames it causes.
	through := func(port int, frame []byte, want reason.Reason) [2][][]byte {
		t.Helper()
		var out [2][][]byte
		before := ended
		wire.inject(port, frame)
		deadline := time.Now().Add(5 * time.Second)
		for got := 0; ended == before || want.Action() == reason.Transmit && got == 0; {
			worker.Step()
			for p := range out {
				frames := wire.sent(p)
				out[p] = append(out[p], frames...)
				got += len(frames)
			}
			if time.Now().After(deadline) {
				t.Fatalf("nothing came of the frame: %d ended, last %+v", ended-before, last)
			}
		}
		if last.Reason != want {
			t.Fatalf("verdict %v instead of %v", last.Reason, want)
		}
		for p := range out {
			for _, f := range out[p] {
				if err := packettest.Verify(f, 6080); err != nil {
					t.Errorf("%v: %v", want, err)
				}
			}
		}
		outputs = append(outputs, out)
		return out
	}
	for i, s := range pathServices() {
		vip, client := netip.MustParseAddr(s[1]), netip.MustParseAddr("203.0.113.9")
		if vip.Is6() {
			client = netip.MustParseAddr("2001:db8:20::9")
		}
		src, dst := netip.AddrPortFrom(client, uint16(4000+i)), netip.AddrPortFrom(vip, 53)
		macs := packettest.MACs(pathNode[0], pathClient)
		query := packettest.UDP(src, dst, macs, packettest.PayloadLen(64))
		first := through(0, query, reason.ForwardNew)
		through(0, query, reason.ForwardFlow)
		through(0, packettest.UDP(src, dst, macs, packettest.PayloadLen(64), packettest.VLAN(100)), reason.ForwardFlow)
		through(0, packettest.UDP(src, dst, macs, packettest.PayloadLen(64), packettest.VLAN(200, 100)), reason.ForwardFlow)
		through(0, packettest.UDP(src, dst, macs, packettest.TTL(1)), reason.TTLExpiredReply)
		through(0, packettest.UDP(src, netip.AddrPortFrom(vip, 54), macs), reason.ServiceNotFound)
		through(0, packettest.Echo(client, vip, 1, uint16(i), macs), reason.EchoReply)
		if vip.Is4() {
			through(0, packettest.ARPRequest(client, vip, packettest.MACs([6]byte{255, 255, 255, 255, 255, 255}, pathClient)), reason.ARPReply)
		} else {
			through(0, packettest.NeighborSolicit(client, vip, packettest.MACs([6]byte{0x33, 0x33, 0xff, 0, 0, uint8(1 + i)}, pathClient)), reason.NeighborAdvert)
		}
		if s[0] != "nat" {
			continue
		}
		var info packet.Info
		if r := packet.Parse(first[1][0], &info); r != reason.None {
			t.Fatal(r)
		}
		through(1, packettest.UDP(netip.AddrPortFrom(info.Dst.Netip(), info.DstPort), netip.AddrPortFrom(info.Src.Netip(), info.SrcPort),
			packettest.MACs(pathNode[1], pathBackend), packettest.PayloadLen(100)), reason.ReplyFlow)
	}
	if err := counters.Ledger.Check(); err != nil {
		t.Error(err)
	}
	return outputs
}

func memoryWire(t *testing.T) *pathWire {
	pool, err := nic.NewPool(make([]byte, 1024*2048), 2048, 256)
	if err != nil {
		t.Fatal(err)
	}
	w := &pathWire{pool: pool}
	var queues [2]*nictest.Queue
	for port := range queues {
		queues[port] = nictest.New(pool, nictest.Config{Port: uint16(port), FillSize: 256})
		w.queues = append(w.queues, dataplane.PortQueue{Port: uint16(port), Queue: queues[port]})
	}
	w.inject = func(port int, frame []byte) { queues[port].Inject(frame) }
	w.sent = func(port int) [][]byte { return queues[port].Sent() }
	return w
}

// realWire is two veth pairs with the steering program and AF_XDP sockets on
// the near ends, and packet sockets on the far ones.
func realWire(t *testing.T, snapshot *fib.Snapshot) *pathWire {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := lab.New()
	must(err)
	t.Cleanup(func() { l.Close() })
	node, err := l.AddHost("node")
	must(err)
	far, err := l.AddHost("far")
	must(err)
	umem, err := xdp.NewUMEM(xdp.UMEMConfig{Chunks: 8192})
	must(err)
	s, err := steer.Open(steer.Config{})
	must(err)
	t.Cleanup(func() { s.Remove() })
	var locals []steer.Local
	snapshot.Locals(func(l *fib.Local) bool {
		kind := map[fib.LocalKind]steer.Kind{fib.LocalVIP: steer.VIP, fib.LocalSNAT: steer.SNAT, fib.LocalTunnel: steer.Tunnel}[l.Kind]
		locals = append(locals, steer.Local{Addr: l.Addr.Netip(), Kind: kind, AnswerARP: l.Flags&fib.LocalAnswerARP != 0})
		return true
	})
	_, _, err = s.SetLocals(locals)
	must(err)
	var queues []*xdp.Queue
	var wires [2]*lab.PacketConn
	for port := range wires {
		near, _, err := l.Cable(node, fmt.Sprintf("eth%d", port), far, fmt.Sprintf("far%d", port), lab.LinkConfig{})
		must(err)
		must(node.Do(func() error {
			if _, err := s.Attach(near.Index, near.Name, steer.ModeNative); err != nil {
				return err
			}
			socket, err := xdp.Open(xdp.SocketConfig{IfIndex: near.Index, IfName: near.Name, Port: uint16(port), UMEM: umem, NeedWakeup: true})
			if err != nil {
				return err
			}
			if err := s.SetSocket(near.Index, 0, socket.FD()); err != nil {
				return err
			}
			q, err := xdp.Attach(socket.FD(), umem, socket.Geometry())
			if err == nil {
				t.Cleanup(func() { q.Close() })
			}
			queues = append(queues, q)
			return err
		}))
		wires[port], err = far.PacketConn(fmt.Sprintf("far%d", port))
		must(err)
		t.Cleanup(func() { wires[port].Close() })
	}
	pool, _, err := handover.Adopt(umem, queues...)
	must(err)
	w := &pathWire{pool: pool}
	for port, q := range queues {
		w.queues = append(w.queues, dataplane.PortQueue{Port: uint16(port), Queue: q})
	}
	w.inject = func(port int, frame []byte) { must(wires[port].WriteFrame(frame)) }
	w.sent = func(port int) (frames [][]byte) {
		for {
			must(wires[port].SetReadDeadline(time.Now().Add(time.Millisecond)))
			frame, err := wires[port].ReadFrame()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return frames
			}
			must(err)
			// The kernel's own frames (neighbour discovery of the far ends) are
			// none of the test's.
			if to := net.HardwareAddr(frame[:6]); bytes.Equal(to, pathClient[:]) || bytes.Equal(to, pathBackend[:]) {
				frames = append(frames, bytes.Clone(frame))
			}
		}
	}
	return w
}
