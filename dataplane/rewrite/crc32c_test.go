package rewrite

import (
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// The difference must be what two full computations say, for every length an
// SCTP packet can have near the table's page borders and for random ones.
func TestCRCDifference(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	lengths := []int{4, 5, 12, 255, 256, 257, 511, 512, 1480, 65280, 65534, 65535}
	for n := 4; n < 600; n++ {
		lengths = append(lengths, n)
	}
	for range 100 {
		lengths = append(lengths, 4+rng.IntN(65532))
	}
	for _, n := range lengths {
		message := make([]byte, n)
		for i := range message {
			message[i] = byte(rng.Uint32())
		}
		before := crc32.Checksum(message, castagnoli)
		from := binary.LittleEndian.Uint32(message)
		to := rng.Uint32()
		binary.LittleEndian.PutUint32(message, to)
		after := crc32.Checksum(message, castagnoli)
		if got, want := crcDifference(from, to, n), before^after; got != want {
			t.Fatalf("length %d: difference is %#08x, the full computations differ by %#08x", n, got, want)
		}
	}
}

func BenchmarkCRCDifference(b *testing.B) {
	var sink uint32
	for i := range b.N {
		sink ^= crcDifference(uint32(i), 0x1234, 1480)
	}
	_ = sink
}
