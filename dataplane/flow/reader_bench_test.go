package flow

import "testing"

// BenchmarkReader reads all records of a table with a million flows.
func BenchmarkReader(b *testing.B) {
	const flows = 1_000_000
	mem := memory(flows)
	tab, err := New(mem, Config{Flows: flows, Workers: 1})
	if err != nil {
		b.Fatal(err)
	}
	for i := range flows * 9 / 10 {
		f := Flow{Client: client(i), ClientPort: uint16(i), VIP: 1, VIPPort: 80, Proto: protoTCP, ServiceID: 1, BackendID: 2}
		if _, ok := tab.Worker(0).Insert(&f, 0, 1_000_000); !ok {
			b.Fatal("no room")
		}
	}
	r, err := NewReader(mem, flows)
	if err != nil {
		b.Fatal(err)
	}
	var f Flow
	for b.Loop() {
		n := 0
		for i := range r.Len() {
			if r.Read(i, 1, &f) {
				n++
			}
		}
		if n != flows*9/10 {
			b.Fatalf("%d flows", n)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/flows, "ns/record")
}
