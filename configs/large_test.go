package configs

import (
	"fmt"
	"strings"
	"testing"
)

// large is a file of 10,000 services with a pool of 10 backends each.
func large() []byte {
	var b strings.Builder
	b.WriteString("[[snat]]\naddress = \"198.18.0.1-198.18.0.16\"\n")
	for i := range 10_000 {
		fmt.Fprintf(&b, "\n[[pool]]\nname = \"pool-%d\"\n", i)
		for j := range 10 {
			n := i*10 + j
			fmt.Fprintf(&b, "[[pool.backend]]\naddress = \"10.%d.%d.%d:8080\"\nweight = %d\n", n>>16, n>>8&255, n&255, 1+j%3)
		}
		fmt.Fprintf(&b, "[[service]]\nname = \"service-%d\"\nvip = \"198.19.%d.%d\"\nprotocol = \"tcp\"\nport = 443\npool = \"pool-%d\"\n", i, i>>8, i&255, i)
	}
	return []byte(b.String())
}

func TestLargeFile(t *testing.T) {
	c, err := Parse("large.toml", large())
	if err != nil {
		t.Fatal(err)
	}
	if len(c.State.Services) != 10_000 || len(c.State.Pools) != 10_000 || len(c.State.Pools[9_999].Backends) != 10 {
		t.Errorf("%d services, %d pools", len(c.State.Services), len(c.State.Pools))
	}
}

func BenchmarkParseLarge(b *testing.B) {
	data := large()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("large.toml", data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkScanPositions(b *testing.B) {
	src := string(large())
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		if _, stop := scanPositions(src); stop != nil {
			b.Fatal(stop)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	src := string(large())
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		if _, err := decode(src); err != nil {
			b.Fatal(err)
		}
	}
}
