package selftest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/cmd/fairlead/internal/offline"
	"fairlead/configs"
	"fairlead/dataplane"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/ledger"
	"fairlead/dataplane/nic"
	"fairlead/dataplane/reason"
)

// MemoryResult is what packets cost in memory: from parsing to the written
// header, flow table, counters and the rings' bookkeeping included, without a
// kernel and without a NIC.
type MemoryResult struct {
	Method string `json:"method"`
	IPv6   bool   `json:"ipv6"`
	Flows  int    `json:"flows"`
	// One is a single worker; All is one on every CPU at once, which share a
	// flow table.
	One Speed  `json:"one"`
	All *Speed `json:"all,omitempty"` // nil where there is one CPU
}

// Speed is the cost of a packet.
type Speed struct {
	NS   float64 `json:"nsPerPacket"`  // CPU time
	Mpps float64 `json:"mppsPerCore"`  // 1000 / NS
	All  float64 `json:"mppsTogether"` // of all workers
}

func speedOf(ns float64, workers int) Speed {
	mpps := 1000 / max(ns, 0.1) // less than a tenth is no measurement
	return Speed{NS: ns, Mpps: mpps, All: mpps * float64(workers)}
}

// memoryMethods are measured one after the other.
var memoryMethods = []string{"nat", "ipip", "gue", "l2"}

// benchFlow is where the flows of the self-test come from and go to, by family.
// The addresses are those for benchmarks and for documentation.
var (
	client4, client6 = netip.MustParseAddrPort("198.19.0.0:1024"), netip.MustParseAddrPort("[2001:db8:19::]:1024")
	service4         = netip.MustParseAddrPort("198.18.100.1:80")
	service6         = netip.MustParseAddrPort("[2001:db8:100::1]:80")
)

// ttl is that of made-up packets that go nowhere.
const ttl = 64

// measureMemory measures every method, over both families, with each number of
// flows.
func measureMemory(ctx context.Context, d time.Duration, cpus, flowCounts []int, progress func(string)) ([]MemoryResult, error) {
	var results []MemoryResult
	for _, method := range memoryMethods {
		for _, v6 := range []bool{false, true} {
			for _, flows := range flowCounts {
				if ctx.Err() != nil {
					return nil, context.Cause(ctx)
				}
				r := MemoryResult{Method: method, IPv6: v6, Flows: flows}
				progress(fmt.Sprintf("in memory: %s, %s, %d flows", method, r.family(), flows))
				if err := r.measure(d, cpus); err != nil {
					return nil, fmt.Errorf("%s, %s, %d flows: %w", method, r.family(), flows, err)
				}
				results = append(results, r)
			}
		}
	}
	return results, nil
}

