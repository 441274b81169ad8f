package packet

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

// The Internet checksum (RFC 1071) is the complement of the ones' complement
// sum of 16-bit words. Sums are carried here unfolded in 32 bits: two sums of
// the same words may differ as numbers, and are equal once folded.

// Sum adds b to the sum initial. A b of odd length counts as if a zero byte
// followed it, so that only the last part of what is summed may be odd.
func Sum(b []byte, initial uint32) uint32 {
	// Ones' complement sums do not care about byte order (RFC 1071 section
	// 2(B)): words are added the way they are cheap to load, and the bytes of
	// the result are swapped.
	var sum, carry uint64
	for len(b) >= 32 {
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b), 0)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[8:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[16:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[24:]), carry)
		sum += carry
		b = b[32:]
	}
	for len(b) >= 8 {
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b), 0)
		sum += carry
		b = b[8:]
	}
	var tail uint64
	if len(b) >= 4 {
		tail = uint64(binary.LittleEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		tail += uint64(binary.LittleEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		tail += uint64(b[0])
	}
	sum, carry = bits.Add64(sum, tail, 0)
	sum += carry

	folded := uint64(bits.ReverseBytes16(fold64(sum))) + uint64(initial)
	return uint32(folded) + uint32(folded>>32)
}

// fold64 folds a ones' complement sum into 16 bits. A sum that is not zero
// never folds to zero.
func fold64(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum)
}

// Fold brings a sum to 16 bits; it does not complement it. Data that includes
// its own right checksum folds to 0xffff.
func Fold(sum uint32) uint16 {
	sum = sum>>16 + sum&0xffff
	return uint16(sum + sum>>16)
}

// Finish is the checksum that belongs to a sum: folded and complemented.
func Finish(sum uint32) uint16 { return ^Fold(sum) }

// Checksum is the Internet checksum of b, whose own checksum field is zero.
func Checksum(b []byte) uint16 { return Finish(Sum(b, 0)) }

// PseudoSum is the sum of the pseudo-header of TCP, UDP and ICMPv6: RFC 9293
// section 3.1 for IPv4, RFC 8200 section 8.1 for IPv6. Both addresses are of
// one family; length is that of transport header and payload in bytes.
func PseudoSum(src, dst Addr, proto uint8, length uint32) uint32 {
	// The mapped prefix of an IPv4 address adds 0xffff, which is zero.
	sum, carry := bits.Add64(src.Hi, src.Lo, 0)
	sum, carry = bits.Add64(sum, dst.Hi, carry)
	sum, carry = bits.Add64(sum, dst.Lo, carry)
	sum, carry = bits.Add64(sum, uint64(length)+uint64(proto), carry)
	return uint32(fold64(sum + carry))
}

// UDPChecksum is the checksum as a UDP header carries it: a computed 0 is sent
// as 0xffff, since 0 says that there is no checksum (RFC 768).
func UDPChecksum(check uint16) uint16 {
	if check == 0 {
		return 0xffff
	}
	return check
}

// Update16 is a checksum after one 16-bit word of what it covers has changed
// (RFC 1624, equation 3). Like Delta.Apply, it keeps a right checksum right
// and a wrong one wrong by the same difference.
func Update16(check, oldWord, newWord uint16) uint16 {
	return Delta(0).Word(oldWord, newWord).Apply(check)
}

// UpdateAddr is a checksum after an address of what it covers has changed to
// another of the same family.
func UpdateAddr(check uint16, oldAddr, newAddr Addr) uint16 {
	return Delta(0).Addr(oldAddr, newAddr).Apply(check)
}

// Delta collects the changes of several words, so that a rewrite updates each
// checksum once. The zero Delta is no change. It has room for thousands of
// changes.
type Delta uint64

// Word adds the change of a 16-bit word, one that begins at an even offset of
// what the checksum covers.
func (d Delta) Word(oldWord, newWord uint16) Delta {
	return d + Delta(^oldWord) + Delta(newWord)
}

// OddWord adds the change of a 16-bit value that begins at an odd offset of
// what the checksum covers, and so straddles two words.
func (d Delta) OddWord(oldWord, newWord uint16) Delta {
	return d.Word(bits.ReverseBytes16(oldWord), bits.ReverseBytes16(newWord))
}

// Long adds the change of a 32-bit value that begins at an even offset.
func (d Delta) Long(oldLong, newLong uint32) Delta {
	return d + Delta(^oldLong) + Delta(newLong)
}

// Addr adds the change of an address to another of the same family.
func (d Delta) Addr(oldAddr, newAddr Addr) Delta {
	// The mapped prefixes of two IPv4 addresses cancel out.
	return d + halves(^oldAddr.Hi) + halves(^oldAddr.Lo) + halves(newAddr.Hi) + halves(newAddr.Lo)
}

// halves adds the two halves of v, which is the same number to ones'
// complement arithmetic and leaves a Delta room.
func halves(v uint64) Delta { return Delta(v>>32 + v&0xffffffff) }

// Apply is the checksum after the changes: the complement of the sum of the
// old checksum's complement and the changes (RFC 1624, equation 3). A UDP
// checksum goes through UDPChecksum afterwards, and one that was 0 in IPv4
// stays 0 and must not come here.
func (d Delta) Apply(check uint16) uint16 {
	return ^fold64(uint64(^check) + uint64(d))
}

// Folded is the changes as one 16-bit ones' complement number, for a Delta to
// be kept and applied later; it is 0 only when there is no change.
func (d Delta) Folded() uint16 { return fold64(uint64(d)) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var zeroChecksum [4]byte

// SCTPChecksum is the CRC32c of an SCTP packet, b, from its common header to
// its end, with its checksum field taken as zero (RFC 9260 section 6.8).
func SCTPChecksum(b []byte) uint32 {
	crc := crc32.Update(0, castagnoli, b[:SCTPChecksumOffset])
	crc = crc32.Update(crc, castagnoli, zeroChecksum[:])
	return crc32.Update(crc, castagnoli, b[SCTPLen:])
}
