package rewrite

import (
	"bytes"
	"encoding/hex"
	"testing"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

// Room around frames in tests: what the worker has.
const (
	testChunk    = 4096
	testHeadroom = 256
)

// newBuf puts a frame into a chunk whose other bytes are garbage, as those of a
// chunk in use are.
func newBuf(frame []byte) *Buf {
	chunk := bytes.Repeat([]byte{0xa5}, testChunk)
	copy(chunk[testHeadroom:], frame)
	return &Buf{Chunk: chunk, Start: testHeadroom, End: testHeadroom + len(frame)}
}

// parse is packet.Parse of a frame that the test means to be good.
func parse(t testing.TB, frame []byte) *packet.Info {
	t.Helper()
	info := new(packet.Info)
	if r := packet.Parse(frame, info); r != reason.None {
		t.Fatalf("the frame does not parse: %v\n%s", r, hex.Dump(frame))
	}
	return info
}

// verify is what must hold of every frame that leaves: an independent decoder
// accepts it with all its lengths and checksums, and so does our parser.
func verify(t testing.TB, frame []byte) *packet.Info {
	t.Helper()
	if err := packettest.Verify(frame, packet.GUEPort); err != nil {
		t.Fatalf("the frame does not verify: %v\n%s", err, hex.Dump(frame))
	}
	return parse(t, frame)
}

// addr is an address as the rewrites take it.
func addr(s string) packet.Addr { return packet.AddrFrom(packettest.Addr(s)) }

func natArgs(src, dst string) *NATArgs {
	s, d := packettest.AddrPort(src), packettest.AddrPort(dst)
	return &NATArgs{Src: packet.AddrFrom(s.Addr()), SrcPort: s.Port(), Dst: packet.AddrFrom(d.Addr()), DstPort: d.Port()}
}
