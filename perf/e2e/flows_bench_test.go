package e2e

import (
	bits "encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"fairlead/controlplane/api"
	"fairlead/dataplane/packet/packettest"
	"fairlead/perf/lab"
	"fairlead/perf/rig"
)

// BenchmarkFlowListing opens a million flows and lists them again and again while
// packets of them pass as fast as one thread makes them: what a listing takes,
// in time, CPU and memory of the control process, and how many packets a second
// pass with a listing under way and without, in windows that take turns.
func BenchmarkFlowListing(b *testing.B) {
	const flows = 200_000
	topo, err := lab.TwoArm(lab.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer topo.Close()
	vip := topo.VIP4(1)
	c := rig.Config{
		Options: "[timeouts]\nudp = \"1h\"\nudp_stream = \"1h\"\n[dataplane]\nflow_table_size = 1200000\nflow_memo = \"off\"\n", Neighbors: rig.Neighbors(topo.Back.Interface, topo.Backends...),
		Interfaces: []rig.Interface{{Name: topo.Front.Interface.Name}, {Name: topo.Back.Interface.Name}},
		Pools:      []rig.Pool{{Name: "name"}},
		Services:   []rig.Service{{Name: "name", VIP: vip, Protocol: "udp", Port: namePort, Pool: "name", Method: "l2"}},
	}
	for _, n := range topo.Backends {
		c.Pools[0].Backends = append(c.Pools[0].Backends, rig.Backend{Address: n.IPv4, Weight: 1, Name: n.Name})
	}
	node, err := rig.Start(b.Context(), binary, b.TempDir(), topo.LB, c.Text())
	if err != nil {
		b.Fatal(err)
	}
	defer node.Stop()
	wire, err := topo.Client.PacketConn(topo.Client.Interface.Name)
	if err != nil {
		b.Fatal(err)
	}
	defer wire.Close()
	var stop atomic.Bool
	ended := make(chan error, 1)
	go func() {
		frame := packettest.UDP(netip.MustParseAddrPort("198.19.0.0:1024"), netip.AddrPortFrom(vip, namePort),
			packettest.MACs(mac(topo.Front.Interface), mac(topo.Client.Interface)), packettest.NoUDPChecksum())
		sum := uint32(^bits.BigEndian.Uint16(frame[24:]))
		for i := uint32(0); !stop.Load(); i = (i + 1) % flows {
			low := uint16(i)
			bits.BigEndian.PutUint16(frame[28:], low)
			bits.BigEndian.PutUint16(frame[34:], uint16(1024+i>>16))
			s := sum + uint32(low)
			bits.BigEndian.PutUint16(frame[24:], ^uint16(s+s>>16))
			if err := wire.WriteFrame(frame); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	client := api.NewClient(node.Socket)
	status := func() *api.Status {
		s, err := node.Status(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	for status().Services[0].Flows < flows*95/100 {
		time.Sleep(100 * time.Millisecond)
	}
	pid := node.Process().Pid()
	cpu := func() time.Duration {
		used, err := rig.CPUTime(pid)
		if err != nil {
			b.Fatal(err)
		}
		return used
	}
	var rates [2]float64
	var took, used time.Duration
	listed, rounds := 0, 0
	window := func(listing bool) {
		before, at, usedBefore := status().Ledger.Transmitted, time.Now(), cpu()
		end := 2 * time.Second
		if listing {
			listed = 0
			if err := client.Flows(b.Context(), api.FlowQuery{}, func(s *api.FlowBatch) error { listed += len(s.Flows); return nil }); err != nil {
				b.Fatal(err)
			}
			took += time.Since(at)
			used += cpu() - usedBefore
		} else {
			time.Sleep(end)
		}
		rate := float64(status().Ledger.Transmitted-before) / time.Since(at).Seconds()
		if listing {
			rates[1] += rate
		} else {
			rates[0] += rate
		}
	}
	for b.Loop() {
		rounds++
		window(false)
		window(true)
	}
	stop.Store(true)
	if err := <-ended; err != nil {
		b.Error(err)
	}
	n := float64(rounds)
	b.ReportMetric(rates[0]/n, "packets/s-alone")
	b.ReportMetric(rates[1]/n, "packets/s-listing")
	b.ReportMetric(took.Seconds()/n, "s/listing")
	b.ReportMetric(used.Seconds()/n, "cpu-s/listing")
	b.ReportMetric(float64(listed), "flows")
	fields, err := rig.ProcessStatus(pid)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%d rounds; the control process had at most %s resident, %s now", rounds, fields["VmHWM"], fields["VmRSS"])
	begin := time.Now()
	if _, err := client.CountFlows(b.Context(), api.FlowCountQuery{By: "backend"}); err != nil {
		b.Fatal(err)
	}
	b.Logf("counted in %v", time.Since(begin))
	fmt.Fprintln(b.Output(), status().Ledger.Reasons)
}