func (r *MemoryResult) family() string {
	if r.IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

func (r *MemoryResult) measure(d time.Duration, cpus []int) (err error) {
	ns, err := r.on(cpus[len(cpus)-1:], d)
	if err != nil {
		return err
	}
	r.One = speedOf(ns, 1)
	if len(cpus) == 1 {
		return nil
	}
	if ns, err = r.on(cpus, d); err != nil {
		return err
	}
	all := speedOf(ns, len(cpus))
	r.All = &all
	return nil
}

// on measures with a worker on each of the CPUs, and returns the mean of what a
// packet costs them.
func (r *MemoryResult) on(cpus []int, d time.Duration) (ns float64, err error) {
	snapshot, err := snapshotFor(r.Method, r.IPv6)
	if err != nil {
		return 0, err
	}
	each := max(1, r.Flows/len(cpus))
	size := max(1024, each*len(cpus)*5/4)
	memory, err := unix.Mmap(-1, 0, flow.Size(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return 0, fmt.Errorf("memory for the flow table: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Munmap(memory)) }()
	table, err := flow.New(memory, flow.Config{Flows: size, Workers: len(cpus)})
	if err != nil {
		return 0, err
	}
	var snapshots dataplane.Publisher
	snapshots.Publish(snapshot)
	frame := udpFrame(client4, service4, ttl)
	if r.IPv6 {
		frame = udpFrame(client6, service6, ttl)
	}
	type result struct {
		ns  float64
		err error
	}
	results := make(chan result, len(cpus))
	var opening sync.WaitGroup // until all flows are open
	opening.Add(len(cpus))
	for i, cpu := range cpus {
		go func() {
			var one result
			one.err = onCPU(cpu, func() (err error) {
				opened := sync.OnceFunc(opening.Done)
				defer opened()
				w, s, err := newWorker(i, frame, i*each, each, table, &snapshots)
				if err != nil {
					return err
				}
				one.ns, err = timePackets(w, s, d, func() { opened(); opening.Wait() })
				return err
			})
			results <- one
		}()
	}
	for range cpus {
		one := <-results
		ns, err = ns+one.ns/float64(len(cpus)), errors.Join(err, one.err)
	}
	return ns, err
}

// newWorker makes a worker whose only queue is a source of flows of its own.
func newWorker(index int, frame []byte, first, flows int, table *flow.Table, snapshots *dataplane.Publisher) (*dataplane.Worker, *source, error) {
	s, err := newSource(frame, first, flows)
	if err != nil {
		return nil, nil, err
	}
	now := flow.Time(1000)
	snapshot := snapshots.Current()
	w, err := dataplane.NewWorker(dataplane.Config{
		Pool: s.pool, Queues: []dataplane.PortQueue{{Queue: s}}, Flows: table, Index: index, Snapshots: snapshots,
		Counters: ledger.New(len(snapshot.Services()), len(snapshot.Backends())),
		Clock:    func() flow.Time { return now }, HoldMost: 64,
	})
	return w, s, err
}

// batches is how many batches pass between two looks at the clock.
const batches = 64

// timePackets opens all flows of a source, waits for the others, and then times
// packets of random ones. What making them up costs is not in the result.
func timePackets(w *dataplane.Worker, s *source, d time.Duration, wait func()) (ns float64, err error) {
	s.opening = true
	for w.Step() > 0 {
	}
	s.opening = false
	if err := accounted(w, s); err != nil {
		return 0, err
	}
	wait()
	ns, err = timed(s, d, func() { w.Step() })
	if err != nil {
		return 0, err
	}
	if err := accounted(w, s); err != nil {
		return 0, err
	}
	var frames [nic.BatchSize]nic.Frame
	own, err := timed(s, d/4, func() {
		for _, f := range frames[:s.Receive(frames[:])] {
			s.pool.Put(f.Addr)
		}
	})
	return max(0, ns-own), err
}

// timed is the CPU time that one of the source's packets takes in step.
func timed(s *source, d time.Duration, step func()) (ns float64, err error) {
	begin, made := time.Now(), s.made
	before, err := threadTime()
	if err != nil {
		return 0, err
	}
	for s.made == made || time.Since(begin) < d {
		for range batches {
			step()
		}
	}
	after, err := threadTime()
	return float64(after-before) / float64(s.made-made), err
}

// accounted checks that every packet was forwarded: anything else would be
// measured for it.
func accounted(w *dataplane.Worker, s *source) error {
	if err := w.Counters.Ledger.Check(); err != nil {
		return err
	}
	if sent := w.Counters.Ledger.Sum(reason.Transmit); sent != s.made || s.sent != s.made {
		var why []string
		for _, r := range reason.All() {
			if n := w.Counters.Ledger.Ended[r]; n > 0 {
				why = append(why, fmt.Sprintf("%s %d", r, n))
			}
		}
		return fmt.Errorf("%d of %d packets were forwarded: %s", sent, s.made, strings.Join(why, ", "))
	}
	return nil
}

// Sizes of the self-test's configuration: enough SNAT ports for MaxFlows flows.
const (
	testBackends = 16
	testSNAT     = 12
)

// snapshotFor compiles a configuration with one service.
func snapshotFor(method string, v6 bool) (*fib.Snapshot, error) {
	cfg, err := configs.Parse("self-test", []byte(testConfig(method, v6)))
	if err != nil {
		return nil, err
	}
	snapshot, warnings, err := offline.Snapshot(cfg)
	if err == nil && len(warnings) > 0 {
		err = errors.New(strings.Join(warnings, "; "))
	}
	return snapshot, err
}

func testConfig(method string, v6 bool) string {
	vip, backends, snat := service4.Addr(), netip.MustParseAddr("198.18.10.11"), netip.MustParseAddr("198.18.10.201")
	if v6 {
		vip, backends, snat = service6.Addr(), netip.MustParseAddr("2001:db8:10::11"), netip.MustParseAddr("2001:db8:10::201")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "[tunnel]\nsource_ipv4 = \"198.18.10.1\"\nsource_ipv6 = \"2001:db8:10::1\"\n[[interface]]\nname = \"test\"\n")
	for range testSNAT {
		fmt.Fprintf(&b, "[[snat]]\naddress = %q\n", snat)
		snat = snat.Next()
	}
	pool := "[[pool]]\nname = \"test\"\n"
	for i := range testBackends {
		fmt.Fprintf(&b, "[[neighbor]]\naddress = %q\nmac = \"02:00:00:00:01:%02x\"\ninterface = \"test\"\n", backends, i)
		pool += fmt.Sprintf("[[pool.backend]]\naddress = %q\n", backends)
		backends = backends.Next()
	}
	fmt.Fprintf(&b, "%s[[service]]\nname = \"test\"\nvip = %q\nprotocol = \"udp\"\nport = 80\npool = \"test\"\nmethod = %q\n", pool, vip, method)
	return b.String()
}
