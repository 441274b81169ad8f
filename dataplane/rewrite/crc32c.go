package rewrite

import "hash/crc32"

// The CRC is linear: for two messages of equal length, the exclusive-or of
// their CRCs is the plain CRC (zero initial value, no final inversion) of the
// exclusive-or of the messages. Bytes that are equal in both therefore count
// as zeros, and a run of n zeros multiplies the CRC by x^(8n) modulo the
// polynomial. All polynomials here are bit-reflected, as CRC32c is used: the
// highest bit is the coefficient of x^0.

// crcOne is the polynomial 1.
const crcOne = uint32(1) << 31

// crcZeros holds x^(8n) for n below 256, crcZeroPages x^(8*256*n): together
// they give x^(8n) for any n up to the longest IP packet.
var crcZeros, crcZeroPages = crcPowers()

func crcPowers() (zeros, pages [256]uint32) {
	step := crcOne >> 8 // x^8
	zeros[0] = crcOne
	for n := 1; n < len(zeros); n++ {
		zeros[n] = crcMultiply(zeros[n-1], step)
	}
	step = crcMultiply(zeros[255], step)
	pages[0] = crcOne
	for n := 1; n < len(pages); n++ {
		pages[n] = crcMultiply(pages[n-1], step)
	}
	return zeros, pages
}

// crcMultiply is the product of two polynomials modulo that of CRC32c.
func crcMultiply(a, b uint32) uint32 {
	product := uint32(0)
	for a != 0 {
		// Masks in place of branches: the bits are as good as random.
		product ^= b & uint32(int32(a)>>31)
		a <<= 1
		b = b>>1 ^ crc32.Castagnoli&-(b&1)
	}
	return product
}

// crcDifference is by how much, as an exclusive-or, the CRC32c of a message of
// n bytes changes when its first four bytes change from one value to another.
// The bytes are given as a little-endian word, first byte lowest; n is at
// least 4 and at most 65535.
func crcDifference(from, to uint32, n int) uint32 {
	// The plain CRC of four bytes d is d(x) * x^32, and x^32 is four zero bytes.
	d := crcMultiply(from^to, crcZeros[n&0xff])
	return crcMultiply(d, crcZeroPages[n>>8])
}
