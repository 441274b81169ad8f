package rewrite

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

var writeSeeds = flag.Bool("write-seeds", false, "write the fuzz targets' seed corpora under testdata")

// seeds are the frames that every fuzz target begins with.
func seeds() map[string][]byte {
	payload := packettest.PayloadLen(40)
	tags := packettest.VLAN(5, 6)
	sent4 := packettest.TCP(ap(snatEnd4), ap(backendEnd4), payload)
	sent6 := packettest.UDP(ap(snatEnd6), ap(backendEnd6), payload)
	return map[string][]byte{
		"tcp4":              packettest.TCP(ap(clientEnd4), ap(vipEnd4), payload),
		"tcp4_syn":          packettest.TCP(ap(clientEnd4), ap(vipEnd4), packettest.TCPOptions(1, 2, 4, 5, 180, 4, 2)),
		"tcp4_options_tags": packettest.TCP(ap(clientEnd4), ap(vipEnd4), payload, tags, packettest.IPOptions(148, 4, 0, 0, 7, 3, 4)),
		"tcp4_trailer":      packettest.TCP(ap(clientEnd4), ap(vipEnd4), packettest.Trailer(6)),
		"tcp6":              packettest.TCP(ap(clientEnd6), ap(vipEnd6), payload, packettest.MSS(1440)),
		"tcp6_extensions":   packettest.TCP(ap(clientEnd6), ap(vipEnd6), tags, packettest.HopByHop(1), packettest.DestOpts(2)),
		"udp4":              packettest.UDP(ap(clientEnd4), ap(vipEnd4), payload),
		"udp4_no_checksum":  packettest.UDP(ap(clientEnd4), ap(vipEnd4), payload, packettest.NoUDPChecksum()),
		"udp4_first":        packettest.UDP(ap(clientEnd4), ap(vipEnd4), payload, packettest.Fragment(0, true, 7)),
		"udp4_later":        packettest.UDP(ap(clientEnd4), ap(vipEnd4), payload, packettest.Fragment(48, false, 7)),
		"udp6":              packettest.UDP(ap(clientEnd6), ap(vipEnd6), payload),
		"udp6_atomic":       packettest.UDP(ap(clientEnd6), ap(vipEnd6), payload, packettest.Fragment(0, false, 7)),
		"udp6_later":        packettest.UDP(ap(clientEnd6), ap(vipEnd6), payload, packettest.Fragment(48, true, 7)),
		"sctp4":             packettest.SCTP(ap(clientEnd4), ap(vipEnd4), payload),
		"sctp6":             packettest.SCTP(ap(clientEnd6), ap(vipEnd6), payload, packettest.DestOpts(1)),
		"echo4":             packettest.Echo(ip(client4), ip(vip4), 1, 2, payload),
		"echo6":             packettest.Echo(ip(client6), ip(vip6), 1, 2, payload, tags),
		"error4":            packettest.ICMPError(ip(router4), ip(snat4), 3, 4, sent4),
		"error4_short":      packettest.ICMPError(ip(router4), ip(snat4), 11, 0, sent4, packettest.QuoteLen(28)),
		"error4_sctp":       packettest.ICMPError(ip(router4), ip(snat4), 3, 1, packettest.SCTP(ap(snatEnd4), ap(backendEnd4))),
		"error6":            packettest.ICMPError(ip(router6), ip(snat6), 2, 0, sent6),
		"error6_icmp":       packettest.ICMPError(ip(router6), ip(snat6), 1, 0, packettest.Echo(ip(snat6), ip(backend6), 1, 2)),
		"arp":               packettest.ARPRequest(ip(client4), ip(vip4)),
		"arp_probe":         packettest.ARPRequest(ip("0.0.0.0"), ip(vip4), tags),
		"solicit":           packettest.NeighborSolicit(ip(client6), ip(vip6)),
		"solicit_dad":       packettest.NeighborSolicit(ip("::"), ip(vip6)),
	}
}

// fuzzTargets are the targets that take a frame and one number.
var fuzzTargets = []string{"FuzzNAT", "FuzzTunnel", "FuzzReplies", "FuzzICMPErrors", "FuzzClampMSS", "FuzzSplit4"}

// The committed corpora are what seeds says; run with -write-seeds after a
// change.
func TestSeedCorpora(t *testing.T) {
	all := seeds()
	for _, target := range fuzzTargets {
		for i, name := range slices.Sorted(maps.Keys(all)) {
			path := filepath.Join("testdata", "fuzz", target, name)
			want := fmt.Appendf(nil, "go test fuzz v1\n[]byte(%q)\nuint64(%d)\n", all[name], seedNumber(i))
			if *writeSeeds {
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, want, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s is not what seeds says", path)
			}
		}
	}
}

// seedNumber spreads the numbers of the seeds over the choices that targets
// make with them.
func seedNumber(i int) uint64 { return uint64(i+1) * 0x9e3779b97f4a7c15 }

// arrange makes a frame of fuzz input more likely to parse, by giving it the
// checksums that Parse verifies, and reports whether it does.
func arrange(frame []byte) (*packet.Info, bool) {
	l3 := 14
	for l3 <= len(frame) && l3 < 22 && isTag(frame[l3-2:]) {
		l3 += 4
	}
	if len(frame) >= l3+20 && frame[l3]>>4 == 4 {
		repair4(frame[l3:])
	}
	if len(frame) >= l3+48 && frame[l3]>>4 == 6 && frame[l3+6] == 58 {
		repair6(frame[l3:])
	}
	info := new(packet.Info)
	return info, packet.Parse(frame, info) == reason.None
}

func isTag(b []byte) bool {
	v := binary.BigEndian.Uint16(b)
	return v == 0x8100 || v == 0x88a8 || v == 0x9100
}

func repair4(p []byte) {
	header, length := int(p[0]&15)*4, int(binary.BigEndian.Uint16(p[2:]))
	if header < 20 || header > len(p) {
		return
	}
	p[10], p[11] = 0, 0
	putComplement(p[10:], wordSum(p[:header]))
	if p[9] == 1 && length <= len(p) && length >= header+8 && p[6]&0x3f == 0 && p[7] == 0 {
		p[header+2], p[header+3] = 0, 0
		putComplement(p[header+2:], wordSum(p[header:length]))
	}
}

func repair6(p []byte) {
	length := int(binary.BigEndian.Uint16(p[4:]))
	if length < 8 || 40+length > len(p) {
		return
	}
	p[42], p[43] = 0, 0
	putComplement(p[42:], (wordSum(p[8:40])+58+uint64(length)+wordSum(p[40:40+length]))%65535)
}

// putComplement writes the checksum of a sum that is taken modulo 65535.
func putComplement(b []byte, sum uint64) { binary.BigEndian.PutUint16(b, ^uint16(sum)) }
